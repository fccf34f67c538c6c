"""A training step of a 30 M decoder on packed documents: Cairn's Trainer beside a plain loop over
transformers' LlamaForCausalLM with padding-free batches.

Both sides train the same model (8 layers of 512, 8 heads, SwiGLU 1408, vocabulary 8192, tied) on the same
batches in the same precision, each in its own process, in turn. The peer gets its best setting on a CPU: sdpa
attention, which masks the documents of a flat batch apart by their position_ids, fused AdamW and the
usual gradient clipping. Tokens per second are the median over the steps after the first; memory is the
process's peak resident size, libraries included.

    python -m benchmarks.training.step                 # five rounds, records both numbers
    python -m benchmarks.training.step --smoke         # one short round, records nothing
    python -m benchmarks.training.step --dtype bfloat16
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.record import ROOT, record

VOCABULARY = 8192
CONTEXT = 1024
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
}
LEARNING_RATE = 3e-4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="steps of a round; the first is not counted")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens of a step")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--smoke", action="store_true", help="one round of two short steps, nothing recorded")
    parser.add_argument("--side", choices=("cairn", "transformers"), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        measure = {"cairn": measure_cairn, "transformers": measure_transformers}[options.side]
        print(json.dumps(measure(options)))
        return
    if options.smoke:
        options.rounds, options.steps, options.tokens = 1, 2, 512
    options.dtype = resolved(options.dtype)
    with tempfile.TemporaryDirectory() as folder:
        options.data = Path(folder) / "shards"
        write_documents(options.data, 2 * options.steps * options.tokens)
        report(options, run_rounds(options))


def resolved(dtype: str) -> str:
    """The precision both sides use: bfloat16 where this machine multiplies it in hardware."""
    import torch

    from cairn.training.precision import resolve_dtype

    return resolve_dtype(dtype, torch.device("cpu"))


def write_documents(folder: Path, num_tokens: int) -> None:
    """Documents of log-normal length (median 300 tokens, at most the context) of random tokens."""
    from cairn.data import write_shards

    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(np.log(300), 0.8, size=num_tokens // 16), 16, CONTEXT).astype(int)
    kept = lengths[: int(np.searchsorted(lengths.cumsum(), num_tokens)) + 1]
    documents = ((random.integers(0, VOCABULARY, size=length), None, int(length)) for length in kept)
    write_shards(documents, folder, vocab_size=VOCABULARY)


def run_rounds(options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Both sides in turn, each time in a fresh process."""
    found: dict[str, list[dict[str, float]]] = {"cairn": [], "transformers": []}
    for number in range(options.rounds):
        for side, results in found.items():
            results.append(in_process(side, options))
            print(f"round {number + 1} {side}: {results[-1]}", file=sys.stderr, flush=True)
    return found


def in_process(side: str, options: argparse.Namespace) -> dict[str, float]:
    """One side's measurement, from its own process."""
    command = [sys.executable, "-m", "benchmarks.training.step", "--side", side, "--data", str(options.data)]
    for name in ("steps", "tokens", "threads", "dtype"):
        command += [f"--{name}", str(getattr(options, name))]
    threads = {"OMP_NUM_THREADS": str(options.threads), "MKL_NUM_THREADS": str(options.threads)}
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **threads}, check=True, stdout=subprocess.PIPE, text=True
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure_cairn(options: argparse.Namespace) -> dict[str, float]:
    """Cairn's Trainer as anyone would call it; its own metrics say how fast every step was."""
    from cairn.data import PackedDataset
    from cairn.models import Decoder, DecoderConfig
    from cairn.training import TrainConfig, Trainer

    config = TrainConfig(
        steps=options.steps,
        batch_tokens=options.tokens,
        learning_rate=LEARNING_RATE,
        schedule="constant",
        warmup_steps=0,
        dtype=options.dtype,
        threads=options.threads,
        log_every=1,
    )
    model = Decoder(DecoderConfig.from_hf({"model_type": "llama", "rope_theta": 10000.0, **SHAPE}))
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        result = Trainer(model, PackedDataset.open(options.data), config, run_folder=run).fit()
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rates = [line["tokens_per_second"] for line in lines[1:]]
    return outcome(statistics.median(rates), result.final_loss)


def measure_transformers(options: argparse.Namespace) -> dict[str, float]:
    """The loop of any tutorial, over the same batches."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from cairn.data import PackedDataset

    torch.set_num_threads(options.threads)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[options.dtype]
    config: Any = LlamaConfig(**SHAPE)
    config._attn_implementation = "sdpa"
    model: Any = LlamaForCausalLM(config)
    model.to(dtype)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    data = PackedDataset.open(options.data)
    rates = []
    for step in range(options.steps):
        started = time.perf_counter()
        batch = data.batch(step, tokens=options.tokens, seed=0, max_document=CONTEXT)
        loss = model(
            input_ids=torch.from_numpy(batch.input_ids)[None],
            position_ids=torch.from_numpy(batch.positions)[None],
            labels=torch.from_numpy(batch.labels)[None],
            shift_labels=torch.from_numpy(batch.labels)[None],
            use_cache=False,
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        last = loss.item()
        rates.append(options.tokens / (time.perf_counter() - started))
    return outcome(statistics.median(rates[1:]), last)


def outcome(rate: float, loss: float) -> dict[str, float]:
    """What a side reports; the losses show that both did the same work."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"tokens_per_second": rate, "peak_memory_bytes": peak, "loss": loss}


def report(options: argparse.Namespace, found: dict[str, list[dict[str, float]]]) -> None:
    """Print the medians, and record them unless this was a smoke run."""

    def median(side: str, name: str) -> float:
        return statistics.median(result[name] for result in found[side])

    speed = [median(side, "tokens_per_second") for side in found]
    memory = [median(side, "peak_memory_bytes") / 1e6 for side in found]
    print(f"tokens/s: {speed[0]:.0f} against {speed[1]:.0f}, {speed[0] / speed[1]:.2f}x")
    print(f"peak MB: {memory[0]:.0f} against {memory[1]:.0f}, {memory[0] / memory[1]:.2f}x")
    if options.smoke:
        return
    setting = f"30 M Llama, {options.dtype}, {options.tokens} packed tokens a step, {options.threads} threads"
    common: dict[str, Any] = {
        "command": "python -m benchmarks.training.step",
        "peer": "transformers LlamaForCausalLM, padding-free, sdpa, fused AdamW",
        "packages": ("torch", "transformers"),
    }
    record(
        "training",
        "training.step.30m.vs_transformers",
        what=f"training step, {setting}",
        unit="tokens/s",
        cairn=speed[0],
        peer_value=speed[1],
        bar=1.3,
        **common,
    )
    record(
        "training",
        "training.memory.30m.vs_transformers",
        what=f"peak memory of training, {setting}",
        unit="MB",
        cairn=memory[0],
        peer_value=memory[1],
        higher_is_better=False,
        bar=1.25,
        **common,
    )


if __name__ == "__main__":
    main()
