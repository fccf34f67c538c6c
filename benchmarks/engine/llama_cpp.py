"""llama.cpp as the peer: GGUF files of the shapes that are measured, and its own benchmark programs.

Build it with GGML_NATIVE=ON from the source distribution of llama-cpp-python; `--llama-bin` names the folder
of its programs. Files come from Cairn's exporter, the embedding in the matrices' format, so that both sides
read the same number of weights.
"""

import argparse
import json
import subprocess
from pathlib import Path

from cairn.models.gguf_export import GgufType, export_gguf

NO_VOCABULARY = {"tokenizer.ggml.model": "no_vocab"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every comparison with llama.cpp takes."""
    parser.add_argument(
        "--llama-bin", type=Path, help="folder of llama.cpp's programs; without it Cairn alone"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")


def gguf_of(checkpoint: Path, weights: GgufType) -> Path:
    """The checkpoint's GGUF file beside it, written the first time."""
    path = checkpoint / f"{weights}.gguf"
    if not path.exists():
        export_gguf(checkpoint, path, weights, NO_VOCABULARY)
    return path


def llama_bench(folder: Path, model: Path, threads: int, *, prompt: int = 0, output: int = 0) -> float:
    """Tokens a second of one stream, once, warm."""
    command = [
        folder / "llama-bench",
        "-m",
        model,
        "-t",
        threads,
        "-r",
        1,
        "-o",
        "json",
        "-p",
        prompt,
        "-n",
        output,
    ]
    found = json.loads(_output(*command, *(["-ub", prompt] if prompt else [])))
    return float(found[0]["avg_ts"])


def batched_bench(
    folder: Path, model: Path, threads: int, *, prompt: int, output: int, streams: int
) -> float:
    """Tokens a second of many streams, prompts and outputs together."""
    context = 2 * streams * (prompt + output)
    command = [
        folder / "llama-batched-bench",
        "-m",
        model,
        "-t",
        threads,
        "-tb",
        threads,
        "-c",
        context,
        "-b",
        2048,
    ]
    command += ["-ub", 512, "-npp", prompt, "-ntg", output, "-npl", streams, "--output-format", "jsonl"]
    lines = [line for line in _output(*command).splitlines() if line.startswith("{")]
    return float(json.loads(lines[-1])["speed"])


def _output(*command: object) -> str:
    return subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    ).stdout
