"""What a build says of itself: report, card, comparison."""

import json
import re

from cairn.lifecycle.report.blocks import Block, Exchange, Figures, Heading, Table, Text
from cairn.lifecycle.report.html import to_html
from cairn.lifecycle.report.markdown import to_markdown

from .conftest import Built


def test_the_report_is_one_file_that_needs_nothing_else(built: Built) -> None:
    assert built.result.report is not None
    page = (built.result.report.folder / "report.html").read_text()
    assert not re.search(r"<script|<link|@import|(?:src|href)=\"(?!data:)", page)
    assert page.count("data:image/png;base64,") == 2
    for outcome in built.result.outcomes:
        assert outcome.artifact.digest in page


def test_the_markdown_lies_beside_its_pictures(built: Built) -> None:
    assert built.result.report is not None
    folder = built.result.report.folder
    for picture in re.findall(r"!\[[^]]*\]\(([^)]*)\)", (folder / "report.md").read_text()):
        assert (folder / picture).read_bytes()[:4] == b"\x89PNG"


def test_generated_text_stays_text() -> None:
    hostile = "</p><script>alert(1)</script> **bold** | cell ![x](http://y)"
    blocks: list[Block] = [
        Heading("Samples"),
        Exchange(hostile, hostile, hostile),
        Table(("a",), [(hostile,)]),
        Figures([(hostile, hostile, hostile)]),
        Text("a `code` b"),
    ]
    page = to_html(hostile, hostile, blocks)
    assert "<script" not in page
    assert "<code>code</code>" in page
    document = to_markdown("t", blocks[:2])
    assert "<script" not in document.replace("\\<script", "")
    assert "**bold**" not in document


def test_the_card_says_what_it_is_made_of_and_cannot_do(built: Built) -> None:
    card = (built.result.model.folder / "card.md").read_text()
    for piece in (
        "It can do nothing.",
        "public domain",
        "Lewis Carroll",
        "Apache-2.0",
        "Kneser-Ney",
        "`xz -9e`",
    ):
        assert piece in card
    for stage in ("data", "instructions", "pretrain", "sft", "evaluate"):
        assert built.result.outcome(stage).artifact.digest in card


def test_scores_are_stored_with_their_baselines(built: Built) -> None:
    scores = json.loads((built.result.outcome("evaluate").artifact.folder / "scores.json").read_text())
    bits = scores["bits_per_byte"]
    assert set(bits) == {"chat", "base", "xz", "xz_after_training_text", "kneser_ney"}
    assert all(0.5 < value < 9 for value in bits.values())
    assert bits["xz_after_training_text"] < bits["xz"]
    assert scores["template_following"]["num_replies"] == 4
