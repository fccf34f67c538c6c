"""Recipes: mistakes are named, with what is allowed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from cairn.core import ConfigError, NotFoundError
from cairn.lifecycle import Recipe, load_recipe, stage_statuses
from cairn.registry import Registry

Change = Callable[[str, str], Path]


@pytest.mark.parametrize("name", ["tutorial", "starter/text", "starter/reader", "starter/reranker"])
def test_shipped_recipes_are_valid(name: str) -> None:
    recipe = load_recipe(Path(__file__).parents[2] / "recipes" / f"{name}.toml")
    assert recipe.release.intended_use
    assert recipe.release.limits


def test_an_unknown_key_comes_with_a_suggestion(changed: Change) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'tokenizer.vocab_sise', did you mean 'vocab_size'"):
        load_recipe(changed("vocab_size", "vocab_sise"))


def test_every_mistake_is_reported_at_once(changed: Change) -> None:
    changed("num_heads = 2", "num_heads = 3")
    with pytest.raises(ConfigError) as caught:
        load_recipe(changed("[sft]", "[sfd]"))
    for piece in ("'sfd'", "'sft'", "num_heads 3"):
        assert piece in caught.value.message


def test_an_unknown_data_set_names_the_near_ones(changed: Change, registry: Registry) -> None:
    changed("held_out_every = 4\n", "")
    path = changed('path = "texts/*.txt"', 'dataset = "childrens-books"')
    with pytest.raises(NotFoundError, match="childrens-books") as caught:
        stage_statuses(load_recipe(path), path, registry)
    assert "children-books" in caught.value.remedy


def test_evaluation_sets_are_not_trained_on(changed: Change, registry: Registry) -> None:
    path = changed('sources = [{ path = "questions.jsonl"', 'sources = [{ dataset = "mmlu"')
    recipe = load_recipe(path)
    assert isinstance(recipe, Recipe)
    assert recipe.instructions.sources[0].dataset == "mmlu"
    from cairn.lifecycle.sources import origin

    with pytest.raises(ConfigError, match="evaluation only"):
        origin(recipe.instructions.sources[0], path)


def test_a_source_is_a_data_set_or_files(changed: Change) -> None:
    with pytest.raises(ConfigError, match="exactly one of dataset and path"):
        load_recipe(changed('path = "texts/*.txt"', 'dataset = "tutorial"\npath = "texts/*.txt"'))


def test_a_path_that_matches_nothing_is_named(changed: Change, registry: Registry) -> None:
    path = changed("texts/*.txt", "texts/*.text")
    with pytest.raises(NotFoundError, match=r"\*\.text"):
        stage_statuses(load_recipe(path), path, registry)


def test_every_field_is_described() -> None:
    for model in _models(Recipe):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


def test_the_documentation_lists_every_key() -> None:
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
    for model in _models(Recipe):
        if model.__module__ == Recipe.__module__:
            missing = [name for name in model.model_fields if f"`{name}`" not in page]
            assert not missing, f"{model.__name__}: {missing}"


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        arguments = getattr(field.annotation, "__args__", (field.annotation,))
        for inner in arguments:
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _models(inner)
