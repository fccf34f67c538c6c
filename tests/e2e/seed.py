"""A home as builds leave it, written without building: lineage, runs with metrics, a model that answers."""

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cairn.registry import Artifact, BuildStage, Registry, record_stage
from tests.e2e.tiny_model import write_tiny_model

CARD = """\
# Lighthouse, a small story model

Made of **four tales**; it knows which word follows which, and nothing else.

| measure | value |
|---|---|
| tales | 4 |
| layers | 1 |

```python
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8642/v1", api_key="...")
```
"""
_CONFIG = {"seed": 7, "pretrain": {"steps": 300}}

Fill = Callable[[Path], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeded:
    """What was written."""

    model: Artifact
    tokens: Artifact
    build_id: str
    failed_id: str


def seed(registry: Registry) -> Seeded:
    """A build that was interrupted after two stages, one that reused them, and one that failed."""
    first = registry.start_run(recipe="lighthouse", config=_CONFIG)
    books = _stage(registry, first.run_id, "data", "dataset", ())
    tokens = _stage(registry, first.run_id, "tokenizer", "tokenizer", (books,))
    registry.finish_run(first.run_id, status="interrupted", error="stopped by the user")
    build = registry.start_run(recipe="lighthouse", config=_CONFIG)
    for stage, made in (("data", books), ("tokenizer", tokens)):
        assert made.run_id
        reused = BuildStage(stage=stage, output=made.digest, cached=True, run_id=made.run_id)
        record_stage(registry.run_folder(build.run_id), reused)
    base = _stage(
        registry, build.run_id, "pretrain", "model", (books, tokens), steps=300, fill=write_tiny_model
    )
    fill = partial(_write_carded_model, seed=1)
    model = _stage(registry, build.run_id, "sft", "model", (base, tokens), steps=120, fill=fill)
    registry.finish_run(build.run_id, status="succeeded", output=model.digest)
    registry.set_alias("lighthouse-base", base.digest)
    registry.set_alias("lighthouse", model.digest)
    failed = registry.start_run(recipe="storm", config={"seed": 1})
    registry.finish_run(failed.run_id, status="failed", error="the disk is full")
    return Seeded(model=model, tokens=tokens, build_id=build.run_id, failed_id=failed.run_id)


def write_metrics(registry: Registry, run_id: str, *, start: int, stop: int) -> None:
    """Append a falling loss for the steps from `start` to before `stop`, validated every 25."""
    noise = random.Random(start)
    with (registry.run_folder(run_id) / "metrics.jsonl").open("a", encoding="utf-8") as file:
        for step in range(start, stop):
            loss = 2.1 + 4.5 * math.exp(-step / 60) + noise.gauss(0, 0.05)
            line = {"step": step, "time": 1.7e9 + step, "split": "train", "loss": loss, "tokens": step * 4096}
            file.write(json.dumps(line | {"learning_rate": 1e-3, "tokens_per_second": 15_300.0}) + "\n")
            if step % 25 == 0:
                held = line | {"split": "validation", "loss": loss + 0.15, "bits_per_byte": loss / 3}
                file.write(json.dumps(held) + "\n")


def _stage(
    registry: Registry,
    build_id: str,
    stage: str,
    kind: str,
    parents: Sequence[Artifact],
    *,
    steps: int = 0,
    fill: Fill | None = None,
) -> Artifact:
    digests = [parent.digest for parent in parents]
    run = registry.start_run(
        recipe="lighthouse",
        stage=stage,
        key=f"key-{stage}",
        config={"stage": stage},
        inputs=digests,
        parent_id=build_id,
    )
    metadata = {"recipe": "lighthouse", "steps": steps}
    with registry.create(kind, parents=digests, metadata=metadata, run_id=run.run_id) as writer:
        if fill is None:
            (writer.folder / f"{stage}.bin").write_bytes(stage.encode() * 1000)
        else:
            fill(writer.folder)
    if steps:
        write_metrics(registry, run.run_id, start=1, stop=steps + 1)
    registry.finish_run(run.run_id, status="succeeded", output=writer.artifact.digest)
    return writer.artifact


def _write_carded_model(folder: Path, *, seed: int) -> None:
    write_tiny_model(folder, seed=seed)
    (folder / "card.md").write_text(CARD, encoding="utf-8")
