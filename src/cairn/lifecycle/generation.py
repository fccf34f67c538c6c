"""Generating for evaluation: a batch of prompts through the engine, token ids in and out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cairn.core import Progress
from cairn.core.chat import SamplingParams
from cairn.engine import Engine, EngineConfig, Request, TokenOutput

if TYPE_CHECKING:
    from cairn.models import Decoder


def generate(
    model: "Decoder",
    prompts: Sequence[Sequence[int]],
    sampling: SamplingParams,
    *,
    eos_token_ids: tuple[int, ...],
    progress: Progress,
    label: str,
) -> list[tuple[int, ...]]:
    """Token ids of one reply a prompt, end token included. Prompt i is sampled with seed + i."""
    from dataclasses import replace

    from cairn.engine import TorchRunner

    engine = Engine(TorchRunner(model), EngineConfig(max_num_seqs=16, token_budget=512))
    for place, prompt in enumerate(prompts):
        seeded = replace(sampling, seed=(sampling.seed or 0) + place)
        engine.add_request(Request(str(place), tuple(prompt), seeded, eos_token_ids))
    replies: list[list[int]] = [[] for _ in prompts]
    with progress.task(label, len(prompts)) as task:
        while engine.has_unfinished:
            for output in engine.step():
                if isinstance(output, TokenOutput):
                    if output.token_id is not None:
                        replies[int(output.request_id)].append(output.token_id)
                    if output.finish_reason is not None:
                        task.advance()
    return [tuple(reply) for reply in replies]
