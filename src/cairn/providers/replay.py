"""Replay: make an answer again from its receipt and say whether it is the same, token for token.

The sampling, seed and prompt token ids come from the receipt, the weights from the artifact it names. A reply
that was cut off (its reader left) is compared as far as it went.
"""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from cairn.core.chat import SamplingParams
from cairn.engine import AsyncEngine, Request, TokenOutput
from cairn.providers.receipts import sampling_from_json
from cairn.registry import Receipt


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where a choice differs; None stands for the end of the shorter one."""

    choice: int
    position: int
    recorded: int | None
    replayed: int | None


@dataclass(frozen=True, slots=True)
class Replay:
    """What came out the second time."""

    receipt_id: str
    outputs: list[list[int]]
    difference: Difference | None

    @property
    def is_same(self) -> bool:
        """Whether every recorded token came again."""
        return self.difference is None


async def compile_ahead(engine: AsyncEngine, sampling: SamplingParams) -> None:
    """Compile a request's grammar in a thread; the engine then finds it ready. Raises what it would."""
    grammars = engine.engine.grammars
    if sampling.grammar is not None and grammars is not None:
        await asyncio.to_thread(grammars.compile, sampling.grammar)


async def replay_tokens(engine: AsyncEngine, receipt: Receipt, eos_token_ids: tuple[int, ...]) -> Replay:
    """Run the receipt's request again on an engine that holds its artifact."""
    wanted = [len(tokens) for tokens in receipt.outputs]
    outputs: list[list[int]] = [[] for _ in wanted]
    request = Request(
        f"replay-{uuid.uuid4().hex}",
        tuple(receipt.prompt_token_ids),
        sampling_from_json(receipt.sampling),
        eos_token_ids,
        adapter=receipt.adapter,
    )
    await compile_ahead(engine, request.sampling)
    stream = engine.generate(request)
    try:
        async for output in stream:
            if isinstance(output, TokenOutput) and output.token_id is not None:
                outputs[output.index].append(output.token_id)
            # Stop strings and readers that left end a reply before the engine would.
            if all(len(tokens) >= most for tokens, most in zip(outputs, wanted, strict=True)):
                break
    finally:
        await stream.aclose()
    outputs = [tokens[:most] for tokens, most in zip(outputs, wanted, strict=True)]
    return Replay(receipt.receipt_id, outputs, _first_difference(receipt.outputs, outputs))


def _first_difference(recorded: Sequence[list[int]], replayed: Sequence[list[int]]) -> Difference | None:
    for choice, (before, after) in enumerate(zip(recorded, replayed, strict=True)):
        for position in range(max(len(before), len(after))):
            old = before[position] if position < len(before) else None
            new = after[position] if position < len(after) else None
            if old != new:
                return Difference(choice, position, old, new)
    return None
