"""One stream through the native engine and through llama.cpp: decoding, and prompts of 512 tokens.

Llama shapes of 8 M, 135 M and 0.42 B parameters with random weights. The peer is llama-bench on GGUF files of
the same weights: Q4_0 beside int4, Q8_0 beside int8 (4.5 bits a weight on both sides, and 8.5 against
8.03), and beside bfloat16 the better of F16 and BF16. Both get the same number of threads; sides take turns,
twice a round, and a round in which one of them differs from itself by more than 20 % is dropped.

Cairn's time is that of `NativeRunner.run` with the argmax of its logits, over a context that grows from
nothing, as llama-bench's is that of llama_decode (without argmax). Both have done it once before.
`bandwidth_share` holds the bytes read (weights, keys, values) against what as many threads read from memory
in the same rounds.

    python -m benchmarks.engine.decode --llama-bin FOLDER [--rounds 5] [--threads 2] [--shapes 8m 135m 420m]
        [--formats int4 int8 bfloat16] [--prefill] [--no-record]
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from benchmarks.engine.llama_cpp import add_arguments, gguf_of, llama_bench
from benchmarks.record import record, steady_pairs

from cairn.compute.ceilings import read_bandwidth
from cairn.engine import NativeRunner
from cairn.engine.measurement import BLOCK, decode_cost, decode_steps, prompt_steps
from cairn.engine.weight_reader import WeightFormat
from cairn.models.gguf_export import GgufType
from cairn.models.random_checkpoint import SHAPES, write_random_checkpoint

PEER_FORMATS: dict[WeightFormat, tuple[GgufType, ...]] = {
    "int4": ("q4_0",),
    "int8": ("q8_0",),
    "bfloat16": ("f16", "bf16"),
}
BARS = {
    ("int4", "8m"): 3.0,
    ("int4", "135m"): 2.0,
    ("int4", "420m"): 1.5,
    ("int8", "8m"): 2.0,
    ("int8", "135m"): 1.6,
    ("int8", "420m"): 1.4,
}
"""Of decoding; prompts: 2 for all but the smallest shape."""
PROMPT = 512


@dataclass(slots=True)
class Cairn:
    """The native runner, driven step by step."""

    runner: NativeRunner
    num_tokens: int

    def __post_init__(self) -> None:
        # Once, as llama-bench: the first round is not counted, and the others meet memory that was touched.
        self.runner.allocate_kv_cache(1 + max(self.num_tokens, PROMPT) // BLOCK, BLOCK)

    def decode(self) -> float:
        """Tokens per second of one stream from nothing; its tokens are given, as in llama-bench."""
        steps = list(decode_steps(1, 0, self.num_tokens))
        started = time.perf_counter()
        for step in steps:
            self.runner.run(step).argmax()
        return self.num_tokens / (time.perf_counter() - started)

    def prefill(self) -> float:
        """Prompt tokens per second, in chunks of the engine's usual budget."""
        steps = list(prompt_steps(PROMPT))
        started = time.perf_counter()
        for step in steps:
            self.runner.run(step)
        return PROMPT / (time.perf_counter() - started)

    def bytes_per_token(self) -> float:
        """Read while decoding, on average."""
        contexts = range(1, self.num_tokens + 1)
        return float(np.mean([decode_cost(self.runner, 1, context).num_bytes for context in contexts]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--tokens", type=int, default=128, help="tokens decoded in a round")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--formats", nargs="+", choices=PEER_FORMATS, default=list(PEER_FORMATS))
    parser.add_argument("--prefill", action="store_true", help="measure prompts of 512 tokens instead")
    args = parser.parse_args()
    for shape in args.shapes:
        with tempfile.TemporaryDirectory() as folder:
            write_random_checkpoint(Path(folder), SHAPES[shape])
            for weights in args.formats:
                measure(args, shape, weights, Path(folder))


def measure(args: argparse.Namespace, shape: str, weights: WeightFormat, folder: Path) -> None:
    """One line of the table: both sides in turn, medians."""
    side = Cairn(NativeRunner(folder, weights=weights, num_threads=args.threads), args.tokens)
    run = side.prefill if args.prefill else side.decode
    kind, work = ("prefill", {"prompt": PROMPT}) if args.prefill else ("decode", {"output": args.tokens})
    peers = PEER_FORMATS[weights] if args.llama_bin else ()
    run()
    pairs = steady_pairs(
        args.rounds,
        run,
        *(
            partial(llama_bench, args.llama_bin, gguf_of(folder, peer), args.threads, **work)
            for peer in peers
        ),
        *([] if args.prefill else [lambda: read_bandwidth(args.threads)]),
    )
    cairn, *others = pairs.medians
    theirs, format_name = max(zip(others, peers, strict=False), default=(None, ""))
    line = f"{kind} {weights} {shape}: cairn {cairn:.1f} tok/s"
    if theirs:
        line += f", llama.cpp {format_name} {theirs:.1f}, ratio {cairn / theirs:.2f}"
    share = 0.0 if args.prefill else cairn * side.bytes_per_token() / others[-1]
    print(f"{line}, {share:.0%} of {others[-1] / 1e9:.1f} GB/s" if share else line, f"({pairs})", flush=True)
    if args.no_record or not pairs.num_kept:
        return
    command = f"python -m benchmarks.engine.decode --rounds {args.rounds} --threads {args.threads}"
    record(
        "engine",
        f"engine.{kind}.{weights.replace('bfloat', 'bf')}.{shape}.vs_llamacpp",
        what=f"Tokens per second, one stream, {kind}, {shape} Llama shape, {weights}, {args.threads} threads",
        unit="tokens/s",
        cairn=cairn,
        peer=f"llama.cpp llama-bench, {format_name.upper()}" if theirs else None,
        peer_value=theirs,
        bar=_bar(kind, weights, shape) if theirs else None,
        command=command + (" --prefill" if args.prefill else ""),
        packages=("numpy",),
    )
    if (kind, weights, shape) == ("decode", "int4", "420m"):
        record(
            "engine",
            "engine.decode.int4.420m.bandwidth_share",
            what="Bytes of weights, keys and values read a second while decoding, of the read bandwidth",
            unit="share",
            cairn=share,
            bar=0.9,
            command=command,
            packages=("numpy",),
        )


def _bar(kind: str, weights: str, shape: str) -> float | None:
    if kind == "prefill":
        return None if shape == "8m" else 2.0
    return BARS.get((weights, shape))


if __name__ == "__main__":
    main()
