"""Attention in tiles against attention over the whole sequence: in plain torch, and as a Triton kernel.

Where there is no GPU the kernel runs in Triton's interpreter, if Triton is installed at all; where there is
one, these tests compile it and run on the device.
"""

from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from cairn.engine.runner import IntArray, ModelInput, PromptSpan
from cairn.engine.tiled_attention import Attend, TiledAttention, attend
from cairn.models import AttentionSpec
from cairn.models.attention import attend as attend_whole

HAS_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if HAS_GPU else "cpu")
SPECS = {
    "plain": AttentionSpec(0.3),
    "window": AttentionSpec(0.3, window=20),
    "short window": AttentionSpec(0.3, window=1),
    "soft cap": AttentionSpec(0.3, softcap=5.0),
    "both": AttentionSpec(0.3, window=70, softcap=5.0),
}
SHAPES = {"grouped": (6, 2, 8), "one head": (4, 1, 16), "odd groups": (7, 1, 24), "ungrouped": (2, 2, 48)}
"""Heads, key-value heads, head size."""
DECODES = (1, 2, 16, 17, 63, 64, 65, 130, 300, 700)
"""Keys of each decode token's sequence."""
SPANS = ((0, 1), (0, 40), (37, 64), (64, 130))


@pytest.fixture(params=["torch", pytest.param("triton", marks=[pytest.mark.gpu] if HAS_GPU else [])])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Attend:
    if request.param == "torch":
        return attend
    if find_spec("triton") is None:
        pytest.skip("needs Triton, which is not part of torch's CPU builds")
    if not HAS_GPU:
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    found: Attend = import_module("cairn.engine.triton_attention").attend
    return found


