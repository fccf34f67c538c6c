"""The scheduler under load in simulated time: requests arrive, steps take as long as their tokens say."""

import csv
import os
import random
import tarfile
from collections.abc import Sequence as Arrivals
from dataclasses import dataclass
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path

from cairn.core.chat import SamplingParams
from cairn.engine.block_manager import BlockManager
from cairn.engine.scheduler import ScheduledBatch, Scheduler
from cairn.engine.sequence import Request, Sequence


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request of `num_prompt` tokens whose answer has `num_new`."""

    seconds: float
    tenant: str
    num_prompt: int
    num_new: int


@dataclass(frozen=True, slots=True)
class Machine:
    """A step of n tokens takes `per_step + n * per_token` seconds."""

    per_step: float
    per_token: float

    def seconds(self, num_tokens: int) -> float:
        return self.per_step + num_tokens * self.per_token


CPU = Machine(0.003, 0.0006)
"""135 M parameters in int4 on two cores: 330 tokens/s decoding one stream, 1,600 reading prompts."""

GPU = Machine(0.025, 0.0001)
"""Reading weights takes most of a step: 250 tokens double its time."""


def make_scheduler(num_blocks: int = 4096, *, prefix_cache: bool = True, **options: int) -> Scheduler:
    defaults = {"max_num_seqs": 16, "token_budget": 256}
    return Scheduler(BlockManager(num_blocks, 16, prefix_cache=prefix_cache), **{**defaults, **options})


def make_sequence(
    arrival: int,
    num_prompt: int,
    num_new: int = 1,
    *,
    tenant: str = "",
    weight: float = 1.0,
    priority: int = 0,
    kv_share: float | None = None,
) -> Sequence:
    request = Request(
        f"r{arrival}",
        (arrival,) * num_prompt,
        SamplingParams(max_tokens=num_new),
        tenant=tenant,
        weight=weight,
        priority=priority,
        kv_share=kv_share,
    )
    return Sequence(request, index=0, seed=0, arrival=arrival, max_len=1_000_000)


def compute(scheduler: Scheduler, batch: ScheduledBatch) -> list[Sequence]:
    """What the engine does with a batch, without a network; who got a token."""
    given = [item.seq for item in batch.items if item.is_complete]
    for item in batch.items:
        item.seq.num_computed_tokens = item.stop
        scheduler.block_manager.register(item.seq)
    for seq in given:
        seq.token_ids.append(0)
        if seq.num_new_tokens >= seq.max_new_tokens:
            scheduler.finish(seq)
    return given


def first_token_seconds(
    arrivals: Arrivals[Arrival],
    tenant: str,
    scheduler: Scheduler,
    machine: Machine = CPU,
    *,
    knows_tenants: bool = True,
) -> list[float]:
    """How long each request of `tenant` waited for its first token, shortest first."""
    todo = sorted(arrivals, key=lambda arrival: arrival.seconds)
    num_open = sum(arrival.tenant == tenant for arrival in todo)
    came: dict[Sequence, float] = {}
    waited: list[float] = []
    now, i = 0.0, 0
    while len(waited) < num_open:
        if not scheduler.has_unfinished:
            now = max(now, todo[i].seconds)
        while i < len(todo) and todo[i].seconds <= now:
            name = todo[i].tenant if knows_tenants else ""
            seq = make_sequence(i, todo[i].num_prompt, todo[i].num_new, tenant=name)
            if todo[i].tenant == tenant:
                came[seq] = todo[i].seconds
            scheduler.add(seq)
            i += 1
        batch = scheduler.schedule()
        now += machine.seconds(batch.num_tokens)
        first = [seq for seq in compute(scheduler, batch) if seq.num_new_tokens == 1 and seq in came]
        waited += [now - came[seq] for seq in first]
    return sorted(waited)


def percentile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))]


def at_load(arrivals: Arrivals[Arrival], load: float, machine: Machine = CPU) -> list[Arrival]:
    """The same arrivals, time stretched so that they keep the machine busy for `load` of it.

    Four sequences are taken to decode together.
    """
    token = machine.per_token
    work = sum(a.num_prompt * token + a.num_new * (token + machine.per_step / 4) for a in arrivals)
    first, last = arrivals[0].seconds, arrivals[-1].seconds
    stretch = work / load / (last - first)
    return [Arrival((a.seconds - first) * stretch, a.tenant, a.num_prompt, a.num_new) for a in arrivals]


def bursty(tenant: str, num: int, seed: int, *, scale: float = 1.0) -> list[Arrival]:
    """Arrivals and lengths in the shape of Azure's trace of conversations, 2023.

    Its median prompt has 1,020 tokens, one in a hundred 4,142, its median answer 129; `scale` shortens both.
    """
    draw = random.Random(seed)
    seconds = 0.0
    found = []
    for _ in range(num):
        seconds += draw.gammavariate(0.5, 2)  # clustered: the standard deviation is 1.4 times the mean
        num_prompt = min(draw.lognormvariate(6.9, 0.75), 5000) * scale
        num_new = min(draw.lognormvariate(4.9, 0.8), 800) * scale
        found.append(Arrival(seconds, tenant, max(1, int(num_prompt)), max(1, int(num_new))))
    return found


def azure_archive() -> Path | None:
    """Azure's trace of 2023 (Splitwise, Patel et al. 2024), where there is a folder of data set archives."""
    given = os.environ.get("CAIRN_MIRROR")
    folder = Path(given) if given else Path(__file__).resolve().parents[3] / "shared" / "data"
    archive = folder / "azure-llm-trace.tar.xz"
    return archive if archive.is_file() else None


def azure_trace(kind: str) -> list[Arrival]:
    """The requests of the trace as they came, `code` or `conv`."""
    archive = azure_archive()
    if archive is None:
        raise FileNotFoundError("azure-llm-trace.tar.xz; set CAIRN_MIRROR to the folder where it lies")
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
