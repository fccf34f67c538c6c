"""Replies that copy from their prompt, with look-up speculation and without: code edits and summaries.

The prompts are files of this repository. An edit's reply is the file with its most frequent name replaced by
another; a summary's is the first sentence of every paragraph. So the texts are real, and how much of a reply
can be guessed is a property of them alone. The network has a Llama shape of 135 M parameters and random
weights: it computes every step in full, but the token that is chosen is the reply's next one instead of its
own likeliest, as if it were a model that did the task. Everything else is the engine as it serves: scheduler,
look-up, verification, costs measured by the clock. Text is cut by the starter model's tokenizer (4,096
tokens, so a name is two or three of them).

Both sides decode the same tokens one stream at a time, in turn within a round; prompts are computed before
the clock starts. The number is tokens per second over all replies, the median of the rounds.

    python -m benchmarks.engine.lookup [--rounds 5] [--threads 2] [--shape 135m] [--weights int4]
        [--no-record]
"""

import argparse
import re
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
from benchmarks.record import ROOT, record

from cairn.core.chat import SamplingParams
from cairn.data import Tokenizer
from cairn.engine import Engine, EngineConfig, ModelInput, NativeRunner, Request, TokenOutput
from cairn.engine.runner import FloatArray, IntArray, Logits
from cairn.engine.weight_reader import WeightFormat
from cairn.models.random_checkpoint import SHAPES, write_random_checkpoint

_CODE = ("engine/block_manager.py", "engine/sampler.py", "data/tokenizer.py", "providers/tool_calls.py")
_PROSE = ("engine.md", "checkpoints.md", "data.md", "structured-output.md")
_LONGEST = 800
"""Tokens of a source text; the rest of the file is left out."""
BAR = 1.8


class Told:
    """Logits whose likeliest token is told, after the network's own has been looked for."""

    def __init__(self, inner: Logits, tokens: IntArray) -> None:
        self._inner, self._tokens = inner, tokens

    def argmax(self) -> IntArray:
        self._inner.argmax()
        return self._tokens

    def select(self, rows: list[int]) -> FloatArray:
        return self._inner.select(rows)


class TellingRunner(NativeRunner):
    """Computes every step and then says what stands in `texts` (prompt and reply by request)."""

    texts: dict[str, list[int]]

    def run(self, model_input: ModelInput) -> Logits:
        tokens = []
        for row in model_input.logit_rows:
            text = self.texts[row.seq.request.request_id]
            # Guesses may reach beyond the reply; nobody asks what follows them.
            tokens.append(text[min(row.position + 1, len(text) - 1)])
        return Told(super().run(model_input), np.array(tokens, np.int64))


def edit(text: str) -> str:
    """The text with its most frequent name of six letters or more replaced."""
    [(name, _)] = Counter(re.findall(r"\b[a-z_]{6,}\b", text)).most_common(1)
    return re.sub(rf"\b{name}\b", f"{name}_of_step", text)


def summary(text: str) -> str:
    """The first sentence of every paragraph."""
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    prose = [part for part in paragraphs if re.match(r"[A-Z`*]", part) and "|" not in part]
    return "\n\n".join(re.split(r"(?<=[.:]) ", part)[0] for part in prose)


def tasks(tokenizer: Tokenizer) -> dict[str, tuple[list[int], list[int]]]:
    """Prompt and reply of each task, in tokens."""
    found = {}
    for folder, names, ask, reply in (
        (ROOT / "src" / "cairn", _CODE, "Rename its most frequent name:", edit),
        (ROOT / "docs", _PROSE, "Summarise, a sentence a paragraph:", summary),
    ):
        for name in names:
            source = tokenizer.decode(tokenizer.encode((folder / name).read_text("utf-8"))[:_LONGEST])
            prompt = tokenizer.encode(f"{source}\n\n{ask}\n\n")
            found[f"{reply.__name__} {name}"] = (prompt, tokenizer.encode(reply(source)))
    return found


def decode(engine: Engine, name: str, prompt: list[int], reply: list[int]) -> float:
    """Seconds from the reply's first token to its last."""
    sampling = SamplingParams(temperature=0, max_tokens=len(reply), ignore_eos=True)
    engine.add_request(Request(name, tuple(prompt), sampling))
    told: list[int | None] = []
    started = 0.0
    while engine.has_unfinished:
        told += [output.token_id for output in engine.step() if isinstance(output, TokenOutput)]
        started = started or (time.perf_counter() if told else 0.0)
    assert told == reply, "another reply than the given one"
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shape", choices=SHAPES, default="135m")
    parser.add_argument("--weights", choices=get_args(WeightFormat), default="int4")
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_random_checkpoint(Path(folder), SHAPES[args.shape])
        runners = [
            TellingRunner(Path(folder), weights=args.weights, num_threads=args.threads) for _ in range(2)
        ]
    work = tasks(Tokenizer.load(ROOT / "src" / "cairn" / "starter" / "text"))
    for runner in runners:
        runner.texts = {name: prompt + reply for name, (prompt, reply) in work.items()}
    sizes = EngineConfig(num_blocks=512)
    engines = [
        Engine(runner, sizes.model_copy(update={"lookup_tokens": most}))
        for runner, most in zip(runners, (sizes.lookup_tokens, 0), strict=True)
    ]
    seconds: list[dict[str, list[float]]] = [{name: [] for name in work} for _ in engines]
    for _ in range(args.rounds):
        for name, (prompt, reply) in work.items():
            for engine, times in zip(engines, seconds, strict=True):
                times[name].append(decode(engine, name, prompt, reply))
    report(args, work, engines[0], seconds)


def report(
    args: argparse.Namespace,
    work: dict[str, tuple[list[int], list[int]]],
    engine: Engine,
    seconds: list[dict[str, list[float]]],
) -> None:
    """Print a line a task, and keep the whole."""
    for name, (prompt, reply) in work.items():
        speeds = [len(reply) / statistics.median(times[name]) for times in seconds]
        print(
            f"{name}: {len(prompt)} in, {len(reply)} out, {speeds[0]:.0f} tok/s with look-up, "
            f"{speeds[1]:.0f} without, {speeds[0] / speeds[1]:.2f}x"
        )
    stats = engine.stats()
    drafted, accepted = stats.num_drafted_tokens["lookup"], stats.num_accepted_tokens["lookup"]
    print(
        f"{stats.num_generated_tokens} tokens in {stats.num_steps} steps; {drafted} guessed, {accepted} right"
    )
    num_tokens = sum(len(reply) for _, reply in work.values())
    with_it, without = (
        num_tokens / statistics.median(map(sum, zip(*times.values(), strict=True))) for times in seconds
    )
    print(f"all: {with_it:.0f} tok/s with look-up, {without:.0f} without, {with_it / without:.2f}x")
    if args.no_record:
        return
    record(
        "engine",
        "engine.lookup.copy",
        what=f"Tokens per second of one stream with look-up and without, {args.shape} Llama shape, "
        f"{args.weights}, {args.threads} threads: four code edits and four extractive summaries of this "
        "repository's files; the network computes every step, the reply's tokens are given",
        unit="tokens/s",
        cairn=with_it,
        peer="Cairn without look-up",
        peer_value=without,
        bar=BAR,
        command=f"python -m benchmarks.engine.lookup --rounds {args.rounds} --threads {args.threads}"
        f" --shape {args.shape} --weights {args.weights}",
        packages=("numpy",),
    )


if __name__ == "__main__":
    main()
