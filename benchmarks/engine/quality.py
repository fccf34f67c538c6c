"""What weights of 8 and 4 bits cost: the starter model on held-out text, beside llama.cpp's formats.

For each token of held-out books, read in windows of the model's context, the float32 model's distribution
is held against that of the rounded one: Kullback-Leibler divergence (nats a token) and how often both put the
same token first. Cairn's side rounds the activations to 8 bits as it does when it serves. The peer is the
same float32 model with every matrix rounded by llama.cpp's reference quantiser (package gguf) to Q4_0 or
Q8_0 and back; its activations stay exact, which llama.cpp's own do not.

    CAIRN_MIRROR=FOLDER python -m benchmarks.engine.quality [--windows 32] [--no-record]
"""

import argparse
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from benchmarks.record import record
from benchmarks.starter.text import texts
from numpy.typing import NDArray
from safetensors.numpy import save_file

from cairn.core import Settings
from cairn.core.chat import SamplingParams
from cairn.data import Tokenizer
from cairn.engine import NativeRunner, Request
from cairn.engine.runner import LogitRow, ModelInput, PromptSpan
from cairn.engine.sequence import Sequence
from cairn.engine.weight_reader import WeightFormat
from cairn.lifecycle.corpus import token_documents
from cairn.lifecycle.starter import STARTERS
from cairn.models.mapped_weights import map_weights

_BLOCK = 16
PEERS: dict[WeightFormat, gguf.GGMLQuantizationType] = {
    "int8": gguf.GGMLQuantizationType.Q8_0,
    "int4": gguf.GGMLQuantizationType.Q4_0,
}
Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Loss:
    """Means over all tokens."""

    divergence: float
    agreement: float


def logits(runner: NativeRunner, window: list[int]) -> Scores:
    """Logits [T, vocab] of every token of a window."""
    num = len(window)
    table = np.arange(-(-num // _BLOCK), dtype=np.int64)
    runner.allocate_kv_cache(len(table), _BLOCK)
    positions = np.arange(num, dtype=np.int64)
    request = Request("window", tuple(window), SamplingParams(max_tokens=1))
    seq = Sequence(request, index=0, seed=0, arrival=0, max_len=num + 1)
    step = ModelInput(
        token_ids=np.array(window, np.int64),
        positions=positions,
        slot_mapping=positions,
        decode_tables=np.zeros((0, 0), np.int64),
        decode_lens=np.zeros(0, np.int64),
        prompt_spans=(PromptSpan(0, 0, num, table),),
        logit_rows=tuple(LogitRow(seq=seq, position=i, row=i) for i in range(num)),
    )
    return runner.run(step).select(list(range(num)))


def log_probabilities(scores: Scores) -> NDArray[np.float64]:
    """Log-softmax over the vocabulary."""
    shifted = scores.astype(np.float64) - scores.max(-1, keepdims=True)
    whole: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return whole


def loss(exact: NativeRunner, rounded: NativeRunner, windows: list[list[int]]) -> Loss:
    """How far the rounded model's distributions are from the exact one's."""
    divergences, agreements = [], []
    for window in windows:
        one, other = (log_probabilities(logits(runner, window)) for runner in (exact, rounded))
        divergences.append((np.exp(one) * (one - other)).sum(-1))
        agreements.append(one.argmax(-1) == other.argmax(-1))
    return Loss(float(np.concatenate(divergences).mean()), float(np.concatenate(agreements).mean()))


def rounded_checkpoint(source: Path, folder: Path, kind: gguf.GGMLQuantizationType) -> Path:
    """The checkpoint with every matrix rounded to a format of llama.cpp and back."""
    tensors = {}
    for name, tensor in map_weights(source).items():
        values = np.ascontiguousarray(tensor.read())
        if values.ndim > 1:
            values = gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)
        tensors[name] = values.astype(np.float32)
    target = folder / kind.name
    target.mkdir()
    save_file(tensors, target / "model.safetensors")
    shutil.copy(source / "config.json", target)
    return target


def held_out_windows(model: Path, count: int, length: int) -> list[list[int]]:
    """Windows of held-out text, evenly over the books."""
    _, held_out = texts(Settings.from_env())
    stream = np.concatenate(token_documents(held_out, Tokenizer.load(model)))
    starts = np.linspace(0, len(stream) - length, count).astype(int)
    return [stream[start : start + length].tolist() for start in starts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    args = parser.parse_args()
    model = STARTERS / "text"
    exact = NativeRunner(model, weights="float32")
    windows = held_out_windows(model, args.windows, exact.max_position)
    num_tokens = sum(map(len, windows))
    with tempfile.TemporaryDirectory() as folder:
        for weights, kind in PEERS.items():
            ours = loss(exact, NativeRunner(model, weights=weights), windows)
            peer = NativeRunner(rounded_checkpoint(model, Path(folder), kind), weights="float32")
            theirs = loss(exact, peer, windows)
            print(
                f"{weights}: divergence {ours.divergence:.5f} nats, same first {ours.agreement:.2%}; "
                f"{kind.name} {theirs.divergence:.5f} nats, {theirs.agreement:.2%}"
            )
            if args.no_record:
                continue
            where = f"starter model, {num_tokens:,} held-out tokens"
            for record_id, what, unit, own, other in (
                ("kl", "KL divergence from float32", "nats/token", ours.divergence, theirs.divergence),
                ("top1", "same first token as float32", "share", ours.agreement, theirs.agreement),
            ):
                record(
                    "engine",
                    f"quality.{weights}.{record_id}",
                    what=f"{what}, {weights}, {where}",
                    unit=unit,
                    depends_on_machine=False,
                    cairn=own,
                    peer=f"llama.cpp's {kind.name} weights, exact activations",
                    peer_value=other,
                    higher_is_better=record_id == "top1",
                    command="python -m benchmarks.engine.quality",
                    packages=("gguf", "numpy"),
                )


if __name__ == "__main__":
    main()
