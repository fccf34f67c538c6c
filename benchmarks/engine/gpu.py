"""Decoding on a GPU: Cairn's engine beside transformers with a static cache and torch.compile.

Llama shapes of 0.5 B and 1.5 B parameters (those of Qwen 2.5) with random weights in bfloat16, one stream and
64. Prompts of 128 tokens, then 256 tokens each, greedy, no end token. Both sides are timed from the first
token of all streams to the last: Cairn through `Engine`, scheduling and sampling included, transformers as
generate to 257 tokens less generate to 1. Weights are the same on both sides.

`bandwidth_share` is what one stream of the 1.5 B shape must read a second (every weight once, the keys and
values it sees), of what a copy within the device's memory reads and writes.

Where there is no GPU the same code runs once over a tiny shape on the CPU, and nothing is recorded.

    python -m benchmarks.engine.gpu [--rounds 5] [--shapes 0.5b 1.5b] [--streams 1 64] [--weights bfloat16]
        [--no-record]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.record import record, steady_pairs

from cairn.core.chat import SamplingParams
from cairn.engine import Engine, EngineConfig, Request, TorchRunner
from cairn.models import load_decoder
from cairn.models.random_checkpoint import SHAPES as CPU_SHAPES
from cairn.models.random_checkpoint import write_random_checkpoint


def _shape(hidden: int, inner: int, layers: int, heads: int, head_dim: int) -> dict[str, Any]:
    return CPU_SHAPES["135m"] | {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 2,
        "head_dim": head_dim,
        "vocab_size": 151_936,
        "max_position_embeddings": 4096,
    }


SHAPES = {"0.5b": _shape(896, 4864, 24, 14, 64), "1.5b": _shape(1536, 8960, 28, 12, 128)}
TINY = _shape(64, 128, 2, 4, 16) | {"vocab_size": 512}
PROMPT, OUTPUT = 128, 256


@dataclass(frozen=True, slots=True)
class Load:
    """Streams with a prompt and as many tokens after the first."""

    num_streams: int
    prompt: int
    output: int
    vocab_size: int

    def prompts(self) -> np.ndarray:
        """Token ids [streams, prompt]."""
        return np.random.default_rng(0).integers(0, self.vocab_size, (self.num_streams, self.prompt))

    def rate(self, seconds: float) -> float:
        """Tokens per second of all streams."""
        return self.num_streams * self.output / seconds


class CairnSide:
    """One engine for all rounds, so that its graphs are recorded once."""

    def __init__(self, folder: Path, load: Load, device: str, weights: str) -> None:
        model = load_decoder(folder, dtype=torch.bfloat16, device=device)
        rounding: Any = None if weights == "bfloat16" else weights
        self.runner = TorchRunner(model, tiled=True, weights=rounding)
        config = EngineConfig(
            max_num_seqs=load.num_streams,
            token_budget=load.num_streams * load.prompt,
            num_blocks=load.num_streams * -(-(load.prompt + load.output + 1) // 16),
            prefix_cache=False,
            lookup_tokens=0,
        )
        self.engine, self.load, self._ids = Engine(self.runner, config), load, count()

    def __call__(self) -> float:
        sampling = SamplingParams(temperature=0, max_tokens=self.load.output + 1, ignore_eos=True)
        for prompt in self.load.prompts().tolist():
            self.engine.add_request(Request(f"r{next(self._ids)}", tuple(prompt), sampling))
        # The budget takes all prompts in one step, which ends with a token each.
        assert len(self.engine.step()) == self.load.num_streams
        started, num = time.perf_counter(), 0
        while self.engine.has_unfinished:
            num += len(self.engine.step())
        assert num == self.load.num_streams * self.load.output
        return self.load.rate(time.perf_counter() - started)

    def bytes_per_token(self) -> float:
        """What one stream reads for a token, on average."""
        context = self.load.prompt + self.load.output / 2
        return self.runner.num_weight_bytes + context * self.runner.bytes_per_block(16) / 16


class TransformersSide:
    """generate with a static cache, its forward compiled where there is a GPU."""

    def __init__(self, folder: Path, load: Load, device: str) -> None:
        from transformers import AutoModelForCausalLM

        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        self.model = model.to(device).eval()
        self.model.generation_config.cache_implementation = "static"
        if device == "cuda":
            self.model.forward = torch.compile(self.model.forward, mode="reduce-overhead", fullgraph=True)
        self.prompts = torch.from_numpy(load.prompts()).to(device)
        self.load = load

    def __call__(self) -> float:
        return self.load.rate(self._seconds(self.load.output + 1) - self._seconds(1))

    def _seconds(self, num: int) -> float:
        _wait()
        started = time.perf_counter()
        with torch.inference_mode():
            self.model.generate(
                self.prompts,
                attention_mask=torch.ones_like(self.prompts),
                max_new_tokens=num,
                min_new_tokens=num,
                do_sample=False,
                pad_token_id=0,
                eos_token_id=None,
            )
        _wait()
        return time.perf_counter() - started


def copy_bandwidth(device: str, num_bytes: int) -> float:
    """Bytes read and written a second by a copy within the device's memory."""
    source = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = []
    for _ in range(5):
        _wait()
        started = time.perf_counter()
        target.copy_(source)
        _wait()
        times.append(time.perf_counter() - started)
    return 2 * num_bytes / sorted(times)[2]


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(
    args: argparse.Namespace, name: str, folder: Path, load: Load, keep: Callable[..., object]
) -> None:
    """Both sides in turn, medians; `keep` records them."""
    side = CairnSide(folder, load, args.device, args.weights)
    peer = TransformersSide(folder, load, args.device)
    side(), peer()
    side(), peer()
    pairs = steady_pairs(args.rounds, side, peer)
    cairn, theirs = pairs.medians
    print(
        f"{name}, {load.num_streams} streams, {args.weights}: cairn {cairn:.1f} tok/s, "
        f"transformers {theirs:.1f}, ratio {cairn / theirs:.2f} ({pairs})",
        flush=True,
    )
    keep(
        f"engine.gpu.decode.{name}.{load.num_streams}.vs_transformers",
        what=f"Tokens per second, {load.num_streams} streams, decode, {name} Llama shape, {args.weights}",
        unit="tokens/s",
        cairn=cairn,
        peer="transformers, bfloat16, static cache, torch.compile",
        peer_value=theirs,
    )
    if (name, load.num_streams) == ("1.5b", 1):
        share = cairn * side.bytes_per_token() / copy_bandwidth(args.device, 1 << 30)
        print(f"{share:.0%} of the bandwidth of a copy", flush=True)
        what = (
            f"Bytes of weights, keys and values read a second, one stream, 1.5b, {args.weights}, of a copy's"
        )
        keep("engine.gpu.bandwidth_share", what=what, unit="share", cairn=share)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--streams", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--weights", choices=("bfloat16", "fp8", "int4"), default="bfloat16")
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    args = parser.parse_args()
    args.device = "cuda" if torch.cuda.is_available() else "cpu"
    shapes = {name: SHAPES[name] for name in args.shapes}
    prompt, output = PROMPT, OUTPUT
    if args.device == "cpu":
        print("There is no GPU here: a tiny shape on the CPU shows that this runs, and nothing is recorded.")
        args.no_record, args.rounds, args.streams = True, 1, [1, 3]
        shapes, prompt, output = {"tiny": TINY}, 20, 8

    def keep(record_id: str, **values: Any) -> None:
        # Only bfloat16 is what the peer computes in.
        if not args.no_record and args.weights == "bfloat16":
            command = f"python -m benchmarks.engine.gpu --rounds {args.rounds}"
            record("engine", record_id, command=command, packages=("torch", "transformers"), **values)

    for name, values in shapes.items():
        with tempfile.TemporaryDirectory() as folder:
            write_random_checkpoint(Path(folder), values)
            for num_streams in args.streams:
                load = Load(num_streams, prompt, output, values["vocab_size"])
                measure(args, name, Path(folder), load, keep)


if __name__ == "__main__":
    main()
