"""32 requests that begin with the same 1,000 tokens: how long their first token takes, against none of
these tokens.

A request is the shared tokens and `--own` of its own (64; a question after a long system prompt). They were
read once before, by another request. Beside it the same 32 requests without the shared tokens. Once all at
the same time, the median request counts (this is recorded), and once one after the other. 135 M Llama
shape, int4. The cache has 512 blocks, all written to before: the system gives memory out when it is first
touched, and a step that met such took up to 150 ms longer on either side.

    python -m benchmarks.engine.prefix [--rounds 5] [--threads 2] [--own 64] [--shape 135m] [--no-record]
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.record import record, steady_pairs

from cairn.core.chat import SamplingParams
from cairn.engine import Engine, EngineConfig, NativeRunner, Request
from cairn.models.random_checkpoint import SHAPES, write_random_checkpoint

STREAMS, SHARED, NUM_BLOCKS = 32, 1000, 512
BAR = 1.3
Prompt = tuple[int, ...]


class Side:
    """An engine that has read the shared tokens (or none), and new requests every time it is asked."""

    def __init__(self, runner: NativeRunner, num_shared: int, num_own: int) -> None:
        self._rng = random.Random(num_shared)
        self._vocab_size, self._num_own = runner.vocab_size, num_own
        self._shared = self._tokens(num_shared)
        config = EngineConfig(
            max_num_seqs=STREAMS, lookup_tokens=0, num_blocks=NUM_BLOCKS, max_model_len=2048
        )
        self._engine = Engine(runner, config)
        first_tokens(self._engine, [self._prompt()])
        for _ in range(NUM_BLOCKS * config.block_size // (STREAMS * num_own) + 1):
            self.together()

    def together(self) -> float:
        """Milliseconds to the first token of the median request of 32 at once."""
        return statistics.median(first_tokens(self._engine, [self._prompt() for _ in range(STREAMS)]))

    def in_turn(self) -> float:
        """The same where each waits for the one before."""
        return statistics.median(first_tokens(self._engine, [self._prompt()])[0] for _ in range(STREAMS))

    def _prompt(self) -> Prompt:
        return self._shared + self._tokens(self._num_own)

    def _tokens(self, count: int) -> Prompt:
        return tuple(self._rng.randrange(self._vocab_size) for _ in range(count))


def first_tokens(engine: Engine, prompts: Sequence[Prompt]) -> list[float]:
    """Milliseconds from now to the first token of each."""
    started = time.perf_counter()
    for number, prompt in enumerate(prompts):
        engine.add_request(Request(str(number), prompt, SamplingParams(temperature=0, max_tokens=1)))
    times: list[float] = []
    while engine.has_unfinished:
        num = len(engine.step())
        times += [1000 * (time.perf_counter() - started)] * num
    assert len(times) == len(prompts)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--own", type=int, default=64, help="tokens of a request that nobody shares")
    parser.add_argument("--shape", choices=SHAPES, default="135m")
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_random_checkpoint(Path(folder), SHAPES[args.shape])
        # A runner has one cache, so each side has its own; the weights are small beside it.
        runner = partial(NativeRunner, Path(folder), weights="int4", num_threads=args.threads)
        with_prefix, without = Side(runner(), SHARED, args.own), Side(runner(), 0, args.own)
    pairs = steady_pairs(args.rounds, with_prefix.together, without.together)
    turns = steady_pairs(args.rounds, with_prefix.in_turn, without.in_turn)
    for how, found in (("together", pairs), ("in turn", turns)):
        cached, alone = found.medians
        times = f"{cached:.1f} ms after {SHARED} shared tokens, {alone:.1f} without"
        print(f"{how}: {times}, {cached / alone:.2f}x ({found})")
    if args.no_record or not pairs.num_kept:
        return
    record(
        "engine",
        f"engine.prefix.{SHARED}",
        what=f"Time to the first token of {STREAMS} requests at once that share {SHARED} tokens "
        f"read before and have {args.own} of their own, over that without the shared; "
        f"{args.shape} Llama shape, int4, {args.threads} threads",
        unit="x",
        cairn=pairs.medians[0] / pairs.medians[1],
        higher_is_better=False,
        bar=BAR,
        command=f"python -m benchmarks.engine.prefix --rounds {args.rounds} --threads {args.threads}",
        packages=("numpy",),
    )


if __name__ == "__main__":
    main()
