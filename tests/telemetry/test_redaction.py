"""What is blotted out of contents, and that nothing else is touched."""

import json

import pytest

from cairn.telemetry.redaction import Content, Redactor


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("write to ann.stone+x@cairn.example.org now", "write to [email] now"),
        ("card 4111 1111 1111 1111, please", "card [card], please"),
        ("IBAN DE89 3704 0044 0532 0130 00.", "IBAN [iban]."),
        ("my key is sk-proj-abcdefghijklmnop1234", "my key is [key]"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: [key]"),
        ("in 2024 there were 12 stones at 4 pm", "in 2024 there were 12 stones at 4 pm"),
    ],
)
def test_what_identifies_is_blotted_out(text: str, left: str) -> None:
    assert Redactor().text(text) == left


def test_patterns_of_ones_own_are_added() -> None:
    assert Redactor([r"project \w+"]).text("of project Scree, a@b.example") == "of [redacted], [email]"


def test_nothing_is_halved_at_a_cut() -> None:
    number = "4111 1111 1111 1111"
    for at in range(180, 221):
        text = Redactor().text("x" * at + " " + number + " y" * 100, 210)
        assert "4111" not in text
        assert len(text) <= 211


def test_the_earliest_messages_are_left_out_first() -> None:
    messages = [{"role": "user", "content": f"{n} " + "stone " * 2000} for n in range(10)]
    given = {"gen_ai.input.messages": Content(messages), "cairn.route": "a@b.example"}
    found = Redactor().attributes(given)
    assert found["cairn.route"] == "a@b.example"
    said = json.loads(str(found["gen_ai.input.messages"]))
    assert said[0]["parts"][0]["content"] == "(earlier: left out)"
    assert said[-1]["parts"][0]["content"].startswith("9 ")
    assert len(str(found["gen_ai.input.messages"])) < 45_000
