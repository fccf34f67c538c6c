"""A tenant that floods the queue, in simulated time and live: what the others notice of it."""

from dataclasses import replace

import pytest

from cairn.core.chat import SamplingParams
from cairn.engine import (
    Engine,
    EngineConfig,
    Request,
    TokenOutput,
    TorchRunner,
)
from cairn.engine.scheduler import Scheduler
from tests.engine.simulation import (
    CPU,
    GPU,
    Arrival,
    Machine,
    at_load,
    azure_archive,
    azure_trace,
    bursty,
    first_token_seconds,
    make_scheduler,
    percentile,
)
from tests.engine.tiny_decoders import tiny_decoder

SCALE = 1 / 8
"""The synthetic lengths, the budget and the credit are an eighth of the real ones: so the tests are quick."""
_SHORT = SamplingParams(max_tokens=4, seed=1, ignore_eos=True)
_LONG = SamplingParams(max_tokens=60, seed=1, ignore_eos=True)


def _small(machine: Machine = CPU) -> Scheduler:
    token_budget, fair_chunk = (256, 32) if machine is GPU else (32, 4)
    return make_scheduler(1024, token_budget=token_budget, fair_credit=32768, fair_chunk=fair_chunk)


def _flood(
    victim: list[Arrival], flood: list[Arrival], machine: Machine = CPU, *, start: float = 0
) -> list[Arrival]:
    """Three times what the machine can do, from `start` of the time in which the victim asks on."""
    last = victim[-1].seconds
    later = [
        replace(arrival, seconds=arrival.seconds + start * last) for arrival in at_load(flood, 3.0, machine)
    ]
    return [arrival for arrival in later if arrival.seconds < 1.3 * last]


@pytest.mark.parametrize(
    ("machine", "load", "start"),
    [(CPU, 0.1, 0), (CPU, 0.2, 0), (CPU, 0.3, 0.2), (CPU, 0.4, 0.2), (GPU, 0.2, 0), (GPU, 0.5, 0.2)],
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_flood_does_not_double_anothers_time_to_first_token(
    seed: int, machine: Machine, load: float, start: float
) -> None:
    """Within its share, in bursts too: an even half of the machine would make it 2.3 to 10 times."""
    victim = at_load(bursty("victim", 150, seed, scale=SCALE), load, machine)
    flood = _flood(victim, bursty("flood", 8000, 9, scale=SCALE), machine, start=start)
    quiet = first_token_seconds(victim, "victim", _small(machine), machine)
    noisy = first_token_seconds([*victim, *flood], "victim", _small(machine), machine)
    assert percentile(noisy, 0.99) <= 2 * percentile(quiet, 0.99)
    assert percentile(noisy, 0.5) <= 2 * percentile(quiet, 0.5)


def test_in_one_line_the_same_flood_drowns_everybody() -> None:
    victim = at_load(bursty("victim", 60, 1, scale=SCALE), 0.1)
    both = [*victim, *_flood(victim, bursty("flood", 8000, 9, scale=SCALE))]
    quiet = first_token_seconds(victim, "victim", _small())
    drowned = first_token_seconds(both, "victim", _small(), knows_tenants=False)
    assert percentile(drowned, 0.5) > 20 * percentile(quiet, 0.99)


@pytest.mark.mirror
@pytest.mark.skipif(azure_archive() is None, reason="no mirror: set CAIRN_MIRROR to a folder of archives")
@pytest.mark.parametrize("kind", ["code", "conv"])
def test_a_flood_of_azuresazure_trace(kind: str) -> None:
    conversations = azure_trace("conv")
    victim = at_load(conversations[:150], 0.3)
    flood = _flood(victim, azure_trace("code") if kind == "code" else conversations[150:])
    flood = [Arrival(a.seconds, "flood", a.num_prompt, a.num_new) for a in flood]
    quiet = first_token_seconds(victim, "conv", make_scheduler())
    noisy = first_token_seconds([*victim, *flood], "conv", make_scheduler())
    assert percentile(noisy, 0.99) <= 2 * percentile(quiet, 0.99)


def _live(*, is_flooded: bool) -> tuple[list[int], list[list[int | None]]]:
    """A real engine with a real network: steps to the first token of a tenant's requests, and its answers.

    It asks one thing after the other, then five at once, twice; the flood comes before the second time.
    """
    config = EngineConfig(block_size=4, num_blocks=200, max_num_seqs=8, token_budget=16, fair_chunk=4)
    engine = Engine(TorchRunner(tiny_decoder("llama")), config)
    due = [120 * r + step for r in range(2) for step in (0, 12, 24, 36, 60, 60, 60, 60, 60)]
    prompts = [tuple((7 * i + j) % 64 for j in range(60)) for i in range(len(due))]
    first: dict[str, int] = {}
    answers: dict[str, list[int | None]] = {f"v{i}": [] for i in range(len(due))}
    num_flood = 0
    for step in range(260):
        for i in (i for i, when in enumerate(due) if when == step):
            engine.add_request(Request(f"v{i}", prompts[i], _SHORT, tenant="victim"))
        while is_flooded and step >= 80 and engine.stats().num_waiting < 20:
            prompt = tuple((11 * num_flood + 3 * j) % 64 for j in range(60))
            engine.add_request(Request(f"f{num_flood}", prompt, _LONG, tenant="flood"))
            num_flood += 1
        for output in engine.step():
            if isinstance(output, TokenOutput) and output.request_id in answers:
                first.setdefault(output.request_id, step - due[int(output.request_id[1:])] + 1)
                answers[output.request_id].append(output.token_id)
    assert len(first) == len(due)
    return sorted(first.values()), list(answers.values())


def test_a_flood_live_in_steps() -> None:
    quiet, quiet_answers = _live(is_flooded=False)
    noisy, noisy_answers = _live(is_flooded=True)
    assert noisy_answers == quiet_answers
    assert noisy[-1] <= 2 * quiet[-1]
    assert noisy[len(noisy) // 2] <= 2 * quiet[len(quiet) // 2]
