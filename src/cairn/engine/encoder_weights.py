"""An encoder's folder as the native core wants it: packed matrices and the record of the network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cairn.core.progress import Progress, Silent, Task
from cairn.engine.packed_weights import write_packed
from cairn.engine.weight_reader import Array, WeightFormat, WeightReader
from cairn.models.adapters import LowRank
from cairn.models.encoder_config import EncoderConfig
from cairn.models.encoder_heads import changed, map_adapted, read_head_spec
from cairn.models.encoder_reader import read_encoder_config
from cairn.models.encoder_tensors import encoder_shapes, map_encoder, plan_encoder


def load_encoder_spec(
    folder: Path, weights: WeightFormat, packed: Path | None = None, head: Path | None = None
) -> tuple[EncoderConfig, Any]:
    """The config and the native `EncoderSpec` of a checkpoint, adapted by the head in a folder of its own.

    `IntegrityError` for what does not fit.
    """
    config = read_encoder_config(folder)
    if head is not None:
        config = read_head_spec(head).config_for(config)
    return config, EncoderBuilder(config, folder, weights, packed, head=head).build()


def pack_encoder(folder: Path, weights: WeightFormat, target: Path, progress: Progress | None = None) -> None:
    """Write an encoder's matrices as the native core reads them into the folder `target`."""
    config = read_encoder_config(folder)
    with (progress or Silent()).task(f"packing the weights as {weights}", config.num_params) as task:
        builder = EncoderBuilder(config, folder, weights, task=task)
        builder.build()
    write_packed(builder.matrices, target)


class EncoderBuilder(WeightReader):
    """Fills an `EncoderSpec` from the mapped tensors of a folder."""

    def __init__(
        self,
        config: EncoderConfig,
        folder: Path,
        weights: WeightFormat,
        packed: Path | None = None,
        *,
        head: Path | None = None,
        task: Task | None = None,
    ) -> None:
        self._changes: Mapping[str, Sequence[LowRank]] = {}
        if head is None:
            stored = map_encoder(config, folder)
        else:
            stored, self._changes = map_adapted(config, folder, head)
        super().__init__(
            folder,
            stored,
            encoder_shapes(config),
            plan_encoder(config, stored, folder),
            weights,
            packed,
            task=task,
            head_dim=config.head_dim,
            gated=False,
        )
        self._config = config

    def build(self) -> Any:
        config, spec = self._config, self._native.EncoderSpec()
        for name in ("vocab_size", "hidden_size", "num_heads", "norm_eps", "activation"):
            setattr(spec, name, getattr(config, name))
        spec.embedding = self._matrix("embedding")
        spec.set_positions(self._read("position_embedding")[config.position_offset :])
        if config.num_types:
            spec.set_types(self._read("type_embedding"))
        spec.norm = self._norm("norm")
        spec.layers = [self._layer(f"layers.{index}.") for index in range(config.num_layers)]
        spec.head = self._head()
        return spec

    def _layer(self, name: str) -> Any:
        layer, mlp = self._native.EncoderLayer(), self._native.Mlp()
        layer.qkv = self._matrix(name + "attention.qkv.weight", self._pad_heads)
        layer.qkv_bias = self._pad_heads(self._column(name + "attention.qkv.bias")).ravel().tolist()
        layer.output = self._matrix(name + "attention.output.weight")
        layer.output_bias = self._read(name + "attention.output.bias").tolist()
        layer.attention_norm = self._norm(name + "attention_norm")
        mlp.inner = self._matrix(name + "mlp.inner.weight", self._interleave)
        mlp.inner_bias = self._interleave(self._column(name + "mlp.inner.bias")).ravel().tolist()
        mlp.down = self._matrix(name + "mlp.output.weight")
        mlp.down_bias = self._read(name + "mlp.output.bias").tolist()
        layer.mlp, layer.mlp_norm = mlp, self._norm(name + "mlp_norm")
        return layer

    def _head(self) -> Any:
        head, out = self._config.head, self._native.EncoderHead()
        out.pooling, out.activation, out.normalise = head.pooling, head.activation, head.normalise
        for part, is_there in (("dense", head.dense), ("output", head.labels)):
            if is_there:
                setattr(out, part, self._matrix(f"head.{part}.weight", weights="float32"))
                if f"head.{part}.bias" in self._shapes:
                    setattr(out, f"{part}_bias", self._read(f"head.{part}.bias").tolist())
        return out

    def _read(self, name: str) -> Array:
        values = super()._read(name)
        return changed(values, parts) if (parts := self._changes.get(name)) else values

    def _column(self, name: str) -> Any:
        return self._read(name)[:, None]
