"""The network in PyTorch over a paged KV cache: the reference, and the GPU's path."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cairn.compute import kv_cache_bytes
from cairn.compute.device import available_memory
from cairn.engine.adapters import Adapter
from cairn.engine.packed import PackedLinear, can_pack, inference_copy
from cairn.engine.paged_attention import PagedAttention
from cairn.engine.runner import FloatArray, IntArray, Logits, ModelInput
from cairn.engine.torch_adapter import AdaptedStep, adapt, load_torch_adapter
from cairn.models import Decoder
from cairn.models.linear import has_bfloat16
from cairn.models.parameters import parameter_shapes


class TorchLogits:
    """Logits [rows, vocab] on the model's device."""

    def __init__(self, scores: Tensor) -> None:
        self._scores = scores
        self._best: IntArray | None = None

    def argmax(self) -> IntArray:
        if self._best is None:
            best = self._scores.max(dim=-1)
            assert bool(best.values.isfinite().all()), "the model's logits are not finite"
            self._best = best.indices.cpu().numpy()
        return self._best

    def select(self, rows: list[int]) -> FloatArray:
        scores: FloatArray = self._scores[rows].float().cpu().numpy()
        return scores


class TorchRunner:
    """A `ModelRunner` over `cairn.models.Decoder`, on the device of its weights.

    In `dtype`, or that of the weights; on a CPU without bfloat16 products in float32, which is several
    times faster there than what torch does instead. The runner works on a copy that shares what it can
    (see `packed`); drop the model itself to free the rest.
    """

    def __init__(self, model: Decoder, *, dtype: torch.dtype | None = None) -> None:
        self.model = inference_copy(model, dtype or _fast_dtype(model.output_weight))
        self._adapted = AdaptedStep()
        adapt(self.model, self._adapted)
        self._weight = self.model.output_weight
        self._head = None
        if can_pack(self._weight, self._weight.dtype):
            self._head = PackedLinear(self._weight.detach(), None)
        self._attention: PagedAttention | None = None

    @property
    def vocab_size(self) -> int:
        return self.model.config.vocab_size

    @property
    def max_position(self) -> int:
        return self.model.config.max_position

    @property
    def device(self) -> torch.device:
        return self._weight.device

    @property
    def dtype(self) -> str:
        """What it computes in (`float32`, `bfloat16`), which need not be what the weights came in."""
        return str(self._weight.dtype).removeprefix("torch.")

    def bytes_per_block(self, block_size: int) -> int:
        return kv_cache_bytes(self.model.config.shape(), block_size, self.dtype)

    @property
    def num_weight_bytes(self) -> int:
        num = sum(math.prod(shape) for shape in parameter_shapes(self.model.config).values())
        # The head is laid out apart from the embedding or the matrix it came from.
        return num * self._weight.element_size() + (self._weight.nbytes if self._head else 0)

    def free_bytes(self) -> int:
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        return available_memory()

    def allocate_kv_cache(self, num_blocks: int, block_size: int) -> None:
        config = self.model.config
        shape = (config.num_layers, 2, num_blocks, config.num_kv_heads, block_size, config.head_dim)
        self._attention = PagedAttention(_zeros(shape, self._weight.dtype, self.device))

    def clear_blocks(self, block_ids: list[int]) -> None:
        assert self._attention is not None, "allocate_kv_cache comes first"
        self._attention.clear(block_ids)

    def read_adapter(self, folder: Path) -> Adapter:
        return load_torch_adapter(self.model, folder)

    @torch.inference_mode()
    def run(self, model_input: ModelInput) -> Logits:
        assert self._attention is not None, "allocate_kv_cache comes first"
        token_ids = torch.from_numpy(model_input.token_ids).to(self.device)
        positions = torch.from_numpy(model_input.positions).to(self.device)
        self._attention.begin(model_input)
        self._adapted.begin(model_input.adapters, self.device)
        hidden = self.model(token_ids, positions, self._attention)
        rows = [row.row for row in model_input.logit_rows]
        return TorchLogits(self._logits(hidden, rows))

    def _logits(self, hidden: Tensor, rows: list[int]) -> Tensor:
        if not rows:  # every prompt of this step goes on in the next
            return hidden.new_empty((0, self.vocab_size), dtype=torch.float32)
        hidden = hidden[torch.tensor(rows, device=self.device)]
        if self._head is None:
            return self.model.logits(hidden)
        return self.model.cap_logits(self._head(hidden).float())


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # Pages of numpy's zeros (calloc) become real only when written to: an idle pool costs nothing.
    num_bytes = int(np.prod(shape)) * dtype.itemsize
    return torch.from_numpy(np.zeros(num_bytes, np.uint8)).view(dtype).view(shape)


def _fast_dtype(weight: Tensor) -> torch.dtype:
    if weight.device.type != "cpu" or weight.dtype == torch.float32:
        return weight.dtype
    return torch.bfloat16 if weight.dtype == torch.bfloat16 and has_bfloat16() else torch.float32
