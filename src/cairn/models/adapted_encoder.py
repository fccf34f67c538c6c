"""An encoder in training: its own weights rest, low-rank changes of them and a last layer learn.

Every matrix of attention and MLP gets A [parts, rank, in] and B [parts, out, rank], B zero at first, so that
training begins at the base; queries, keys and values have their own. `save_head` writes what was learned
in PEFT's layout with head.json beside it (`encoder_heads`).
"""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cairn.models.adapters import CONFIG_NAME, WEIGHTS_NAME
from cairn.models.encoder import Encoder, load_encoder
from cairn.models.encoder_config import EncoderHead
from cairn.models.encoder_heads import HEAD_NAME, HEAD_TASKS, OUTPUT, TOKEN_WEIGHTS, HeadSpec, HeadTask
from cairn.models.encoder_tensors import encoder_layouts
from cairn.models.linear import Linear
from cairn.models.weight_files import write_weights

_OUTPUT_STD = 0.02


class LowRankLinear(nn.Module):
    """A linear layer at rest, and y += scale * B A x."""

    def __init__(self, base: Linear, *, parts: int, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base
        size_out, size_in = base.weight.shape
        self.a = nn.Parameter(torch.empty(parts, rank, size_in))
        self.b = nn.Parameter(torch.zeros(parts, size_out // parts, rank))
        self._scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        # One product for all parts: rows of zeros cost less than passing over the tokens once more.
        spread = torch.block_diag(*self.b).T
        out: Tensor = torch.addmm(self.base(x), x @ self.a.flatten(0, 1).T, spread, alpha=self._scale)
        return out


class AdaptedEncoder(nn.Module):
    """An encoder of which only the adapters and the last layer learn."""

    def __init__(self, encoder: Encoder, *, rank: int, alpha: float, seed: int) -> None:
        super().__init__()
        self.rank, self.alpha = rank, alpha
        self.config = encoder.config
        self.checkpoint_activations = False
        self.encoder = encoder
        for parameter in encoder.parameters():
            parameter.requires_grad = False
        self.head = encoder.head.requires_grad_(True)
        generator = torch.Generator().manual_seed(seed)
        for layer in encoder.layers:
            for owner, name, parts in (
                (layer.attention, "qkv", 3),
                (layer.attention, "output", 1),
                (layer.mlp, "inner", 1),
                (layer.mlp, "output", 1),
            ):
                adapted = LowRankLinear(getattr(owner, name), parts=parts, rank=rank, alpha=alpha)
                adapted.a.data.normal_(std=1 / math.sqrt(adapted.a.shape[-1]), generator=generator)
                setattr(owner, name, adapted)
        for parameter in self.head.parameters():
            parameter.data.zero_()
            if parameter.ndim > 1:
                parameter.data.normal_(std=_OUTPUT_STD, generator=generator)

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return self.encoder.embedding.device

    @property
    def num_trained(self) -> int:
        """Weights that learn."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def forward(self, input_ids: Tensor, bounds: list[int], types: Tensor) -> Tensor:
        """Ids and segments [T] of texts with `bounds` -> rows [T, out_width]."""
        out: Tensor = self.encoder(input_ids, bounds, types)
        return out


def adaptable_encoder(
    folder: Path, task: HeadTask, *, rank: int, alpha: float, max_tokens: int, seed: int
) -> AdaptedEncoder:
    """The encoder of a checkpoint folder with a fresh head for a task."""
    base = load_encoder(folder)
    longest = base.config.num_positions - base.config.position_offset
    config = replace(base.config, head=HEAD_TASKS[task], max_tokens=min(max_tokens, longest), prompt="")
    encoder = Encoder(config)
    body = {name: weight for name, weight in base.state_dict().items() if not name.startswith("head.")}
    encoder.load_state_dict({**encoder.state_dict(), **body})
    return AdaptedEncoder(encoder, rank=rank, alpha=alpha, seed=seed)


def save_head(
    model: AdaptedEncoder, spec: HeadSpec, folder: Path, *, token_weights: NDArray[np.float32] | None = None
) -> None:
    """Write the adapters in bfloat16 and the last layer in float32, with head.json."""
    tensors = dict(_tensors(model))
    if token_weights is not None:
        tensors[TOKEN_WEIGHTS] = torch.from_numpy(token_weights).half()
    options = {
        "peft_type": "LORA",
        "base_model_name_or_path": spec.base,
        "r": model.rank,
        "lora_alpha": model.alpha,
        "bias": "none",
        "lora_dropout": 0.0,
        "target_modules": sorted({_module(name) for name in tensors if ".lora_" in name}),
    }
    write_weights(folder / WEIGHTS_NAME, list(tensors.items()))
    for name, values in ((CONFIG_NAME, options), (HEAD_NAME, spec.to_json())):
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _module(name: str) -> str:
    return name.partition(".lora_")[0].removeprefix("base_model.model.")


def _tensors(model: AdaptedEncoder) -> Iterator[tuple[str, Tensor]]:
    """Names as the files of the base call its modules."""
    bare = replace(model.config, head=EncoderHead(task="embedding", pooling="tokens"))
    layouts = {name: list(ways)[-1] for name, ways in encoder_layouts(bare).items()}
    for name, module in model.encoder.named_modules():
        if isinstance(module, LowRankLinear):
            for piece, a, b in zip(layouts[f"{name}.weight"], module.a, module.b, strict=True):
                place = f"base_model.model.{piece.name.removesuffix('.weight')}"
                yield f"{place}.lora_A.weight", a.detach().bfloat16()
                yield f"{place}.lora_B.weight", b.detach().bfloat16()
    if model.head.output is not None:
        for name, parameter in model.head.output.named_parameters():
            yield f"{OUTPUT}.{name}", parameter.detach()
