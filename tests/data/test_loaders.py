"""Conversations, documents and evaluation items of the named sets; the real ones where there is a mirror."""

import json
from pathlib import Path

import pytest

from cairn.core import ConfigError, Settings
from cairn.core.chat import Message
from cairn.data import (
    EvaluationIndex,
    LocalDataset,
    Tokenizer,
    evaluation_texts,
    find_dataset,
    get_dataset,
    load_conversations,
    load_documents,
    render_for_training,
)
from cairn.data import conversations as conversations_module
from cairn.data import texts as texts_module
from cairn.data.tutorial_questions import tutorial_pairs
from cairn.data.words import find_words


def local(name: str, folder: Path) -> LocalDataset:
    return LocalDataset(find_dataset(name), folder)


def test_tutorial(settings: Settings) -> None:
    tutorial = get_dataset("tutorial", settings)
    train, held_out = list(load_documents(tutorial)), list(load_documents(tutorial, "held_out"))
    assert (len(train), len(held_out)) == (29, 2)
    assert sum(len(document.text) for document in train) > 250_000
    learned, kept = load_conversations(tutorial), load_conversations(tutorial, "held_out")
    assert len(learned) > 300
    assert len(kept) == -(-(len(learned) + len(kept)) // 10)
    assert {message.role for conversation in learned for message in conversation.messages} == {
        "user",
        "assistant",
    }


def test_tutorial_questions_are_what_the_script_makes(settings: Settings) -> None:
    folder = get_dataset("tutorial", settings).folder
    lines = (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [(row["instruction"], row["output"]) for row in rows] == tutorial_pairs(folder)


def test_instructions(tmp_path: Path) -> None:
    rows = [
        {"instruction": f"Do {i}.", "input": "it" if i % 2 else "", "output": f" done {i} "}
        for i in range(20)
    ]
    rows[3]["output"] = ""
    (tmp_path / "instruction-data.json").write_text(json.dumps(rows))
    learned = load_conversations(local("rasbt-instructions", tmp_path))
    assert len(learned) == 17
    assert [message.text for message in learned[1].messages] == ["Do 1.\n\nit", "done 1"]
    held_out = load_conversations(local("rasbt-instructions", tmp_path), "held_out")
    assert [conversation.messages[1].text for conversation in held_out] == ["done 18", "done 19"]


def test_function_calls(tmp_path: Path) -> None:
    instruction = (
        "Construct a function call to answer the given question.\n\nQuestion: Find a coffee shop.\n\n"
        "Function to be used: coffee_shop.find\nDescription: Locate shops.\nParameters:\n"
        "1. location (type: string) - The city\n2. amenities (type: array) - Wishes.\nRequired: [location]\n"
        "\nFormat your response as a single string using keyword arguments."
    )
    rows = [
        {
            "instruction": instruction,
            "output": 'coffee_shop.find_nearby(location="Rome", amenities=["wifi"])',
        },
        {"instruction": instruction, "output": "not a call("},
        {"instruction": instruction, "output": "f(x=unknown)"},
        {"instruction": "Something else", "output": "f(x=1)"},
    ]
    (tmp_path / "openfunction").mkdir()
    (tmp_path / "openfunction" / "openfunction_train.json").write_text(json.dumps(rows))
    (conversation,) = load_conversations(local("openfunctions", tmp_path))
    (tool,) = conversation.tools
    assert (tool.name, tool.description) == ("coffee_shop_find", "Locate shops.")
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": "The city"},
            "amenities": {"type": "array", "description": "Wishes."},
        },
        "required": ["location"],
    }
    assert conversation.messages[0].text == "Find a coffee shop."
    (call,) = conversation.messages[1].tool_calls
    assert (call.name, json.loads(call.arguments)) == (tool.name, {"location": "Rome", "amenities": ["wifi"]})


