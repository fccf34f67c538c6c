"""A checkpoint folder as the native core wants it: packed matrices and the record of the network.

Joined projections are laid out as `native/model.h` says; see `weight_reader`.
"""

import math
from pathlib import Path
from typing import Any

from cairn.core.progress import Progress, Silent, Task
from cairn.engine.packed_weights import write_packed
from cairn.engine.weight_reader import WeightFormat, WeightReader
from cairn.models import DecoderConfig, LayerSpec, RopeSpec
from cairn.models.generation import read_json
from cairn.models.mapped_weights import check_tied_head, map_weights
from cairn.models.parameters import parameter_shapes
from cairn.models.rope_frequencies import attention_factor, frequencies_of
from cairn.models.weight_plan import plan_weights


def load_spec(folder: Path, weights: WeightFormat, packed: Path | None = None) -> tuple[DecoderConfig, Any]:
    """The config and the native `ModelSpec` of a checkpoint; `IntegrityError` for weights that do not fit.

    Matrices come from `packed`, which `pack_checkpoint` wrote of the same checkpoint, where there is one.
    """
    config = DecoderConfig.from_hf(read_json(folder / "config.json"))
    return config, SpecBuilder(config, folder, weights, packed).build()


def pack_checkpoint(
    folder: Path, weights: WeightFormat, target: Path, progress: Progress | None = None
) -> None:
    """Write a checkpoint's matrices as the native core reads them into the folder `target`."""
    config = DecoderConfig.from_hf(read_json(folder / "config.json"))
    num_weights = sum(math.prod(shape) for shape in parameter_shapes(config).values() if len(shape) > 1)
    with (progress or Silent()).task(f"packing the weights as {weights}", num_weights) as task:
        builder = SpecBuilder(config, folder, weights, task=task)
        builder.build()
    write_packed(builder.matrices, target)


class SpecBuilder(WeightReader):
    """Fills a `ModelSpec` from the mapped tensors of a folder."""

    def __init__(
        self,
        config: DecoderConfig,
        folder: Path,
        weights: WeightFormat,
        packed: Path | None = None,
        *,
        task: Task | None = None,
    ) -> None:
        stored, shapes = map_weights(folder), parameter_shapes(config)
        plan = plan_weights(config, shapes, stored, folder)
        super().__init__(
            folder,
            stored,
            shapes,
            plan,
            weights,
            packed,
            task=task,
            head_dim=config.head_dim,
            gated=config.gated_mlp,
        )
        self._config = config
        if self._packed is None:
            check_tied_head(config, stored, folder)

    def build(self) -> Any:
        config, spec = self._config, self._native.ModelSpec()
        for name in ("vocab_size", "hidden_size", "num_heads", "num_kv_heads", "head_dim"):
            setattr(spec, name, getattr(config, name))
        spec.norm_eps, spec.embedding_scale = config.norm_eps, config.embedding_scale
        spec.logit_softcap = config.logit_softcap or 0.0
        spec.norms_whole_projection = config.qk_norm == "full"
        spec.gated, spec.activation = config.gated_mlp, config.activation
        spec.embedding = self._matrix("embedding")
        if config.learned_positions:
            spec.position_embedding = self._matrix("position_embedding", weights="float32")
        if not config.tie_embeddings:
            spec.head = self._matrix("head.weight")
        spec.norm = self._norm("norm", config.norm_offset)
        ropes = list(dict.fromkeys(layer.rope for layer in config.layers if layer.rope is not None))
        spec.ropes = [self._rope(rope) for rope in ropes]
        spec.layers = [self._layer(index, layer, ropes) for index, layer in enumerate(config.layers)]
        return spec

    def _layer(self, index: int, layer: LayerSpec, ropes: list[RopeSpec]) -> Any:
        config, out, name = self._config, self._native.Layer(), f"layers.{index}."
        for norm in ("attention_norm", "attention_post_norm", "mlp_norm", "mlp_post_norm"):
            setattr(out, norm, self._norm(name + norm, config.norm_offset))
        out.q_norm = self._norm(name + "attention.q_norm", config.norm_offset)
        out.k_norm = self._norm(name + "attention.k_norm", config.norm_offset)
        out.qkv = self._matrix(name + "attention.qkv.weight", self._pad_heads)
        if config.qkv_bias:
            bias = self._read(name + "attention.qkv.bias")
            out.qkv_bias = self._pad_heads(bias[:, None]).ravel().tolist()
        out.output = self._matrix(name + "attention.output.weight")
        if config.attention_output_bias:
            out.output_bias = self._read(name + "attention.output.bias").tolist()
        out.rope = -1 if layer.rope is None else ropes.index(layer.rope)
        out.scale, out.window = layer.attention.scale, layer.attention.window or 0
        out.softcap = layer.attention.softcap or 0.0
        if layer.experts is None:
            out.mlp = self._mlp(name + "mlp", bias=config.mlp_bias)
        else:
            out.experts = self._experts(name + "mlp", layer)
        return out

    def _mlp(self, name: str, *, bias: bool) -> Any:
        mlp = self._native.Mlp()
        mlp.inner = self._matrix(name + ".inner.weight", self._interleave)
        mlp.down = self._matrix(name + ".output.weight")
        if bias:
            mlp.inner_bias = self._interleave(self._read(name + ".inner.bias")[:, None]).ravel().tolist()
            mlp.down_bias = self._read(name + ".output.bias").tolist()
        return mlp

    def _experts(self, name: str, layer: LayerSpec) -> Any:
        assert layer.experts is not None
        experts = self._native.Experts()
        experts.num_per_token = layer.experts.num_experts_per_token
        experts.normalise = layer.experts.norm_topk_prob
        experts.router = self._matrix(name + ".router.weight", weights="float32")
        mlps = [self._native.Mlp() for _ in range(layer.experts.num_experts)]
        for expert, mlp in enumerate(mlps):
            mlp.inner = self._matrix(name + ".inner", self._interleave, expert=expert)
        for expert, mlp in enumerate(mlps):
            mlp.down = self._matrix(name + ".output", expert=expert)
        experts.experts = mlps
        if layer.experts.shared_intermediate_size:
            experts.shared = self._mlp(name + ".shared", bias=False)
            experts.shared_gate = self._matrix(name + ".shared_gate.weight", weights="float32")
        return experts

    def _rope(self, rope: RopeSpec) -> Any:
        out = self._native.Rope()
        out.rotary_dim, out.factor = rope.rotary_dim, attention_factor(rope)
        out.frequencies = frequencies_of(rope).tolist()
        return out
