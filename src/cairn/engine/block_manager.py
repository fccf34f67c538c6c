"""Who owns which block of the paged KV cache, and which blocks can be reused.

The cache is a pool of blocks of `block_size` tokens. A sequence owns the blocks in its
`block_table`, in order; full blocks whose content is known may be shared, counted by
`ref_count`. A block's hash is the SHA-256 of its parent's hash, its token ids and how many of
them are prompt; before the first block stands the digest of the adapter, if there is one. So equal
hash means equal adapter and equal tokens from the very first one (token ids are compared as well).
Blocks of generated tokens hash differently from blocks of the same tokens in a prompt, because their
keys and values were computed by another kernel and may differ in the last bits;
they serve a preempted sequence when it comes back.

Where a prompt leaves the cached ones in the middle of a block, the block that goes on furthest with it is
copied, so that only what is new is computed. Of its tenant's blocks that follow the same beginning the newest
few are asked; another tenant's would let a prompt be guessed token by token from what counts as cached.

Guarantees: a block is either free or owned, never both; a freed block keeps its content and hash
until it is taken for something else; the least recently freed goes first, blocks without a hash
before all others, and a sequence's tail before its head. Every operation is O(1) per block.

After PagedAttention (Kwon et al. 2023) and the automatic prefix caching of vLLM.
Not here: the tensors (the ModelRunner's), and who may run (the Scheduler's).
"""

import hashlib
from array import array
from collections import OrderedDict
from itertools import islice, takewhile
from typing import NamedTuple

from cairn.engine.sequence import Sequence

_MOST_ASKED = 8
"""Blocks after the same beginning that are compared with a prompt; after a shared one all begin alike."""


class BlockCopy(NamedTuple):
    """Everything that block `source` holds goes to block `target`, before the step's tokens are computed."""

    source: int
    target: int


class Block:
    """A block of the pool."""

    __slots__ = ("block_hash", "block_id", "follows", "num_prompt", "ref_count", "token_ids")

    def __init__(self, block_id: int) -> None:
        self.block_id = block_id
        self.ref_count = 0
        self.block_hash: bytes | None = None
        self.follows = ("", b"")
        self.token_ids: tuple[int, ...] = ()
        self.num_prompt = 0
        """How many of its tokens, the first ones, are a prompt's."""


