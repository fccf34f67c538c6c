"""32 streams of 128 tokens in and 64 out, through Cairn's engine and through llama-batched-bench; int4
beside Q4_0.

Tokens a second are prompts and outputs together over the whole time, on both sides. Cairn's requests arrive
together and go through its scheduler, which mixes prompts and outputs in a step; the peer reads all
prompts, then decodes. Random weights repeat themselves, which real ones do not: so Cairn's guessing ahead
is off here, and so is its prefix cache.

    python -m benchmarks.engine.batch32 --llama-bin FOLDER [--rounds 5] [--threads 2] [--shapes 135m 420m]
        [--no-record]
"""

import argparse
import random
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.engine.llama_cpp import add_arguments, batched_bench, gguf_of
from benchmarks.record import record, steady_pairs

from cairn.core.chat import SamplingParams
from cairn.engine import Engine, EngineConfig, NativeRunner, Request
from cairn.models.random_checkpoint import SHAPES, write_random_checkpoint

STREAMS, PROMPT, OUTPUT = 32, 128, 64
BAR = 1.8
_CONFIG = EngineConfig(max_num_seqs=STREAMS, lookup_tokens=0, prefix_cache=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["135m", "420m"])
    args = parser.parse_args()
    for shape in args.shapes:
        with tempfile.TemporaryDirectory() as folder:
            write_random_checkpoint(Path(folder), SHAPES[shape])
            measure(args, shape, Path(folder))


def measure(args: argparse.Namespace, shape: str, folder: Path) -> None:
    """One line: both sides in turn, medians."""
    runner = NativeRunner(folder, weights="int4", num_threads=args.threads)
    sides = [partial(run, runner)]
    if args.llama_bin:
        load = {"prompt": PROMPT, "output": OUTPUT, "streams": STREAMS}
        sides.append(partial(batched_bench, args.llama_bin, gguf_of(folder, "q4_0"), args.threads, **load))
    pairs = steady_pairs(args.rounds, *sides)
    cairn, theirs = pairs.medians[0], pairs.medians[1] if args.llama_bin else None
    line = f"batch32 int4 {shape}: cairn {cairn:.1f} tok/s"
    print(line + (f", llama.cpp {theirs:.1f}, ratio {cairn / theirs:.2f}" if theirs else ""), f"({pairs})")
    if args.no_record or not pairs.num_kept:
        return
    record(
        "engine",
        f"engine.batch32.int4.{shape}.vs_llamacpp",
        what=f"Tokens per second in and out, {STREAMS} streams of {PROMPT} + {OUTPUT} tokens, "
        f"{shape} Llama shape, int4, {args.threads} threads",
        unit="tokens/s",
        cairn=cairn,
        peer="llama.cpp llama-batched-bench, Q4_0" if theirs else None,
        peer_value=theirs,
        bar=BAR if theirs else None,
        command=f"python -m benchmarks.engine.batch32 --rounds {args.rounds} --threads {args.threads}",
        packages=("numpy",),
    )


def run(runner: NativeRunner) -> float:
    """Tokens a second of one round."""
    engine = Engine(runner, _CONFIG)
    rng = random.Random(0)
    sampling = SamplingParams(temperature=0, max_tokens=OUTPUT, ignore_eos=True)
    prompts = [tuple(rng.randrange(runner.vocab_size) for _ in range(PROMPT)) for _ in range(STREAMS)]
    started = time.perf_counter()
    for number, prompt in enumerate(prompts):
        engine.add_request(Request(str(number), prompt, sampling))
    num_tokens = 0
    while engine.has_unfinished:
        num_tokens += len(engine.step())
    seconds = time.perf_counter() - started
    assert num_tokens == STREAMS * OUTPUT
    return STREAMS * (PROMPT + OUTPUT) / seconds


if __name__ == "__main__":
    main()
