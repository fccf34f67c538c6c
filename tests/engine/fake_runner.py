"""A runner without a network, whose every answer depends on everything the KV cache says.

The "keys and values" of a token are a hash of all that its sequence's block table holds before it, its
token id, position and adapter; its logits are random numbers seeded by that hash. So one token computed with
the wrong context, written to the wrong slot, or read from a block that was given away, changes all
that follows.
"""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cairn.engine.adapters import Adapter
from cairn.engine.block_manager import BlockCopy
from cairn.engine.runner import FloatArray, IntArray, Logits, ModelInput

VOCAB = 11
MAX_POSITION = 64


def kv_of(before: IntArray, token_id: int, position: int, adapter: str) -> int:
    """What a token leaves in the cache, given what is there of the tokens before it."""
    content = before.tobytes() + b"%d %d " % (token_id, position) + adapter.encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=7).digest(), "little")


def logits_of(kv: int) -> FloatArray:
    """Scores of the token after one whose cache entry is `kv`."""
    return np.random.default_rng(kv).normal(size=VOCAB).astype(np.float32)


@functools.cache
def _naive_kvs(token_ids: tuple[int, ...], adapter: str) -> IntArray:
    if not token_ids:
        return np.array([], np.int64)
    before = _naive_kvs(token_ids[:-1], adapter)
    kvs: IntArray = np.append(before, kv_of(before, token_ids[-1], len(token_ids) - 1, adapter))
    return kvs


def naive_logits(token_ids: list[int], adapter: str = "") -> FloatArray:
    """Scores of the next token, from the token ids and the adapter alone."""
    return logits_of(int(_naive_kvs(tuple(token_ids), adapter)[-1]))


@dataclass(frozen=True)
class FakeAdapter:
    """An adapter that is its name."""

    digest: str
    num_bytes: int = 100


class FakeLogits:
    def __init__(self, scores: FloatArray) -> None:
        self.scores = scores

    def argmax(self) -> IntArray:
        likeliest: IntArray = np.argmax(self.scores, axis=1)
        return likeliest

    def select(self, rows: list[int]) -> FloatArray:
        return self.scores[rows]


class FakeRunner:
    """A ModelRunner over Python integers. `fail_next` makes the next steps raise."""

    vocab_size = VOCAB
    num_weight_bytes = 1000

    def __init__(self, max_position: int = MAX_POSITION) -> None:
        self.max_position = max_position
        self.fail_next = 0
        self.steps: list[ModelInput] = []

    def bytes_per_block(self, block_size: int) -> int:
        return 8 * block_size

    def free_bytes(self) -> int:
        return 1 << 20

    def allocate_kv_cache(self, num_blocks: int, block_size: int) -> None:
        self.block_size = block_size
        self.cache = np.full((num_blocks, block_size), -1, np.int64)

    def read_adapter(self, folder: Path) -> Adapter:
        return FakeAdapter(folder.name)

    def clear_blocks(self, block_ids: list[int]) -> None:
        self.cache[block_ids] = -1

    def copy_blocks(self, copies: tuple[BlockCopy, ...]) -> None:
        for source, target in copies:
            self.cache[target] = self.cache[source]

    def close(self) -> None:
        pass

    def run(self, model_input: ModelInput) -> Logits:
        if self.fail_next:
            self.fail_next -= 1
            raise RuntimeError("the device is on fire")
        self.steps.append(model_input)
        tables = self._tables(model_input)
        adapters = {int(row): group.adapter.digest for group in model_input.adapters for row in group.rows}
        # By position, because a real network has all keys of a layer before any query.
        for row in sorted(range(model_input.num_tokens), key=lambda row: int(model_input.positions[row])):
            position = int(model_input.positions[row])
            table = tables[row][: position // self.block_size + 1]
            before = self.cache[table].reshape(-1)[:position]
            block, offset = divmod(int(model_input.slot_mapping[row]), self.block_size)
            place = (table[-1], position % self.block_size)
            assert (block, offset) == place, "slot mapping and block table disagree"
            self.cache[block, offset] = kv_of(
                before, int(model_input.token_ids[row]), position, adapters.get(row, "")
            )
        flat = self.cache.reshape(-1)
        kvs = [int(flat[model_input.slot_mapping[row.row]]) for row in model_input.logit_rows]
        scores = [self.scores(kv) for kv in kvs] or [np.zeros(VOCAB, np.float32)]
        return FakeLogits(np.stack(scores))

    def scores(self, kv: int) -> FloatArray:
        """What it says after a token whose cache entry is `kv`."""
        return logits_of(kv)

    def _tables(self, step: ModelInput) -> list[IntArray]:
        """The block table of each row."""
        tables = list(step.decode_tables)
        for position, num_seen in zip(step.positions, step.decode_lens, strict=False):
            assert num_seen == position + 1
        for span in step.prompt_spans:
            assert span.row == len(tables)
            tables += [span.block_table] * (span.stop - span.start)
        assert len(tables) == step.num_tokens
        return tables