def test_stories_with_questions(tmp_path: Path) -> None:
    root = tmp_path / "data-by-train-split"
    for part in ("train", "val", "test"):
        (root / "questions" / part).mkdir(parents=True)
        (root / "section-stories" / part).mkdir(parents=True)
        (root / "section-stories" / part / "x-story.csv").write_text(
            'section,text\n1,"A fox\n  came."\n2,He left.\n'
        )
        (root / "questions" / part / "x-questions.csv").write_text(
            "question_id,cor_section,question,answer1\n"
            '1,1,Who came?,a fox\n2,"1, 2",Who left?,he\n3,2,Who left?,\n'
        )
    (conversation,) = load_conversations(local("fairytaleqa", tmp_path))
    assert [message.text for message in conversation.messages] == ["A fox came.\n\nWho came?", "A fox."]
    assert len(load_conversations(local("fairytaleqa", tmp_path), "held_out")) == 2
    assert [document.text for document in load_documents(local("fairytaleqa", tmp_path))] == [
        "A fox came.\n\nHe left."
    ]
    assert (
        list(evaluation_texts(local("fairytaleqa", tmp_path))) == ["Who came?", "Who left?", "Who left?"] * 2
    )


def test_sums(tmp_path: Path) -> None:
    row = {"question": "How many? ", "answer": "He has 2+2=<<2+2=4>>4.\n#### 4"}
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    (conversation,) = load_conversations(local("gsm8k", tmp_path))
    assert conversation.messages[1].text == "He has 2+2=4.\nThe answer is 4."
    assert list(evaluation_texts(local("gsm8k", tmp_path))) == ["How many? "]


def test_whole_books_are_held_out(tmp_path: Path) -> None:
    for i in range(25):
        (tmp_path / f"{i:02d}.md").write_text(f"Book {i}")
    held_out = [document.text for document in load_documents(local("children-books", tmp_path), "held_out")]
    assert held_out == ["Book 11", "Book 23"]
    assert len(list(load_documents(local("children-books", tmp_path)))) == 23


def test_sets_of_another_kind_are_named(tmp_path: Path) -> None:
    for read in (load_conversations, load_documents, evaluation_texts):
        with pytest.raises(ConfigError, match="data set 'voxel-shapes' holds no"):
            read(local("voxel-shapes", tmp_path))


@pytest.mark.mirror
@pytest.mark.parametrize(
    ("name", "train", "held_out"),
    [
        ("rasbt-instructions", 990, 110),
        ("dolly-2k", 1800, 200),
        ("openfunctions", 2125, 109),
        ("gsm8k", 7473, 1319),
        ("fairytaleqa", 7769, 1850),
        ("sgd-dialogues", 1824, 887),
    ],
)
def test_real_conversations(
    mirror_settings: Settings, tokenizer: Tokenizer, name: str, train: int, held_out: int
) -> None:
    found = get_dataset(name, mirror_settings)
    learned = load_conversations(found)
    assert len(learned) == train
    assert len(load_conversations(found, "held_out")) == held_out
    for conversation in learned[::500]:
        example = render_for_training(tokenizer, conversation.messages, conversation.tools)
        said = tokenizer.decode(example.input_ids[example.loss_mask].tolist())
        assert said.count("<|im_end|>") == len([m for m in conversation.messages if m.role == "assistant"])
        assert all(message.text in said for message in _replies(conversation.messages))


def _replies(messages: tuple[Message, ...]) -> list[Message]:
    return [message for message in messages if message.role == "assistant"]


@pytest.mark.mirror
def test_real_documents_and_items(mirror_settings: Settings) -> None:
    counts = {}
    for name in texts_module._DOCUMENTS:
        found = get_dataset(name, mirror_settings)
        counts[name] = tuple(sum(1 for _ in load_documents(found, split)) for split in ("train", "held_out"))
    assert counts["children-books"] == (44, 4)
    assert counts["classic-books"] == (123, 11)
    assert counts["tinystories-2mb"] == (2083, 232)
    for name in texts_module._EVALUATION:
        assert sum(1 for _ in evaluation_texts(get_dataset(name, mirror_settings))) >= 80, name


@pytest.mark.mirror
def test_real_decontamination(mirror_settings: Settings) -> None:
    """The test questions of a set are found in each other, the training questions are not (or hardly)."""
    gsm8k = get_dataset("gsm8k", mirror_settings)
    index = EvaluationIndex({"gsm8k": evaluation_texts(gsm8k)})
    learned = load_conversations(gsm8k)
    held_out = load_conversations(gsm8k, "held_out")

    def share(rows: list[conversations_module.Conversation]) -> float:
        hit = [bool(index.hits(find_words(row.messages[0].text.encode()))) for row in rows]
        return sum(hit) / len(hit)

    assert share(held_out[:200]) > 0.98
    assert share(learned[:2000]) < 0.02
