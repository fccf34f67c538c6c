"""A tenant that floods the queue, in simulated time and live: what the others notice of it."""

import csv
import os
import tarfile
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path

import pytest

from cairn.core.chat import SamplingParams
from cairn.engine import (
    AsyncEngine,
    Engine,
    EngineConfig,
    Logits,
    ModelInput,
    Request,
    TokenOutput,
    TorchRunner,
)
from cairn.engine.scheduler import Scheduler
from tests.engine.simulation import (
    CPU,
    Arrival,
    Machine,
    at_load,
    bursty,
    first_token_seconds,
    make_scheduler,
    percentile,
)
from tests.engine.tiny_decoders import tiny_decoder

ROOT = Path(__file__).resolve().parents[2]
SCALE = 1 / 8
"""The synthetic lengths, the budget and the burst are an eighth of the real ones: so the tests are quick."""
GPU = Machine(0.025, 0.0001)
"""Reading weights takes most of a step: 250 tokens double its time."""


def _small() -> Scheduler:
    return make_scheduler(1024, token_budget=32, fair_burst=2048, fair_chunk=4)


def _flood(victim: list[Arrival], flood: list[Arrival], machine: Machine = CPU) -> list[Arrival]:
    """Three times what the machine can do, for longer than the victim asks."""
    end = 1.3 * victim[-1].seconds
    return [arrival for arrival in at_load(flood, 3.0, machine) if arrival.seconds < end]


@pytest.mark.parametrize("load", [0.1, 0.2])
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("machine", [CPU, GPU], ids=["cpu", "gpu"])
def test_a_flood_does_not_double_anothers_time_to_first_token(
    seed: int, load: float, machine: Machine
) -> None:
    victim = at_load(bursty("victim", 150, seed, scale=SCALE), load, machine)
    flood = _flood(victim, bursty("flood", 8000, 9, scale=SCALE), machine)
    quiet = first_token_seconds(victim, "victim", _small(), machine)
    noisy = first_token_seconds([*victim, *flood], "victim", _small(), machine)
    assert percentile(noisy, 0.99) <= 2 * percentile(quiet, 0.99)
    assert percentile(noisy, 0.5) <= 2 * percentile(quiet, 0.5)


def test_in_one_line_the_same_flood_drowns_everybody() -> None:
    victim = at_load(bursty("victim", 60, 1, scale=SCALE), 0.1)
    both = [*victim, *_flood(victim, bursty("flood", 8000, 9, scale=SCALE))]
    quiet = first_token_seconds(victim, "victim", _small())
    drowned = first_token_seconds(both, "victim", _small(), knows_tenants=False)
    assert percentile(drowned, 0.5) > 20 * percentile(quiet, 0.99)


@pytest.mark.mirror
@pytest.mark.parametrize("kind", ["code", "conv"])
def test_a_flood_of_azures_trace(kind: str) -> None:
    conversations = _trace("conv")
    victim = at_load(conversations[:150], 0.1)
    flood = _flood(victim, _trace("code") if kind == "code" else conversations[150:])
    flood = [Arrival(a.seconds, "flood", a.num_prompt, a.num_new) for a in flood]
    quiet = first_token_seconds(victim, "conv", make_scheduler())
    noisy = first_token_seconds([*victim, *flood], "conv", make_scheduler())
    assert percentile(noisy, 0.99) <= 2 * percentile(quiet, 0.99)


class _CountingRunner(TorchRunner):
    """Notes the step in which each request's first token was computed."""

    def __init__(self) -> None:
        super().__init__(tiny_decoder("llama"))
        self.num_steps = 0
        self.first_step: dict[str, int] = {}

    def run(self, model_input: ModelInput) -> Logits:
        self.num_steps += 1
        for row in model_input.logit_rows:
            if row.is_sampled:
                self.first_step.setdefault(row.seq.request.request_id, self.num_steps)
        return super().run(model_input)


async def _ask(
    engine: AsyncEngine, runner: _CountingRunner, request: Request
) -> tuple[int, list[int | None]]:
    """Steps to the first token, the one under way included, and the answer."""
    before = runner.num_steps
    answer = [each.token_id async for each in engine.generate(request) if isinstance(each, TokenOutput)]
    return runner.first_step[request.request_id] - before, answer


async def test_a_flood_live_in_steps() -> None:
    """A real engine with a real network: steps to the first token, and the same tokens."""
    runner = _CountingRunner()
    config = EngineConfig(
        block_size=4,
        num_blocks=200,
        max_num_seqs=8,
        token_budget=16,
        fair_burst=400,
        fair_chunk=4,
        prefix_cache=False,
    )
    sampling = SamplingParams(max_tokens=4, seed=1, ignore_eos=True)
    prompts = [tuple((7 * i + j) % 64 for j in range(60)) for i in range(40)]
    with AsyncEngine(Engine(runner, config)) as engine:
        quiet = [
            await _ask(engine, runner, Request(f"q{i}", prompts[i], sampling, tenant="victim"))
            for i in range(5)
        ]
        long = SamplingParams(max_tokens=60, seed=1, ignore_eos=True)
        flood = [
            engine.generate(Request(f"f{i}", prompt, long, tenant="flood"))
            for i, prompt in enumerate(prompts)
        ]
        await anext(flood[0])
        noisy = [
            await _ask(engine, runner, Request(f"n{i}", prompts[i], sampling, tenant="victim"))
            for i in range(5)
        ]
        assert engine.stats().num_waiting > 8, "the flood has ended"
        for stream in flood:
            await stream.aclose()
    assert [answer for _, answer in noisy] == [answer for _, answer in quiet]
    assert max(steps for steps, _ in noisy) <= 2 * max(steps for steps, _ in quiet)


def _trace(kind: str) -> list[Arrival]:
    """Azure's trace of 2023 (Splitwise, Patel et al. 2024), its requests as they came."""
    given = os.environ.get("CAIRN_MIRROR")
    archive = (Path(given) if given else ROOT.parent / "shared" / "data") / "azure-llm-trace.tar.xz"
    if not archive.is_file():
        pytest.skip("no mirror: set CAIRN_MIRROR to a folder of data set archives")
    with tarfile.open(archive) as tar:
        file = tar.extractfile(f"azure-llm-trace/data/AzureLLMInferenceTrace_{kind}.csv")
        assert file is not None
        rows = list(csv.DictReader(TextIOWrapper(file)))
    return [
        Arrival(
            datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp(),
            kind,
            int(row["ContextTokens"]),
            int(row["GeneratedTokens"]),
        )
        for row in rows
    ]
