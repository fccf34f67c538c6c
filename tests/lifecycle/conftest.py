"""A recipe that builds in seconds, and one build of it that the tests share."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cairn.core import Settings
from cairn.data import find_dataset
from cairn.data.datasets import dataset_folder
from cairn.lifecycle import BuildResult, build
from cairn.registry import Registry

RECIPE = """
name = "tiny"
description = "A model for tests."
seed = 3

[[data.sources]]
path = "texts/*.txt"
licence = "public domain"
attribution = "Lewis Carroll"
held_out_every = 4

[tokenizer]
vocab_size = 512

[model]
family = "{family}"
hidden_size = 32
num_layers = 2
num_heads = 2
intermediate_size = 64
context = 64

[pretrain]
steps = 12
batch_tokens = 512
learning_rate = 0.01
optimizer = "muon"
checkpoint_every_steps = 2
log_every = 1
threads = 1

[instructions]
sources = [{{ path = "questions.jsonl", licence = "Apache-2.0", attribution = "the tests" }}]
replay_share = 0.2

[sft]
epochs = 1
batch_tokens = 256
learning_rate = 0.01
threads = 1

[evaluate]
num_instructions = 4
max_reply_tokens = 12

[release]
name = "tiny-chat"
intended_use = "Tests."
limits = ["It can do nothing."]
"""


def write_recipe(folder: Path, *, family: str = "qwen3") -> Path:
    """The recipe with its texts and questions in a folder."""
    texts = folder / "texts"
    texts.mkdir(parents=True, exist_ok=True)
    book = (dataset_folder(find_dataset("tutorial"), Settings(home=folder)) / "alice.md").read_text()
    chapters = re.split(r"^## .*$", book, flags=re.MULTILINE)[4:12]
    for place, chapter in enumerate(chapters):
        (texts / f"chapter-{place}.txt").write_text(chapter[:6000].strip() + "\n")
    questions = [
        {"instruction": f"What comes after {number}?", "output": f"After {number} comes {number + 1}."}
        for number in range(60)
    ]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, questions)))
    recipe = folder / "tiny.toml"
    recipe.write_text(RECIPE.format(family=family))
    return recipe


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    """A fresh copy of the recipe, to be changed at will."""
    return write_recipe(tmp_path / "recipe")


@dataclass(frozen=True, slots=True)
class Built:
    """The shared build. The registry may be read, and built in, but nothing of it removed."""

    recipe_path: Path
    registry: Registry
    result: BuildResult


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    folder = tmp_path_factory.mktemp("built")
    recipe = write_recipe(folder / "recipe")
    with Registry.open(Settings(home=folder / "home")) as registry:
        yield Built(recipe, registry, build(recipe, registry, predict=False))


@pytest.fixture
def changed(recipe_path: Path) -> Callable[[str, str], Path]:
    """Replace a piece of the recipe's text and hand back its path."""

    def change(old: str, new: str) -> Path:
        text = recipe_path.read_text()
        assert old in text
        recipe_path.write_text(text.replace(old, new))
        return recipe_path

    return change
