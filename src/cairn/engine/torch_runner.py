"""The network in PyTorch over a paged KV cache: the reference, and the GPU's path."""

import math
from collections.abc import Sequence as Rows
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cairn.compute import kv_cache_bytes
from cairn.compute.device import available_memory
from cairn.engine.adapters import Adapter
from cairn.engine.ahead import Arrival
from cairn.engine.block_manager import BlockCopy
from cairn.engine.cuda_graphs import GraphCapture, arriving
from cairn.engine.drawing import draw, parameters_of
from cairn.engine.packed import PackedLinear, can_pack, inference_copy
from cairn.engine.paged_attention import PagedAttention
from cairn.engine.rounded_weights import RoundedFormat, RoundedLinear, num_bytes, rounded_copy
from cairn.engine.row_tiles import DECODE_ROWS, RowTiles, TiledLinear, product_of, tiled_linear
from cairn.engine.runner import FloatArray, IntArray, Logits, ModelInput
from cairn.engine.sampler import NOT_FINITE
from cairn.engine.sequence import Sequence
from cairn.engine.tiled_steps import TiledSteps
from cairn.engine.torch_adapter import AdaptedStep, adapt, load_torch_adapter
from cairn.models import Decoder
from cairn.models.linear import has_bfloat16, linear
from cairn.models.parameters import parameter_shapes


class TorchLogits:
    """Logits [rows, vocab] on the model's device."""

    def __init__(self, scores: Tensor) -> None:
        self._scores = scores
        self._best: IntArray | None = None

    def argmax(self) -> IntArray:
        if self._best is None:
            best = self._scores.max(dim=-1)
            assert bool(best.values.isfinite().all()), NOT_FINITE
            self._best = best.indices.cpu().numpy()
        return self._best

    def select(self, rows: list[int]) -> FloatArray:
        scores: FloatArray = self._scores[rows].float().cpu().numpy()
        return scores


class DeviceLogits(TorchLogits):
    """The same, drawn from where they lie."""

    def draw(self, rows: list[int], seqs: Rows[Sequence]) -> IntArray:
        tokens: IntArray = draw(self._scores[rows], parameters_of(seqs)).cpu().numpy()
        assert (tokens >= 0).all(), NOT_FINITE
        return tokens


class TorchRunner:
    """A `ModelRunner` over `cairn.models.Decoder`, on the device of its weights.

    In `dtype`, or that of the weights; on a CPU without bfloat16 products in float32, which is several
    times faster there than what torch does instead. The runner works on a copy that shares what it can
    (see `packed`); drop the model itself to free the rest. `tiled`: compute as on a GPU, in tiles and with
    static decode steps (`tiled_steps`); by default wherever the weights are not on a CPU. `weights`: round
    them (`rounded_weights`), which only tiles can be multiplied with.
    """

    def __init__(
        self,
        model: Decoder,
        *,
        dtype: torch.dtype | None = None,
        tiled: bool | None = None,
        weights: RoundedFormat | None = None,
    ) -> None:
        is_tiled = model.output_weight.device.type != "cpu" if tiled is None else tiled
        assert is_tiled or weights is None, "rounded weights are multiplied in tiles"
        dtype = dtype or _fast_dtype(model.output_weight)
        self._tiles = RowTiles() if is_tiled else None
        self._head: nn.Module | None = None
        self._rounded: RoundedLinear | None = None
        if self._tiles is not None and weights is not None:
            self.model, self._rounded = rounded_copy(model, dtype, self._tiles, weights)
            self._head = self._rounded
        else:
            self.model = inference_copy(model, dtype, self._tiles)
            head = self.model.output_weight.detach()
            if self._tiles is not None:
                self._head = TiledLinear(product_of(head), self._tiles)
            elif can_pack(head, dtype):
                self._head = PackedLinear(head, None)
        self._adapted = AdaptedStep(tiled_linear if is_tiled else linear)
        adapt(self.model, self._adapted)
        self._weight = self.model.norm.weight
        self._drawn = torch.empty(0, dtype=torch.int64)
        self._attention: PagedAttention | None = None
        self._steps: TiledSteps | None = None

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
        if self._rounded is not None:
            return num_bytes(self.model, self._rounded)
        num = sum(math.prod(shape) for shape in parameter_shapes(self.model.config).values())
        # The head is laid out apart from the embedding or the matrix it came from.
        head = self.model.output_weight.nbytes if isinstance(self._head, PackedLinear) else 0
        return num * self._weight.element_size() + head

    def free_bytes(self) -> int:
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        return available_memory()

    def allocate_kv_cache(self, num_blocks: int, block_size: int) -> None:
        config = self.model.config
        if self._tiles is not None:
            assert self._head is not None, "tiles have a head of their own"
            self._steps = TiledSteps(
                self.model,
                self._head,
                self._tiles,
                self._adapted,
                num_blocks=num_blocks,
                block_size=block_size,
                row_multiple=DECODE_ROWS if self._rounded is None else self._rounded.matrix.row_multiple,
                capture=GraphCapture() if self.device.type == "cuda" else None,
            )
            return
        shape = (config.num_layers, 2, num_blocks, config.num_kv_heads, block_size, config.head_dim)
        self._attention = PagedAttention(_zeros(shape, self._weight.dtype, self.device))

    def clear_blocks(self, block_ids: list[int]) -> None:
        cache = self._steps or self._attention
        assert cache is not None, "allocate_kv_cache comes first"
        cache.clear(block_ids)

    def copy_blocks(self, copies: tuple[BlockCopy, ...]) -> None:
        cache = self._steps or self._attention
        assert cache is not None, "allocate_kv_cache comes first"
        for source, target in copies:
            cache.copy(source, target)

    def read_adapter(self, folder: Path) -> Adapter:
        return load_torch_adapter(self.model, folder)

    @torch.inference_mode()
    def run(self, model_input: ModelInput) -> Logits:
        if self._steps is not None:
            return DeviceLogits(self._steps.logits(model_input))
        assert self._attention is not None, "allocate_kv_cache comes first"
        token_ids = torch.from_numpy(model_input.token_ids).to(self.device)
        positions = torch.from_numpy(model_input.positions).to(self.device)
        self._attention.begin(model_input)
        self._adapted.begin(model_input.adapters, self.device)
        hidden = self.model(token_ids, positions, self._attention)
        rows = [row.row for row in model_input.logit_rows]
        return TorchLogits(self._logits(hidden, rows))

    def close(self) -> None:
        is_cuda = self.device.type == "cuda"
        if self._steps is not None:
            self._steps.close()
        del self.model, self._weight, self._head, self._rounded, self._attention, self._steps
        if is_cuda:
            torch.cuda.empty_cache()  # what torch keeps for later is others' room

    @property
    def can_launch(self) -> bool:
        """Whether `launch` may be called: where steps are static."""
        return self._tiles is not None

    @torch.inference_mode()
    def launch(self, model_input: ModelInput, seqs: list[Sequence], sources: IntArray) -> Arrival:
        assert self._steps is not None, "allocate_kv_cache comes first"
        token_ids = None
        if (sources >= 0).any():
            known, rows = (
                torch.from_numpy(each).to(self.device, non_blocking=True)
                for each in (model_input.token_ids, sources)
            )
            token_ids = torch.where(rows >= 0, self._drawn[rows.clamp(min=0)], known)
        self._drawn = draw(self._steps.decode(model_input, token_ids), parameters_of(seqs))
        return arriving(self._drawn)

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
