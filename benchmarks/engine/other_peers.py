"""One stream beside two other engines for CPUs: int8 beside ctranslate2, int4 beside onnxruntime-genai.

The random Llama shapes of `decode`, converted by the peers' own tools: ctranslate2's converter to int8 (one
scale a row, activations as bytes), onnxruntime-genai's builder to int4 (groups of 32 with a scale in float32,
activations as bytes: accuracy level 4; of a prompt only the last logits). Every side takes the likeliest
token. All compute in this process with the same number of threads; sides take turns, twice a round, and a
round in which one of them differs from itself by more than 20 % is dropped.

    python -m benchmarks.engine.other_peers [--rounds 5] [--threads 2] [--shapes 8m 135m 420m]
        [--peers ctranslate2 onnxruntime_genai] [--prefill] [--no-record]
"""

import argparse
import contextlib
import io
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

from benchmarks.engine.decode import PROMPT, Cairn
from benchmarks.record import record, steady_pairs

from cairn.engine import NativeRunner
from cairn.engine.weight_reader import WeightFormat
from cairn.models.random_checkpoint import SHAPES, write_random_checkpoint

Run = Callable[[list[int], int], None]
"""Read a prompt and write so many tokens, the last of which is not computed any more."""


def ctranslate2(checkpoint: Path, threads: int) -> Run:
    """Converted to int8 and loaded."""
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    converted = checkpoint / "ctranslate2"
    TransformersConverter(str(checkpoint)).convert(str(converted), quantization="int8")
    generator = ctranslate2.Generator(
        str(converted), device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads
    )

    def run(prompt: list[int], num_tokens: int) -> None:
        (result,) = generator.generate_batch(
            [[_name(token_id) for token_id in prompt]],
            max_length=num_tokens,
            min_length=num_tokens,
            sampling_topk=1,
            include_prompt_in_result=False,
        )
        assert len(result.sequences_ids[0]) == num_tokens

    return run


def onnxruntime_genai(checkpoint: Path, threads: int) -> Run:
    """Built as int4 and loaded."""
    import onnxruntime_genai as genai

    # The builder's modules import one another by their bare names.
    sys.path.append(str(Path(genai.__file__).parent / "models"))
    from onnxruntime_genai.models.builder import create_model

    built = checkpoint / "onnxruntime_genai"
    options = {"int4_accuracy_level": 4, "prune_lm_head": True, "hf_token": "false", "hf_remote": False}
    logging.disable(logging.INFO)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        create_model("", str(checkpoint), str(built), "int4", "cpu", str(checkpoint / "cache"), **options)
    config = genai.Config(str(built))
    session = {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
    model = genai.Model(config)

    def run(prompt: list[int], num_tokens: int) -> None:
        length = len(prompt) + num_tokens
        params = genai.GeneratorParams(model)
        params.set_search_options(max_length=length, min_length=length, do_sample=False)
        generator = genai.Generator(model, params)
        generator.append_tokens(prompt)
        for _ in range(num_tokens):
            generator.generate_next_token()
        assert generator.is_done()

    return run


PEERS: dict[str, tuple[WeightFormat, str, Callable[[Path, int], Run]]] = {
    "ctranslate2": ("int8", "ctranslate2", ctranslate2),
    "onnxruntime_genai": ("int4", "onnxruntime-genai", onnxruntime_genai),
}
"""By the end of their record ids: the format compared, the distribution, how to load it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=128, help="tokens decoded in a round")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--prefill", action="store_true", help="measure prompts of 512 tokens instead")
    parser.add_argument("--no-record", action="store_true", help="print the numbers only")
    args = parser.parse_args()
    for shape in args.shapes:
        for peer in args.peers:
            with tempfile.TemporaryDirectory() as folder:
                write_random_checkpoint(Path(folder), SHAPES[shape])
                _complete(Path(folder))
                measure(args, shape, peer, Path(folder))


def measure(args: argparse.Namespace, shape: str, peer: str, folder: Path) -> None:
    """One line of the table: both sides in turn, medians."""
    weights, distribution, load = PEERS[peer]
    theirs = load(folder, args.threads)
    side = Cairn(NativeRunner(folder, weights=weights, num_threads=args.threads), args.tokens)
    kind = "prefill" if args.prefill else "decode"
    prompt, num_tokens = (range(3, 3 + PROMPT), 1) if args.prefill else ([1], args.tokens)
    mine = side.prefill if args.prefill else side.decode

    def their_rate() -> float:
        return _rate(theirs, prompt, num_tokens, PROMPT if args.prefill else args.tokens)

    mine()
    their_rate()
    pairs = steady_pairs(args.rounds, mine, their_rate)
    cairn, other = pairs.medians
    line = f"{kind} {weights} {shape}: cairn {cairn:.1f} tok/s, {distribution} {other:.1f}"
    print(f"{line}, ratio {cairn / other:.2f} ({pairs})", flush=True)
    if args.no_record or not pairs.num_kept:
        return
    command = f"python -m benchmarks.engine.other_peers --rounds {args.rounds} --threads {args.threads}"
    record(
        "engine",
        f"engine.{kind}.{weights}.{shape}.vs_{peer}",
        what=f"Tokens per second, one stream, {kind}, {shape} Llama shape, {weights}, {args.threads} threads",
        unit="tokens/s",
        cairn=cairn,
        peer=f"{distribution}, {weights}",
        peer_value=other,
        command=command + (" --prefill" if args.prefill else ""),
        packages=("numpy", distribution),
    )


def _rate(run: Run, prompt: Sequence[int], num_tokens: int, num_counted: int) -> float:
    started = time.perf_counter()
    run(list(prompt), num_tokens)
    return num_counted / (time.perf_counter() - started)


def _complete(folder: Path) -> None:
    """What the peers' converters want beside config and weights: an architecture, and a tokenizer."""
    from tokenizers import Tokenizer, models

    values: dict[str, Any] = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"architectures": ["LlamaForCausalLM"]}))
    names = {_name(token_id): token_id for token_id in range(values["vocab_size"])}
    Tokenizer(models.WordLevel(names, unk_token=_name(0))).save(str(folder / "tokenizer.json"))
    special = {"unk_token": _name(0), "bos_token": _name(1), "eos_token": _name(2)}
    kind = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind | special))


def _name(token_id: int) -> str:
    return f"t{token_id}"


if __name__ == "__main__":
    main()
