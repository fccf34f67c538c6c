"""Sixteen concurrent requests of mixed length through Cairn's engine and through transformers' generate.

The shape is a 135 M Llama (30 layers of 576, 9 heads over 3 key-value heads, vocabulary 49,152, tied), random
weights in bfloat16. Prompts of 32 to 512 tokens and outputs of 32 to 256, from a fixed seed, no end token.
transformers gets them as one left-padded batch (scaled dot-product attention, its own cache) and runs to the
longest output; only each row's requested tokens count, on both sides. Both sides are greedy and use the same
number of threads. Every round is a fresh engine, so nothing comes from a warm prefix cache.

Each side runs in the dtype it chooses for a bfloat16 checkpoint: transformers in bfloat16; Cairn too where
the CPU multiplies bfloat16, otherwise in float32. A second record gives transformers a float32 copy as well.

    python -m benchmarks.engine.batch16 [--rounds 3] [--threads 2] [--share 1.0] [--no-record]
"""

import argparse
import random
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from benchmarks.record import in_turn, record

from cairn.core.chat import SamplingParams
from cairn.engine import Engine, EngineConfig, Request, TokenOutput, TorchRunner
from cairn.models import Decoder, DecoderConfig

SHAPE: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
}
NUM_REQUESTS = 16


@dataclass(frozen=True, slots=True)
class Job:
    """A prompt and how many tokens to make of it."""

    prompt: tuple[int, ...]
    num_output: int


def jobs(share: float) -> list[Job]:
    """The workload; `share` shortens the outputs for a quick look."""
    rng = random.Random(0)
    lengths = [(rng.randint(32, 512), rng.randint(32, 256)) for _ in range(NUM_REQUESTS)]
    return [
        Job(tuple(rng.randrange(SHAPE["vocab_size"]) for _ in range(prompt)), max(1, round(output * share)))
        for prompt, output in lengths
    ]


@dataclass(slots=True)
class CairnSide:
    """Cairn's engine, all requests added at once; collects times to first token."""

    work: list[Job]
    runner: TorchRunner = field(init=False)
    first_tokens: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.runner = TorchRunner(Decoder(DecoderConfig.from_hf(SHAPE)).to(torch.bfloat16))

    def __call__(self) -> float:
        """Output tokens per second of one round."""
        engine = Engine(self.runner, EngineConfig(max_num_seqs=NUM_REQUESTS))
        started = time.perf_counter()
        for i, job in enumerate(self.work):
            sampling = SamplingParams(temperature=0, max_tokens=job.num_output, ignore_eos=True)
            engine.add_request(Request(f"r{i}", job.prompt, sampling))
        seen: dict[str, float] = {}
        num_tokens = 0
        while engine.has_unfinished:
            outputs = [output for output in engine.step() if isinstance(output, TokenOutput)]
            num_tokens += len(outputs)
            for output in outputs:
                seen.setdefault(output.request_id, time.perf_counter() - started)
        assert num_tokens == sum(job.num_output for job in self.work)
        self.first_tokens += seen.values()
        return num_tokens / (time.perf_counter() - started)


class TransformersSide:
    """transformers' generate on one left-padded batch."""

    def __init__(self, work: list[Job], dtype: torch.dtype) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        options: dict[str, Any] = {name: value for name, value in SHAPE.items() if name != "model_type"}
        options |= {"attn_implementation": "sdpa", "eos_token_id": None, "bos_token_id": None}
        model: Any = LlamaForCausalLM(LlamaConfig(**options))
        self.model = model.to(dtype).eval()
        self.work = work
        longest = max(len(job.prompt) for job in work)
        self.input_ids = torch.zeros(len(work), longest, dtype=torch.long)
        self.mask = torch.zeros_like(self.input_ids)
        for row, job in enumerate(work):
            self.input_ids[row, longest - len(job.prompt) :] = torch.tensor(job.prompt)
            self.mask[row, longest - len(job.prompt) :] = 1

    def __call__(self) -> float:
        """Useful output tokens per second of one round."""
        longest = max(job.num_output for job in self.work)
        started = time.perf_counter()
        with torch.inference_mode():
            output = self.model.generate(
                self.input_ids,
                attention_mask=self.mask,
                max_new_tokens=longest,
                min_new_tokens=longest,
                do_sample=False,
                use_cache=True,
                pad_token_id=0,
            )
        assert output.shape[1] == self.input_ids.shape[1] + longest
        return sum(job.num_output for job in self.work) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--share", type=float, default=1.0, help="share of each output that is generated")
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    work = jobs(args.share)
    cairn = CairnSide(work)
    sides = {dtype: TransformersSide(work, dtype) for dtype in (torch.bfloat16, torch.float32)}
    own, bfloat16, float32 = in_turn(args.rounds, cairn, *sides.values())
    first = sorted(cairn.first_tokens)
    p50, p99 = (1000 * value for value in (statistics.median(first), first[int(0.99 * len(first))]))
    dtype = cairn.runner.dtype
    print(f"cairn {own:.1f} tok/s ({dtype}), transformers bfloat16 {bfloat16:.1f}, float32 {float32:.1f}")
    print(f"first token p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    if args.no_record:
        return
    command = f"python -m benchmarks.engine.batch16 --rounds {args.rounds} --threads {args.threads}"
    load = f"16 requests at once, prompts 32-512, outputs 32-256, 135 M Llama, {args.threads} threads"
    shared: dict[str, Any] = {"command": command, "packages": ("torch", "transformers")}
    for record_id, peer_value, peer_dtype, bar in (
        ("engine.torch.batch16.135m.vs_transformers", bfloat16, "bfloat16", 3.0),
        ("engine.torch.batch16.135m.vs_transformers_float32", float32, "float32", None),
    ):
        record(
            "engine",
            record_id,
            what=f"Output tokens per second, {load}; Cairn computes in {dtype}, the peer in {peer_dtype}",
            unit="tokens/s",
            cairn=own,
            peer="transformers generate, one padded batch",
            peer_value=peer_value,
            bar=bar,
            **shared,
        )
    for name, value in (("p50", p50), ("p99", p99)):
        record(
            "engine",
            f"engine.torch.ttft_{name}",
            what=f"Time to first token, {name}, {load}",
            unit="ms",
            cairn=value,
            higher_is_better=False,
            **shared,
        )


if __name__ == "__main__":
    main()
