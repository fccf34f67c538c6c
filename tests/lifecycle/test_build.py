"""A whole build, and what a second one does."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cairn.core import ConfigError
from cairn.lifecycle import build, load_recipe, stage_statuses
from cairn.lifecycle.stages import STAGES
from cairn.registry import recorded_stages

from .conftest import Built

NAMES = [stage.name for stage in STAGES]


def test_every_stage_leaves_an_artifact_whose_lineage_reaches_the_raw_data(built: Built) -> None:
    lineage = built.registry.lineage(built.result.model.digest)
    kinds = [node.kind for node in lineage.nodes]
    assert sorted(set(kinds)) == sorted(
        {"corpus", "dataset", "instructions", "model", "report", "scores", "shards", "tokenizer"}
    )
    assert kinds.count("dataset") == 2
    assert kinds.count("model") == 3
    for outcome in built.result.outcomes:
        built.registry.verify(outcome.artifact.digest)


def test_runs_are_recorded_with_their_metrics(built: Built) -> None:
    children = built.registry.runs(parent_id=built.result.run_id)
    assert [run.stage for run in reversed(children)] == NAMES
    assert {run.status for run in children} == {"succeeded"}
    folder = built.registry.run_folder(built.result.outcome("pretrain").run_id)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {line["split"] for line in lines} == {"train", "validation"}
    assert lines[0]["loss"] > lines[-2]["loss"]
    assert not (folder / "checkpoints").exists()


def test_the_name_points_to_the_model(built: Built) -> None:
    assert built.registry.get("tiny-chat").digest == built.result.model.digest


def test_the_same_build_again_runs_nothing(built: Built) -> None:
    again = build(built.recipe_path, built.registry)
    assert all(outcome.is_cached for outcome in again.outcomes)
    assert [each.artifact.digest for each in again.outcomes] == [
        each.artifact.digest for each in built.result.outcomes
    ]
    assert not built.registry.runs(parent_id=again.run_id)
    made, reused = (
        recorded_stages(built.registry.run_folder(result.run_id)) for result in (built.result, again)
    )
    assert [stage.stage for stage in made] == NAMES
    assert not any(stage.cached for stage in made)
    assert [replace(stage, cached=True) for stage in made] == reused


def test_transformers_opens_the_model_and_it_stops_at_either_end_token(built: Built) -> None:
    import torch
    import transformers

    folder = built.result.model.folder
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ends = model.generation_config.eos_token_id
    assert tokenizer.convert_ids_to_tokens(ends) == ["<|im_end|>", "<|endoftext|>"]
    from cairn.core.chat import text_message
    from cairn.data import Tokenizer, encode_chat
    from cairn.models import load_decoder

    assert load_decoder(folder).config.num_params == sum(each.numel() for each in model.parameters())
    asked = [{"role": "user", "content": "What comes after 3?"}]
    theirs = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    ours = encode_chat(Tokenizer.load(folder), [text_message("user", "What comes after 3?")])
    assert tokenizer.encode(theirs) == ours


def test_what_is_held_out_is_apart(built: Built) -> None:
    corpus = built.result.outcome("data").artifact
    rows = [json.loads(line) for line in (corpus.folder / "held_out.jsonl").read_text().splitlines()]
    assert [Path(row["path"]).name for row in rows] == ["chapter-3.txt", "chapter-7.txt"]
    train = (corpus.folder / "train.jsonl").read_text()
    assert rows[0]["text"][:80] not in train
    instructions = built.result.outcome("instructions").artifact
    assert instructions.metadata["held_out_conversations"] == 6


@pytest.mark.parametrize(
    ("old", "new", "changed_stages"),
    [
        ("max_reply_tokens = 12", "max_reply_tokens = 9", ["evaluate", "register"]),
        ("epochs = 1", "epochs = 2", ["sft", "evaluate", "register"]),
        ('limits = ["It', 'limits = ["That', ["register"]),
        ("replay_share = 0.2", "replay_share = 0.3", ["sft", "evaluate", "register"]),
        ("steps = 12", "steps = 13", ["pretrain", "sft", "evaluate", "register"]),
        ("log_every = 1", "log_every = 2", []),
    ],
)
def test_a_change_reaches_the_stages_below_it(
    built: Built, changed: Callable[[str, str], Path], old: str, new: str, changed_stages: list[str]
) -> None:
    path = changed(old, new)
    statuses = stage_statuses(load_recipe(path), path, built.registry)
    assert [each.stage for each in statuses if each.status == "to do"] == changed_stages
    if changed_stages:
        first = next(each for each in statuses if each.status == "to do")
        assert first.why.startswith("changed: config.")


def test_stages_can_be_asked_for_again(built: Built) -> None:
    recipe = load_recipe(built.recipe_path)
    statuses = stage_statuses(recipe, built.recipe_path, built.registry, again={"evaluate"})
    found = {each.stage: (each.status, each.why) for each in statuses}
    assert found["evaluate"] == ("to do", "asked for")
    assert found["sft"][0] == "cached"
    with pytest.raises(ConfigError, match="no stage 'training', allowed: data"):
        build(built.recipe_path, built.registry, from_stage="training")


def test_forcing_a_stage_gives_the_same_artifact(built: Built) -> None:
    again = build(built.recipe_path, built.registry, force=["instructions"])
    outcome = again.outcome("instructions")
    assert not outcome.is_cached
    assert outcome.artifact.digest == built.result.outcome("instructions").artifact.digest
    assert again.outcome("sft").is_cached


def test_a_model_above_its_limit_is_refused(built: Built, changed: Callable[[str, str], Path]) -> None:
    path = changed('intended_use = "Tests."', 'intended_use = "Tests."\nmax_bytes = 1000')
    with pytest.raises(ConfigError, match=r"release.max_bytes allows 1,000"):
        build(path, built.registry, predict=False)
    last = built.registry.runs(2)
    assert {run.status for run in last} == {"failed"}
