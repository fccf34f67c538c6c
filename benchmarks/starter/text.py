"""Held-out bits per byte of the shipped text model beside `xz -9e` and a Kneser-Ney 5-gram.

The shipped weights (src/cairn/starter/text) read the held-out children's books of the starter recipe; xz and
the n-gram get the recipe's whole training text, filtered as the recipe says. Needs the data sets.

    CAIRN_MIRROR=FOLDER python -m benchmarks.starter.text [--bytes N] [--model FOLDER] [--dry-run]
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from benchmarks.record import ROOT, record

from cairn.core import Settings, Silent
from cairn.data import Document, Tokenizer, document_examples, get_dataset
from cairn.evaluation import KneserNey, xz_bits_per_byte
from cairn.lifecycle import Recipe, load_recipe
from cairn.lifecycle.corpus import token_documents
from cairn.lifecycle.filters import cleaned, evaluation_index, filtered
from cairn.lifecycle.stages.evaluate import score_model
from cairn.lifecycle.starter import STARTERS
from cairn.lifecycle.texts import TextSplit, read_source
from cairn.models import load_decoder

COMMAND = "python -m benchmarks.starter.text"
BAR = 1.05


def texts(settings: Settings) -> tuple[list[str], list[str]]:
    """(training, held out): what the starter trains on, and the held-out documents its scores are on."""
    recipe = load_recipe(ROOT / "recipes" / "starter" / "text.toml")
    assert isinstance(recipe, Recipe)
    splits: dict[str, TextSplit] = {}
    for source in recipe.data.sources:
        splits[source.name] = read_source(source, get_dataset(source.dataset, settings).folder)
    held_out = {
        name: [cleaned(each.text, recipe.data) for each in split.held_out] for name, split in splits.items()
    }
    every = [text for found in held_out.values() for text in found]
    sets = [get_dataset(name, settings) for name in recipe.data.decontaminate]
    train: list[Document] = [each for split in splits.values() for each in split.train]
    kept, _ = filtered(train, recipe.data, evaluation_index(every, sets, recipe.data), Silent())
    return [text for _, text in kept], [text for name in recipe.evaluate.sources for text in held_out[name]]


def token_stream(
    training: list[str], tokenizer: Tokenizer
) -> Iterator["np.ndarray[tuple[int], np.dtype[np.int64]]"]:
    """The training tokens, packed as the model read them."""
    for ids, _, _ in document_examples(tokenizer, (Document(text) for text in training)):
        yield ids.astype(np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=0, help="score only the first N bytes (smoke test)")
    parser.add_argument("--model", type=Path, default=STARTERS / "text", help="folder of the model")
    parser.add_argument("--dry-run", action="store_true", help="print, record nothing")
    options = parser.parse_args()
    tokenizer = Tokenizer.load(options.model)
    training, held_out = texts(Settings.from_env())
    if options.bytes:
        held_out = ["\n".join(held_out).encode()[: options.bytes].decode(errors="ignore")]
    num_bytes = sum(len(text.encode()) for text in held_out)
    cairn = score_model(load_decoder(options.model), tokenizer, held_out)
    xz = xz_bits_per_byte("\n".join(held_out).encode(), "\n".join(training).encode())
    assert tokenizer.eos_token_id is not None
    ngram = KneserNey.fit(
        np.concatenate(list(token_stream(training, tokenizer))),
        vocab_size=tokenizer.vocab_size,
        separator=tokenizer.eos_token_id,
    )
    bits = -ngram.log2_probabilities(np.concatenate(token_documents(held_out, tokenizer))).sum()
    peers = (
        ("starter.text.bits_per_byte", "Kneser-Ney 5-gram, same training text", float(bits) / num_bytes),
        ("starter.text.bits_per_byte.vs_xz", "xz -9e after the training text", xz.conditional),
        ("starter.text.bits_per_byte.vs_xz_alone", "xz -9e on the held-out text alone", xz.plain),
    )
    for record_id, peer, value in peers:
        print(f"{record_id}: cairn {cairn:.3f}, {peer} {value:.3f}, on {num_bytes:,} bytes")
        if not options.dry_run:
            record(
                "starter",
                record_id,
                what=f"bits per byte of {len(held_out)} held-out books",
                unit="bits/byte",
                depends_on_machine=False,
                cairn=cairn,
                peer=peer,
                peer_value=value,
                higher_is_better=False,
                bar=BAR,
                command=COMMAND,
                packages=("torch",),
            )


if __name__ == "__main__":
    main()