class Sequences:
    """Random queries, keys and values of some sequences, and where their blocks lie in a cache."""

    def __init__(
        self, lengths: list[int], heads: tuple[int, int, int], block_size: int, seed: int = 0
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        num_heads, num_kv_heads, size = heads

        def draw(num: int, length: int) -> Tensor:
            return torch.randn(length, num, size, generator=generator)

        self.q = [draw(num_heads, length) for length in lengths]
        self.k, self.v = ([draw(num_kv_heads, length) for length in lengths] for _ in range(2))
        num_blocks = [-(-length // block_size) for length in lengths]
        order = torch.randperm(sum(num_blocks) + 2, generator=generator)[: sum(num_blocks)]
        self.tables = [table.numpy() for table in order.split(num_blocks)]
        self.cache = torch.zeros(1, 2, len(order) + 2, num_kv_heads, block_size, size)
        # What nobody wrote yet must do no harm.
        self.cache[:] = 1e4
        for table, *pair in zip(self.tables, self.k, self.v, strict=True):
            for position in range(len(pair[0])):
                block, offset = table[position // block_size], position % block_size
                for kind in range(2):
                    self.cache[0, kind, block, :, offset] = pair[kind][position]
        self.block_size = block_size

    def attention(self, kernel: Attend) -> TiledAttention:
        found = TiledAttention(self.cache.to(DEVICE), self.q[0].shape[1])
        found._attend = kernel
        return found

    def slots(self, index: int, start: int, stop: int) -> IntArray:
        at = np.arange(start, stop)
        found: IntArray = self.tables[index][at // self.block_size] * self.block_size + at % self.block_size
        return found

    def whole(self, index: int, spec: AttentionSpec) -> Tensor:
        return attend_whole(self.q[index], self.k[index], self.v[index], spec)

    def decode(self, kernel: Attend, picked: list[int], spec: AttentionSpec) -> Tensor:
        """The newest token of each picked sequence, [picked, H, D]."""
        lens = [len(self.q[index]) for index in picked]
        width = max(len(self.tables[index]) for index in picked)
        tables = np.zeros((len(picked), width), np.int64)
        for row, index in enumerate(picked):
            tables[row, : len(self.tables[index])] = self.tables[index]
        attention = self.attention(kernel)
        slots = np.concatenate([self.slots(i, num - 1, num) for i, num in zip(picked, lens, strict=True)])
        inputs = [torch.from_numpy(each).to(DEVICE) for each in (slots, np.array(lens), tables)]
        attention.begin_decodes(*inputs)
        q, k, v = (torch.stack([x[i][-1] for i in picked]).to(DEVICE) for x in (self.q, self.k, self.v))
        return attention(0, q, k, v, spec).cpu()

    def prefill(self, kernel: Attend, spans: list[tuple[int, int, int]], spec: AttentionSpec) -> Tensor:
        """Runs of tokens (sequence, start, stop) as prompt spans of one step that also decodes one token."""
        row, parts = 1, []
        for index, start, stop in spans:
            blocks = -(-stop // self.block_size)
            parts.append(PromptSpan(row, start, stop, self.tables[index][:blocks]))
            row += stop - start
        slots = np.concatenate([[0], *(self.slots(*span) for span in spans)])
        step = ModelInput(
            token_ids=np.zeros(row, np.int64),
            positions=np.zeros(row, np.int64),
            slot_mapping=slots,
            decode_tables=np.zeros((1, 1), np.int64),
            decode_lens=np.ones(1, np.int64),
            prompt_spans=tuple(parts),
            logit_rows=(),
        )
        attention = self.attention(kernel)
        attention.begin_prompts(step)
        q, k, v = (
            torch.cat([x[i][start:stop] for i, start, stop in spans]) for x in (self.q, self.k, self.v)
        )
        return attention(0, q.to(DEVICE), k.to(DEVICE), v.to(DEVICE), spec).cpu()


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("heads", SHAPES.values(), ids=SHAPES)
def test_decode_tokens_equal_the_whole_sequence(
    kernel: Attend, heads: tuple[int, int, int], spec: AttentionSpec
) -> None:
    lengths = DECODES if spec in (SPECS["plain"], SPECS["both"]) else DECODES[:8]
    sequences = Sequences(list(lengths), heads, block_size=16 if heads[0] != 7 else 5)
    found = sequences.decode(kernel, list(range(len(lengths))), spec)
    expected = torch.stack([sequences.whole(index, spec)[-1] for index in range(len(lengths))])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("heads", SHAPES.values(), ids=SHAPES)
def test_prompt_spans_equal_the_whole_sequence(
    kernel: Attend, heads: tuple[int, int, int], spec: AttentionSpec
) -> None:
    sequences = Sequences([stop for _, stop in SPANS], heads, block_size=16 if heads[0] != 7 else 5)
    spans = [(index, start, stop) for index, (start, stop) in enumerate(SPANS)]
    found = sequences.prefill(kernel, spans, spec)
    expected = torch.cat([sequences.whole(index, spec)[start:stop] for index, start, stop in spans])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("spec", [SPECS["plain"], SPECS["both"]], ids=["plain", "both"])
def test_bits_depend_on_the_sequence_alone(kernel: Attend, spec: AttentionSpec) -> None:
    """Alone or with others, in any chunks, at any place in the batch."""
    sequences = Sequences([700, 90, 3, 130], SHAPES["grouped"], block_size=16)
    together = sequences.decode(kernel, [2, 1, 3, 0], spec)
    for row, index in enumerate([2, 1, 3, 0]):
        assert torch.equal(sequences.decode(kernel, [index], spec)[0], together[row])
    whole = sequences.prefill(kernel, [(3, 0, 130)], spec)
    for cuts in ([0, 1, 130], [0, 50, 64, 90, 130]):
        chunks = [(3, start, stop) for start, stop in pairwise(cuts)]
        apart = torch.cat([sequences.prefill(kernel, [(1, 30, 90), chunk], spec)[60:] for chunk in chunks])
        assert torch.equal(apart, whole)


def test_half_precision_is_close(kernel: Attend) -> None:
    sequences = Sequences([130, 20], SHAPES["grouped"], block_size=16)
    exact = torch.stack([sequences.whole(index, SPECS["plain"])[-1] for index in range(2)])
    for kept in (sequences.q, sequences.k, sequences.v):
        kept[:] = [each.half() for each in kept]
    sequences.cache = sequences.cache.half()
    found = sequences.decode(kernel, [0, 1], SPECS["plain"])
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), exact, rtol=0, atol=5e-3)
