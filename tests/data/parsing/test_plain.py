"""Plain text and Markdown: the file's own bytes, cut where its blocks are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.data.parsing import ParseLimits, parse_bytes
from tests.data.parsing.pdfs import check, texts

MARKDOWN = """---
title: The Handbook
tags: [a, b]
---
# Leave

You have **25 days**.
Ask first.

- one
  - nested

- two

| day | who |
|-----|-----|
| Mon | Ann |

```python
# no heading
def leave(): ...
```

Setext
------

![a map](map.png)

[x]: https://example.org
<div>raw</div>
"""


def test_markdown_blocks() -> None:
    document = parse_bytes(MARKDOWN.encode(), "handbook.md")
    check(document)
    assert document.text == MARKDOWN
    assert document.title == "The Handbook"
    assert document.metadata["front_matter"]["tags"] == "[a, b]"
    found = [(block.kind, block.level) for block in document.blocks]
    assert found[:7] == [
        ("code", 0),
        ("heading", 1),
        ("paragraph", 0),
        ("list", 0),
        ("table", 0),
        ("code", 0),
        ("heading", 2),
    ]
    assert texts(document, "heading") == ["# Leave", "Setext\n------"]
    assert texts(document, "table") == ["| day | who |\n|-----|-----|\n| Mon | Ann |"]
    assert document.blocks[5].name == "python"
    assert texts(document, "image") == ["![a map](map.png)"]
    assert "[x]: https://example.org" in document.text
    assert document.pages[0].confidence == 1.0


def test_plain_text_paragraphs_and_lists() -> None:
    document = parse_bytes(b"\xef\xbb\xbfOne\nline.\r\n\r\n\r\n- a\n- b\n\n  indented\x0c\n", "x.txt")
    check(document)
    assert texts(document) == ["One\nline.", "- a\n- b", "  indented"]
    assert [block.kind for block in document.blocks] == ["paragraph", "list", "paragraph"]
    assert document.blocks[0].span[0] == 3


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_encodings(encoding: str) -> None:
    text = "Füße über Köln.\n\nÄrger größer als Öl – schön.\n" * 20
    document = parse_bytes(text.encode(encoding), "x.txt")
    check(document)
    assert document.text.removeprefix("\ufeff") == text
    assert document.pages[0].confidence == 1.0
    if encoding != "utf-8-sig":
        assert document.metadata["encoding"]


def test_japanese_in_its_old_encoding() -> None:
    text = "名前,年齢,住所\n佐藤太郎,30,東京\n三木英子,25,大阪\n髙橋淳,35,名古屋\n" * 4
    assert parse_bytes(text.encode("cp932"), "x.txt").text == text


def test_a_few_broken_bytes_in_utf8_are_told() -> None:
    data = ("Füße und Öl. " * 200).encode() + b"\xff end"
    document = parse_bytes(data, "x.txt")
    check(document)
    assert document.text.count("\ufffd") == 1
    assert document.pages[0].confidence < 1.0


def test_too_much_text_is_cut_and_told() -> None:
    document = parse_bytes(b"word \n\n" * 1000, "x.txt", limits=ParseLimits(max_text_bytes=100))
    check(document)
    assert len(document.text.encode()) == 100
    assert [problem.kind for problem in document.pages[0].problems] == ["too_large"]


PIECES = [
    *"ab #-*|>`~1.\t\r\n\n\n[]()!é漢𝄞\u2028\x0c\ufeff",
    "```",
    "---\n",
    "| a | b |\n",
    "- x\n",
    "    y\n",
]


@settings(max_examples=150, deadline=None)
@given(
    text=st.lists(st.sampled_from(PIECES), max_size=80).map("".join),
    name=st.sampled_from(["x.md", "x.txt"]),
)
def test_any_text_keeps_its_bytes(text: str, name: str) -> None:
    data = text.encode()
    document = parse_bytes(data, name)
    check(document)
    if data.strip():
        assert document.text.encode() == data
