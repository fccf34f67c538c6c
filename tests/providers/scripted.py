"""A provider whose replies are written down beforehand, on the real engine without a network.

`ScriptedRunner` makes the next token of its script the likeliest one. `gate` stops the engine before a step
until the test lets it go on, so that nothing here waits for time to pass.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from cairn.data import DEFAULT_TEMPLATE, ChatTemplate, Tokenizer
from cairn.engine import AsyncEngine, Engine, EngineConfig, ModelInput
from cairn.engine.adapters import Adapter
from cairn.engine.block_manager import BlockCopy
from cairn.engine.runner import FloatArray, IntArray
from cairn.providers import LocalProvider
from cairn.providers.grammars import grammars_of
from cairn.registry import Receipt

TEXTS = ("a cairn is a pile of stones", "the stones mark the way", '{"name": "weather", "arguments": {}}')
CONTEXT = 512
PATIENCE = 120.0
"""Seconds after which nobody will open the gate any more."""


@cache
def tiny_tokenizer(template: ChatTemplate = DEFAULT_TEMPLATE) -> Tokenizer:
    """A byte-level tokenizer with few merges, so that most characters take several tokens."""
    return Tokenizer.train(TEXTS, vocab_size=300, chat_template=template)


class ScriptedLogits:
    """Scores that favour one token per row."""

    def __init__(self, favoured: Sequence[int], vocab_size: int) -> None:
        self._scores = np.tile(np.linspace(0, -1, vocab_size, dtype=np.float32), (len(favoured), 1))
        self._scores[np.arange(len(favoured)), favoured] = 50.0

    def argmax(self) -> IntArray:
        best: IntArray = np.argmax(self._scores, axis=1)
        return best

    def select(self, rows: list[int]) -> FloatArray:
        return self._scores[rows].copy()


class ScriptedRunner:
    """Says its script, then the end token, whatever the prompt."""

    max_position = CONTEXT
    num_weight_bytes = 1000

    def __init__(self, script: Iterable[int], *, vocab_size: int, end: int) -> None:
        self.script = list(script)
        self.vocab_size = vocab_size
        self.gate = threading.Semaphore(0)
        self.is_gated = False
        self.num_steps = 0
        self._end = end

    def bytes_per_block(self, block_size: int) -> int:
        return 8 * block_size

    def free_bytes(self) -> int:
        return 1 << 20

    def allocate_kv_cache(self, num_blocks: int, block_size: int) -> None:
        del num_blocks, block_size

    def read_adapter(self, folder: Path) -> Adapter:
        raise AssertionError("a script has no adapters")

    def clear_blocks(self, block_ids: list[int]) -> None:
        del block_ids

    def copy_blocks(self, copies: tuple[BlockCopy, ...]) -> None:
        del copies

    def close(self) -> None:
        pass

    def run(self, model_input: ModelInput) -> ScriptedLogits:
        if self.is_gated:
            assert self.gate.acquire(timeout=PATIENCE), "nobody opened the gate"
        self.num_steps += 1
        favoured = []
        for row in model_input.logit_rows:
            place = row.position + 1 - row.seq.num_prompt_tokens
            if place < 0:
                favoured.append(row.seq.token_ids[row.position + 1])
            else:
                favoured.append(self.script[place] if place < len(self.script) else self._end)
        return ScriptedLogits(favoured, self.vocab_size)


class Scripted:
    """A started provider with its runner and the receipts it stored; stop it at the end."""

    def __init__(
        self,
        reply: str | Sequence[int],
        *,
        template: ChatTemplate = DEFAULT_TEMPLATE,
        tokenizer: Tokenizer | None = None,
        config: EngineConfig | None = None,
        name: str = "scripted",
    ) -> None:
        self.tokenizer = tokenizer or tiny_tokenizer(template)
        script = self.tokenizer.encode(reply, allow_special=True) if isinstance(reply, str) else reply
        end = self.tokenizer.token_id("<|im_end|>")
        assert end is not None
        self.runner = ScriptedRunner(script, vocab_size=self.tokenizer.vocab_size, end=end)
        grammars = grammars_of(self.tokenizer, vocab_size=self.tokenizer.vocab_size, eos_token_ids=(end,))
        self.engine = AsyncEngine(Engine(self.runner, config or EngineConfig(), grammars=grammars))
        self.engine.start()
        self.receipts: list[Receipt] = []
        self.provider = LocalProvider(
            engine=self.engine,
            tokenizer=self.tokenizer,
            name=name,
            artifact_digest="sha256:" + "5c" * 32,
            eos_token_ids=(end,),
            save_receipt=self._save,
        )
        self.save: Callable[[Receipt], object] = self.receipts.append
        """What becomes of a receipt."""

    async def _save(self, receipt: Receipt) -> None:
        self.save(receipt)

    def stop(self) -> None:
        self.runner.is_gated = False
        self.runner.gate.release(1000)
        self.engine.stop()
