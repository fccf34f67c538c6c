"""A model to serve: a shape with random weights, and a tokenizer of the same size for text nobody wrote.

Words are random syllables, so that a byte-level BPE learns a full vocabulary of them within seconds and every
prompt is new. The same tokenizer goes into the GGUF file of the peer.
"""

import random
from collections.abc import Iterator
from pathlib import Path

from cairn.core import Settings
from cairn.data import Tokenizer
from cairn.models.gguf_export import GgufType
from cairn.models.random_checkpoint import SHAPES, write_random_checkpoint
from cairn.providers.exporting import export_model
from cairn.registry import Registry

_SYLLABLES = [a + b for a in "bcdfghklmnprstvwz" for b in "aeiou"]
_TRAINING_WORDS = 200_000


def make_model(home: Path, shape: str) -> None:
    """Put a model named after its shape into a home of its own."""
    values = SHAPES[shape]
    with Registry.open(Settings(home=home)) as registry:
        with registry.create("model") as writer:
            write_random_checkpoint(writer.folder, values)
            train_tokenizer(values["vocab_size"]).save(writer.folder)
        registry.set_alias(shape, writer.artifact.digest)


def export_peer(home: Path, shape: str, path: Path, weights: GgufType) -> None:
    """The same as a GGUF file."""
    with Registry.open(Settings(home=home)) as registry:
        export_model(registry, shape, path, weights)


def train_tokenizer(vocab_size: int) -> Tokenizer:
    """A tokenizer of exactly so many tokens."""
    tokenizer = Tokenizer.train(
        words(random.Random(0), _TRAINING_WORDS), vocab_size=vocab_size, min_frequency=1, chat_template=None
    )
    assert tokenizer.vocab_size == vocab_size, f"only {tokenizer.vocab_size} tokens could be learned"
    return tokenizer


def prompt(rng: random.Random, num_words: int) -> str:
    """Text of random words, two to three tokens a word."""
    return "".join(words(rng, num_words))


def words(rng: random.Random, count: int) -> Iterator[str]:
    """Random words of two to four syllables."""
    for _ in range(count):
        yield " " + "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 4)))