class BlockManager:
    """Accounts for every block of the pool; touches no tensor."""

    def __init__(self, num_blocks: int, block_size: int, *, prefix_cache: bool = True) -> None:
        self.block_size = block_size
        self.prefix_cache = prefix_cache
        self.blocks = [Block(block_id) for block_id in range(num_blocks)]
        self._free = OrderedDict((block.block_id, block) for block in self.blocks)
        self._cached: dict[bytes, Block] = {}
        self._followers: dict[tuple[str, bytes], dict[int, Block]] = {}
        """Cached blocks by tenant and parent's hash, then by id, the newest last."""

    @property
    def num_free_blocks(self) -> int:
        """Blocks no sequence owns, with or without reusable content."""
        return len(self._free)

    @property
    def num_used_blocks(self) -> int:
        return len(self.blocks) - len(self._free)

    @property
    def num_cached_blocks(self) -> int:
        """Blocks with reusable content, owned or free."""
        return len(self._cached)

    def num_blocks_for(self, num_tokens: int) -> int:
        """Blocks that hold `num_tokens` tokens."""
        return -(-num_tokens // self.block_size)

    def can_allocate(self, seq: Sequence) -> bool:
        """Whether all tokens of a sequence without blocks fit now."""
        return self.num_missing_blocks(seq) <= self.num_free_blocks

    def num_missing_blocks(self, seq: Sequence) -> int:
        """Free blocks that a sequence without blocks would take."""
        hits = self._match(seq)
        return self.num_blocks_for(seq.num_tokens) - sum(block.ref_count > 0 for block in hits)

    def allocate(self, seq: Sequence) -> BlockCopy | None:
        """Give a sequence blocks for all its tokens, reused ones count as computed; what is to be copied."""
        assert not seq.block_table, "allocate is for sequences without blocks"
        hits = self._match(seq)
        follower, num_alike = self._best_follower(seq, hits)
        # Hits leave the free list first, or taking fresh blocks could evict them.
        for block in hits:
            self._free.pop(block.block_id, None)
            block.ref_count += 1
        seq.block_table = [block.block_id for block in hits]
        seq.num_registered_blocks = len(hits)
        seq.num_computed_tokens = len(hits) * self.block_size + num_alike
        if seq.num_cached_tokens is None:
            seq.num_cached_tokens = seq.num_computed_tokens
        self.append(seq)
        return None if follower is None else BlockCopy(follower.block_id, seq.block_table[len(hits)])

    def can_append(self, seq: Sequence, num_drafted: int = 0) -> bool:
        """Whether the sequence's newest tokens, and as many drafted ones, have or can get a place."""
        num_blocks = self.num_blocks_for(seq.num_tokens + num_drafted)
        return num_blocks - len(seq.block_table) <= self.num_free_blocks

    def append(self, seq: Sequence, num_drafted: int = 0) -> None:
        """Grow the block table to hold all tokens of the sequence, and as many drafted ones."""
        for _ in range(self.num_blocks_for(seq.num_tokens + num_drafted) - len(seq.block_table)):
            seq.block_table.append(self._take().block_id)

    def register(self, seq: Sequence) -> None:
        """Make the full blocks whose keys and values are computed findable by other sequences."""
        if not self.prefix_cache:
            return
        num_full = seq.num_computed_tokens // self.block_size
        self._extend_hashes(seq, num_full)
        for i in range(seq.num_registered_blocks, num_full):
            block = self.blocks[seq.block_table[i]]
            # Two sequences may compute the same block in one step: the first one is kept.
            if seq.block_hashes[i] not in self._cached:
                block.block_hash = seq.block_hashes[i]
                block.follows = seq.request.tenant, self._parent_hash(seq, i)
                block.token_ids = self._tokens_of(seq, i)
                block.num_prompt = self._num_prompt(seq, i)
                self._cached[block.block_hash] = block
                self._followers.setdefault(block.follows, {})[block.block_id] = block
        seq.num_registered_blocks = num_full

    def free(self, seq: Sequence) -> None:
        """Give up the sequence's blocks, the tail first, so that shared beginnings live longest."""
        for block_id in reversed(seq.block_table):
            block = self.blocks[block_id]
            assert block.ref_count > 0, f"block {block_id} freed twice"
            block.ref_count -= 1
            if block.ref_count == 0:
                self._free[block_id] = block
                if block.block_hash is None:
                    self._free.move_to_end(block_id, last=False)
        seq.block_table = []
        seq.num_registered_blocks = 0
        seq.num_computed_tokens = seq.num_draft_tokens = 0

    def _take(self) -> Block:
        assert self._free, "no free block: can_allocate or can_append was not asked"
        _, block = self._free.popitem(last=False)
        if block.block_hash is not None:
            del self._cached[block.block_hash]
            followers = self._followers[block.follows]
            del followers[block.block_id]
            if not followers:
                del self._followers[block.follows]
            block.block_hash = None
            block.token_ids = ()
        block.ref_count = 1
        return block

    def _match(self, seq: Sequence) -> list[Block]:
        """Cached blocks that hold the sequence's beginning; never its last token, whose logits are needed."""
        if not self.prefix_cache or seq.wants_prompt_logprobs:
            return []
        num_full = (seq.num_tokens - 1) // self.block_size
        self._extend_hashes(seq, num_full)
        hits: list[Block] = []
        for i in range(num_full):
            block = self._cached.get(seq.block_hashes[i])
            if block is None or block.token_ids != self._tokens_of(seq, i):
                break
            hits.append(block)
        return hits

    def _best_follower(self, seq: Sequence, hits: list[Block]) -> tuple[Block | None, int]:
        """The block with most of the prompt's tokens after `hits`, and how many; never the last token."""
        if not self.prefix_cache or seq.wants_prompt_logprobs:
            return None, 0
        start = len(hits) * self.block_size
        stop = min(start + self.block_size, seq.num_prompt_tokens, seq.num_tokens - 1)
        wanted = seq.token_ids[start:stop]
        best: Block | None = None
        most = 0
        followers = self._followers.get((seq.request.tenant, self._parent_hash(seq, len(hits))), {})
        for block in islice(reversed(followers.values()), _MOST_ASKED):
            pairs = zip(wanted, block.token_ids[: block.num_prompt], strict=False)
            num_alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            if num_alike > most:
                best, most = block, num_alike
        return best, most

    def _parent_hash(self, seq: Sequence, i: int) -> bytes:
        return seq.block_hashes[i - 1] if i else seq.cache_salt

    def _num_prompt(self, seq: Sequence, i: int) -> int:
        return min(max(seq.num_prompt_tokens - i * self.block_size, 0), self.block_size)

    def _extend_hashes(self, seq: Sequence, num_full: int) -> None:
        """Hash the sequence's first `num_full` blocks, once each."""
        for i in range(len(seq.block_hashes), num_full):
            content = array("q", (*self._tokens_of(seq, i), self._num_prompt(seq, i))).tobytes()
            seq.block_hashes.append(hashlib.sha256(self._parent_hash(seq, i) + content).digest())

    def _tokens_of(self, seq: Sequence, i: int) -> tuple[int, ...]:
        return tuple(seq.token_ids[i * self.block_size : (i + 1) * self.block_size])
