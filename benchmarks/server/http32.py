"""32 streaming clients over HTTP: `cairn up` beside llama-server, int4 beside Q4_0, the same weights and
prompts.

Both serve the 135 M Llama shape with random weights and a tokenizer of its own, exported to GGUF by Cairn;
both are alive throughout, on two threads, and answer in turn. A round is 32 clients that each send a prompt
of some 128 tokens, new every time, and read 64 tokens of `/v1/completions` as a stream, end tokens ignored.
Tokens are drawn at temperature 1 from the whole distribution, OpenAI's default: greedy, random weights
would repeat one token for ever, which Cairn would guess ahead. One client program for both; what it costs
is part of both sides.

    python -m benchmarks.server.http32 --llama-bin FOLDER [--rounds 5] [--threads 2] [--shape 135m]
        [--no-record]
"""

import argparse
import os
import random
import socket
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.record import record, steady_pairs
from benchmarks.server.running import CAIRN, running, wait_for
from benchmarks.server.served_model import export_peer, make_model, prompt
from benchmarks.server.sse_clients import Load, ask_all

from cairn.models.random_checkpoint import SHAPES

CLIENTS, PROMPT_WORDS, OUTPUT = 32, 49, 64
BAR = 1.5
_TIMES = ("first_token_p50", "first_token_p99", "gap_p50", "gap_p99")


@dataclass(slots=True)
class Side:
    """A server, and what its clients saw so far."""

    url: str
    model: str
    headers: dict[str, str] = field(default_factory=dict)
    loads: list[Load] = field(default_factory=list)

    def __call__(self) -> float:
        """Tokens a second of one round."""
        rng = random.Random(len(self.loads))  # the same prompts on both sides, none of them twice
        bodies: list[dict[str, Any]] = [
            {
                "model": self.model,
                "prompt": prompt(rng, PROMPT_WORDS),
                "max_tokens": OUTPUT,
                "ignore_eos": True,
                "temperature": 1,
                "top_p": 1,
                "top_k": 0,
                "min_p": 0,
                "seed": client,
            }
            for client in range(CLIENTS)
        ]
        load = ask_all(f"{self.url}/v1/completions", bodies, self.headers)
        assert load.num_tokens == CLIENTS * OUTPUT, f"{self.url} wrote {load.num_tokens} tokens"
        self.loads.append(load)
        return load.tokens_per_second

    def median(self, name: str) -> float:
        values: list[float] = [getattr(load, name) for load in self.loads]
        return statistics.median(values)


@contextmanager
def cairn_server(home: Path, shape: str, threads: int) -> Iterator[Side]:
    """`cairn up` as a user starts it, with its weights in int4."""
    env = {**os.environ, "CAIRN_HOME": str(home)}
    key = subprocess.run([CAIRN, "key", "create"], env=env, capture_output=True, text=True, check=True)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    command = [CAIRN, "up", shape, "--port", "0", "--weights", "int4"]
    with running(command, home=home) as server:
        wait_for(f"{server.url}/readyz")
        yield Side(server.url, shape, {"Authorization": f"Bearer {key.stdout.strip()}"})


@contextmanager
def llama_server(folder: Path, model: Path, threads: int) -> Iterator[Side]:
    """llama-server with a slot a client."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = [folder / "llama-server", "-m", model, "--port", port, "-t", threads, "-tb", threads]
    command += ["-np", CLIENTS, "-c", CLIENTS * 512, "--no-webui"]
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/health")
        yield Side(url, model.stem)
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--llama-bin", type=Path, required=True, help="folder of llama.cpp's programs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shape", choices=SHAPES, default="135m")
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, gguf = Path(folder) / "home", Path(folder) / "model.gguf"
        make_model(home, args.shape)
        export_peer(home, args.shape, gguf, "q4_0")
        with cairn_server(home, args.shape, args.threads) as own:  # noqa: SIM117 (two servers, one after the other)
            with llama_server(args.llama_bin, gguf, args.threads) as peer:
                compare(args, own, peer)


def compare(args: argparse.Namespace, own: Side, peer: Side) -> None:
    """Both in turn; what is recorded are medians."""
    for side in (own, peer):
        side()
        side.loads.clear()
    pairs = steady_pairs(args.rounds, own, peer)
    for name, side, rate in (("cairn", own, pairs.medians[0]), ("llama-server", peer, pairs.medians[1])):
        times = ", ".join(f"{each} {side.median(each):.1f} ms" for each in _TIMES)
        print(
            f"{name}: {rate:.1f} tok/s, {times}, prompts of {side.loads[0].num_prompt_tokens / CLIENTS:.0f}"
        )
    print(f"ratio {pairs.medians[0] / pairs.medians[1]:.2f} ({pairs})")
    if args.no_record or not pairs.num_kept:
        return
    load = f"{CLIENTS} streaming clients, {OUTPUT} tokens each, {args.shape} Llama shape, int4"
    load += f", {args.threads} threads"
    shared: dict[str, Any] = {
        "peer": "llama.cpp llama-server, Q4_0",
        "command": f"python -m benchmarks.server.http32 --rounds {args.rounds} --threads {args.threads}",
        "packages": ("fastapi", "uvicorn"),
    }
    record_id = f"engine.http32.int4.{args.shape}"
    record(
        "engine",
        f"{record_id}.vs_llamaserver",
        what=f"Tokens per second over HTTP, {load}",
        unit="tokens/s",
        cairn=pairs.medians[0],
        peer_value=pairs.medians[1],
        bar=BAR,
        **shared,
    )
    for name, what, bar in (
        ("gap_p99", "99 of 100 gaps between tokens are shorter than", 1.0),
        ("first_token_p99", "99 of 100 first tokens come within", None),
    ):
        record(
            "engine",
            f"{record_id}.{name}.vs_llamaserver",
            what=f"{what}, {load}",
            unit="ms",
            cairn=own.median(name),
            peer_value=peer.median(name),
            higher_is_better=False,
            bar=bar,
            **shared,
        )


if __name__ == "__main__":
    main()
