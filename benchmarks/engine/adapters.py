"""Streams over eight adapters against the same streams without any, in Cairn's engine.

The shape is the 135 M Llama of `decode`, random weights in int4; the adapters have rank 16 on all seven
projections of every layer, random too. Every stream has a prompt of 32 tokens and makes 64; stream i has
adapter i mod 8. Greedy, no end token, no guessing ahead, so both sides compute the same number of rows. Sides
take turns, medians count.

    python -m benchmarks.engine.adapters [--rounds 5] [--threads 2] [--streams 32] [--rank 16] [--shape 135m]
        [--no-record]
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarks.record import in_turn, record

from cairn.core.chat import SamplingParams
from cairn.engine import Engine, EngineConfig, NativeRunner, Request, TokenOutput
from cairn.models import DecoderConfig
from cairn.models.adapters import CONFIG_NAME, WEIGHTS_NAME
from cairn.models.generation import read_json
from cairn.models.random_checkpoint import SHAPES, write_random_checkpoint

NUM_ADAPTERS = 8
_PROMPT, _OUTPUT = 32, 64


def write_adapter(folder: Path, config: DecoderConfig, rank: int, seed: int) -> None:
    """A random adapter of a Llama in PEFT's layout, bfloat16 as most are shared."""
    hidden, width = config.hidden_size, config.layers[0].intermediate_size
    query, key = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    modules = {
        "self_attn.q_proj": (query, hidden),
        "self_attn.k_proj": (key, hidden),
        "self_attn.v_proj": (key, hidden),
        "self_attn.o_proj": (hidden, query),
        "mlp.gate_proj": (width, hidden),
        "mlp.up_proj": (width, hidden),
        "mlp.down_proj": (hidden, width),
    }
    rng, header, parts, at = np.random.default_rng(seed), {}, [], 0
    for layer in range(config.num_layers):
        for module, (size_out, size_in) in modules.items():
            for side, shape in (("A", (rank, size_in)), ("B", (size_out, rank))):
                values = rng.normal(0.0, 0.02, shape).astype(np.float32)
                parts.append((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())
                name = f"base_model.model.model.layers.{layer}.{module}.lora_{side}.weight"
                header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + len(parts[-1])]}
                at += len(parts[-1])
    text = json.dumps(header).encode()
    folder.mkdir()
    (folder / WEIGHTS_NAME).write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))
    (folder / CONFIG_NAME).write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": rank}))


class Side:
    """Output tokens per second of all streams, with adapters or without."""

    def __init__(self, runner: NativeRunner, adapters: list[Path], num_streams: int) -> None:
        self._runner, self._adapters, self._num_streams = runner, adapters, num_streams

    def __call__(self) -> float:
        config = EngineConfig(
            max_num_seqs=self._num_streams,
            num_blocks=8 * self._num_streams,
            lookup_tokens=0,
            prefix_cache=False,
        )
        engine = Engine(self._runner, config)
        for folder in self._adapters:
            engine.adapters.load(folder.name, folder)
        rng = random.Random(0)
        for i in range(self._num_streams):
            prompt = tuple(rng.randrange(1000) for _ in range(_PROMPT))
            sampling = SamplingParams(temperature=0, max_tokens=_OUTPUT, ignore_eos=True)
            adapter = self._adapters[i % len(self._adapters)].name if self._adapters else ""
            engine.add_request(Request(f"r{i}", prompt, sampling, adapter=adapter))
        started, num = time.perf_counter(), 0
        while engine.has_unfinished:
            num += sum(isinstance(output, TokenOutput) for output in engine.step())
        return num / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--shape", choices=SHAPES, default="135m")
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        base = Path(made) / "base"
        base.mkdir()
        write_random_checkpoint(base, SHAPES[args.shape])
        config = DecoderConfig.from_hf(read_json(base / "config.json"))
        folders = [Path(made) / f"adapter-{i}" for i in range(NUM_ADAPTERS)]
        for i, folder in enumerate(folders):
            write_adapter(folder, config, args.rank, i)
        runner = NativeRunner(base, weights="int4", num_threads=args.threads)
        adapted, plain = in_turn(
            args.rounds, Side(runner, folders, args.streams), Side(runner, [], args.streams)
        )
    print(f"{NUM_ADAPTERS} adapters {adapted:.1f} tok/s, none {plain:.1f}, ratio {adapted / plain:.2f}")
    if args.no_record:
        return
    record(
        "engine",
        "engine.adapters.8",
        what=f"Output tokens per second, {args.streams} streams over {NUM_ADAPTERS} adapters of rank "
        f"{args.rank} on all projections, {args.shape} Llama shape, int4, {args.threads} threads",
        unit="tokens/s",
        cairn=adapted,
        peer="Cairn, no adapters",
        peer_value=plain,
        bar=0.8,
        command=f"python -m benchmarks.engine.adapters --rounds {args.rounds} --threads {args.threads} "
        f"--streams {args.streams}",
        packages=("numpy",),
    )


if __name__ == "__main__":
    main()
