"""What a registry looks like after a build, written without building: artifacts with lineage, runs with metrics."""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from cairn.registry import Artifact, Registry

CARD = """\
# Lighthouse, a small story model

Trained from **seven books** for children; it writes short tales and knows nothing else.

| measure | value |
|---|---|
| bits per byte | 1.412 |
| parameters | 4.2 M |

```python
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8642/v1", api_key="...")
```
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeded:
    """Ids of what was written."""

    model: Artifact
    books: Artifact
    build_id: str
    pretrain_id: str
    failed_id: str


def seed(registry: Registry) -> Seeded:
    """A finished build of four stages, whose second run reused the first two, and a failed one."""
    build = registry.start_run(recipe="lighthouse", config={"seed": 7, "stages": {"pretrain": {"steps": 300}}})
    books = _stage(registry, build.run_id, "data", "dataset", ())
    tokenizer = _stage(registry, build.run_id, "tokenizer", "tokenizer", (books,))
    again = registry.start_run(recipe="lighthouse", config={"seed": 7, "stages": {"pretrain": {"steps": 300}}})
    base = _stage(registry, again.run_id, "pretrain", "model", (books, tokenizer), steps=300)
    pretrain_id = base.run_id or ""
    model = _stage(registry, again.run_id, "sft", "model", (base, tokenizer), steps=120, card=CARD)
    registry.finish_run(build.run_id, status="interrupted", error="stopped by the user")
    registry.finish_run(again.run_id, status="succeeded", output=model.digest)
    registry.set_alias("lighthouse", model.digest)
    registry.set_alias("lighthouse-base", base.digest)
    failed = registry.start_run(recipe="storm", config={"seed": 1})
    registry.finish_run(failed.run_id, status="failed", error="the disk is full")
    return Seeded(
        model=model, books=books, build_id=again.run_id, pretrain_id=pretrain_id, failed_id=failed.run_id
    )


def write_metrics(registry: Registry, run_id: str, *, start: int, stop: int) -> None:
    """Append lines of a falling loss, with a validation every 25 steps."""
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
    card: str = "",
) -> Artifact:
    digests = [parent.digest for parent in parents]
    run = registry.start_run(
        recipe="lighthouse", stage=stage, key=f"key-{stage}", config={"stage": stage}, inputs=digests, parent_id=build_id
    )
    with registry.create(kind, parents=digests, metadata={"stage": stage, "steps": steps}, run_id=run.run_id) as writer:
        (writer.folder / f"{stage}.bin").write_bytes(stage.encode() * 1000)
        if card:
            (writer.folder / "card.md").write_text(card, encoding="utf-8")
    if steps:
        write_metrics(registry, run.run_id, start=1, stop=steps + 1)
    artifact = writer.artifact
    assert artifact is not None
    registry.finish_run(run.run_id, status="succeeded", output=artifact.digest)
    return artifact
