"""One stream through the native engine and through llama.cpp: decoding, and prompts of 512 tokens.

Llama shapes of 8 M, 135 M and 0.42 B parameters with random weights. The peer is llama.cpp's own llama-bench
(build it with GGML_NATIVE=ON from the source distribution of llama-cpp-python) on GGUF files that this script
writes: Q4_0 beside int4 and Q8_0 beside int8, the embedding included, so that both sides read the same
number of weights at the same number of bits (4.5, and 8.5 against 8.03 here). Both get the same number of
threads; sides take turns, and the median of each side's rounds counts. Pairs whose own repeats differ by
more than 20 % say so.

Cairn's time is that of `NativeRunner.run` with the argmax of its logits, over a growing context, as
llama-bench's is that of llama_decode.

    python -m benchmarks.engine.decode --llama-bench PATH [--rounds 5] [--threads 2] [--shapes 8m 135m 420m]
        [--formats int4 int8] [--prefill] [--no-record]
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.record import record

from cairn.core.chat import SamplingParams
from cairn.engine import NativeRunner, Request
from cairn.engine.native_weights import WeightFormat
from cairn.engine.runner import LogitRow, ModelInput, PromptSpan
from cairn.engine.sequence import Sequence
from cairn.models import DecoderConfig
from cairn.models.gguf_export import GgufType, export_gguf
from cairn.models.parameters import parameter_shapes
from cairn.models.tensor_names import layouts

_COMMON: dict[str, Any] = {
    "model_type": "llama",
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
}
_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)
SHAPES = {
    "8m": dict(zip(_SIZES, (288, 768, 6, 6, 6), strict=True)) | {"vocab_size": 8192, "head_dim": 48},
    "135m": dict(zip(_SIZES, (576, 1536, 30, 9, 3), strict=True)) | {"vocab_size": 49_152},
    "420m": dict(zip(_SIZES, (1024, 3072, 28, 16, 8), strict=True)) | {"vocab_size": 65_536},
}
PEER_FORMATS: dict[WeightFormat, GgufType] = {"int4": "q4_0", "int8": "q8_0"}
BARS = {
    ("decode", "int4", "8m"): 3.0,
    ("decode", "int4", "135m"): 2.0,
    ("decode", "int4", "420m"): 1.5,
    ("decode", "int8", "8m"): 2.0,
    ("decode", "int8", "135m"): 1.6,
    ("decode", "int8", "420m"): 1.4,
}
_PROMPT, _BLOCK, _CHUNK = 512, 16, 256


def write_checkpoint(folder: Path, shape: dict[str, Any]) -> None:
    """Random weights as a float32 checkpoint, without torch."""
    values = _COMMON | shape
    config = DecoderConfig.from_hf(values)
    rng = np.random.default_rng(0)
    header: dict[str, Any] = {}
    at = 0
    arrays = []
    for name, size in parameter_shapes(config).items():
        array = np.ones(size, np.float32)
        if len(size) > 1:
            array = rng.standard_normal(size, np.float32) * np.float32(0.02)
        for piece in next(layouts(config, name, size)):
            part = array[piece.index] if piece.index else array
            header[piece.name] = {
                "dtype": "F32",
                "shape": list(part.shape),
                "data_offsets": [at, at + part.nbytes],
            }
            at += part.nbytes
            arrays.append(part)
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays:
            file.write(np.ascontiguousarray(array).data)
    (folder / "config.json").write_text(json.dumps(values))


@dataclass(slots=True)
class Cairn:
    """The native runner, driven step by step."""

    runner: NativeRunner
    num_tokens: int

    def decode(self) -> float:
        """Tokens per second of one stream from nothing; its tokens are given, as in llama-bench."""
        num_blocks = 1 + self.num_tokens // _BLOCK
        self.runner.allocate_kv_cache(num_blocks, _BLOCK)
        table = np.arange(num_blocks, dtype=np.int64)
        steps = [_decode_step(1 + position, position, table) for position in range(self.num_tokens)]
        started = time.perf_counter()
        for step in steps:
            self.runner.run(step).argmax()
        return self.num_tokens / (time.perf_counter() - started)

    def prefill(self) -> float:
        """Prompt tokens per second, in chunks of the engine's usual budget."""
        self.runner.allocate_kv_cache(_PROMPT // _BLOCK, _BLOCK)
        started = time.perf_counter()
        for start in range(0, _PROMPT, _CHUNK):
            self.runner.run(_prompt_step(start, start + _CHUNK))
        return _PROMPT / (time.perf_counter() - started)


def _sequence(num: int) -> Sequence:
    return Sequence(
        Request("a", (1,), SamplingParams(max_tokens=1)), index=0, seed=0, arrival=0, max_len=num + 2
    )


def _decode_step(token: int, position: int, table: Any) -> ModelInput:
    return ModelInput(
        token_ids=np.array([token], np.int64),
        positions=np.array([position], np.int64),
        slot_mapping=np.array([position], np.int64),
        decode_tables=table[None, : position // _BLOCK + 1],
        decode_lens=np.array([position + 1], np.int64),
        prompt_spans=(),
        logit_rows=(LogitRow(seq=_sequence(position), position=position, row=0),),
    )


def _prompt_step(start: int, stop: int) -> ModelInput:
    positions = np.arange(start, stop, dtype=np.int64)
    table = np.arange(-(-stop // _BLOCK), dtype=np.int64)
    rows = (
        (LogitRow(seq=_sequence(stop), position=stop - 1, row=stop - 1 - start),) if stop == _PROMPT else ()
    )
    return ModelInput(
        token_ids=positions % 1000,
        positions=positions,
        slot_mapping=positions,
        decode_tables=np.zeros((0, 0), np.int64),
        decode_lens=np.zeros(0, np.int64),
        prompt_spans=(PromptSpan(0, start, stop, table),),
        logit_rows=rows,
    )


def peer(binary: Path, model: Path, threads: int, num_tokens: int, *, prefill: bool) -> float:
    """Tokens per second as llama-bench measures them, once, warm."""
    work = (
        ["-p", str(_PROMPT), "-n", "0", "-ub", str(_PROMPT)]
        if prefill
        else ["-p", "0", "-n", str(num_tokens)]
    )
    command = [str(binary), "-m", str(model), "-t", str(threads), "-r", "1", "-o", "json", *work]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)[0]["avg_ts"])


def read_bandwidth(threads: int) -> float:
    """Bytes a second that this many threads read from memory, the best of five."""
    from concurrent.futures import ThreadPoolExecutor

    parts = np.ones((threads, 32 << 20), np.float64)

    def once() -> float:
        started = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(np.max, parts))
        return parts.nbytes / (time.perf_counter() - started)

    return max(once() for _ in range(5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--llama-bench", type=Path, help="llama.cpp's llama-bench; without it Cairn alone is measured"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=128, help="tokens decoded in a round")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--formats", nargs="+", choices=PEER_FORMATS, default=list(PEER_FORMATS))
    parser.add_argument("--prefill", action="store_true", help="measure prompts of 512 tokens instead")
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    args = parser.parse_args()
    for shape in args.shapes:
        with tempfile.TemporaryDirectory() as folder:
            write_checkpoint(Path(folder), SHAPES[shape])
            for weights in args.formats:
                measure(args, shape, weights, Path(folder))


def measure(args: argparse.Namespace, shape: str, weights: WeightFormat, folder: Path) -> None:
    """One line of the table: both sides in turn, medians."""
    side = Cairn(NativeRunner(folder, weights=weights, num_threads=args.threads), args.tokens)
    run = side.prefill if args.prefill else side.decode
    gguf = folder / f"{PEER_FORMATS[weights]}.gguf"
    if args.llama_bench:
        export_gguf(folder, gguf, PEER_FORMATS[weights], {"tokenizer.ggml.model": "no_vocab"})
    run()
    own, theirs = [], []
    for _ in range(args.rounds):
        own.append(run())
        if args.llama_bench:
            theirs.append(peer(args.llama_bench, gguf, args.threads, args.tokens, prefill=args.prefill))
    cairn, kind = statistics.median(own), "prefill" if args.prefill else "decode"
    value = statistics.median(theirs) if theirs else None
    gigabytes = cairn * side.runner.num_weight_bytes / 1e9
    line = f"{kind} {weights} {shape}: cairn {cairn:.1f} tok/s (best {max(own):.1f}"
    line += ")" if args.prefill else f", {gigabytes:.1f} GB/s)"
    if value:
        line += f", llama.cpp {value:.1f} (best {max(theirs):.1f}), ratio {cairn / value:.2f}"
    spread = max(max(side) / min(side) for side in (own, theirs) if side)
    print(line + (f", repeats differ by {spread - 1:.0%}" if spread > 1.2 else ""), flush=True)
    if args.no_record:
        return
    command = f"python -m benchmarks.engine.decode --rounds {args.rounds} --threads {args.threads}"
    record(
        "engine",
        f"engine.{kind}.{weights}.{shape}.vs_llamacpp",
        what=f"Tokens per second, one stream, {kind}, {shape} Llama shape, {weights}, {args.threads} threads",
        unit="tokens/s",
        cairn=cairn,
        peer="llama.cpp llama-bench" if value else None,
        peer_value=value,
        bar=BARS.get((kind, weights, shape), 2.0) if value else None,
        command=command + (" --prefill" if args.prefill else ""),
        packages=("numpy",),
    )
    if (kind, weights, shape) == ("decode", "int4", "420m"):
        record(
            "engine",
            "engine.decode.int4.420m.bandwidth_share",
            what="Weight bytes read a second while decoding, as a share of the read bandwidth beside it",
            unit="share",
            cairn=gigabytes * 1e9 / read_bandwidth(args.threads),
            bar=0.9,
            command=command,
            packages=("numpy",),
        )


if __name__ == "__main__":
    main()
