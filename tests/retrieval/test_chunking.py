"""Chunks cover what can be trusted, keep their order and their budget, and cut only what is too long."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.data.parsing import Block, BlockKind, Page, ParsedDocument
from cairn.retrieval.chunking import Chunk, chunk_document
from cairn.retrieval.splitting import CountTokens, split, table_header


def count(texts: Sequence[str]) -> list[int]:
    """Two special tokens, and a token for every four letters of a word, begun."""
    return [2 + sum(-(-len(word) // 4) for word in text.split()) for text in texts]


def greedy_count(texts: Sequence[str]) -> list[int]:
    """Like no tokenizer should: words cost more together than each alone."""
    return [2 + len(text.split()) + len(text.split()) // 3 for text in texts]


KINDS: list[BlockKind] = ["heading", "paragraph", "list", "table", "code", "caption"]
words = st.text(alphabet="abcdeé漢.!? ", min_size=1, max_size=40)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[BlockKind, str, str, int]:
    kind = draw(st.sampled_from(KINDS))
    if kind == "table":
        rows = draw(st.lists(st.text("xyz1 ", min_size=1, max_size=12), min_size=1, max_size=12))
        text = "\n".join(f"| {row} |" for row in rows)
    elif kind == "heading":
        text = "#" * draw(st.integers(1, 3)) + " h" + draw(st.text("abc ", max_size=20))
    else:
        text = "\n".join(draw(st.lists(words, min_size=1, max_size=8)))
    name = draw(st.sampled_from(["", "", "f", "g"])) if kind == "code" else ""
    return kind, text, name, draw(st.integers(1, 3))


@st.composite
def documents(draw: st.DrawFn) -> ParsedDocument:
    text, made, pages = "", list[Block](), list[Page]()
    for number in range(1, draw(st.integers(1, 4)) + 1):
        begin = len(text.encode())
        for kind, body, name, level in draw(st.lists(blocks(), max_size=5)):
            start = len(text.encode())
            text += body
            # Sometimes a parser forgets a block: its text must not be lost.
            if draw(st.integers(0, 9)):
                span = (start, len(text.encode()))
                made.append(Block(kind, span, number, level if kind == "heading" else 0, name))
            text += draw(st.sampled_from(["\n\n", "\n", "\n \n"]))
        pages.append(Page(number, (begin, len(text.encode())), draw(st.sampled_from([0.0, 0.4, 0.9, 1.0]))))
    return ParsedDocument(text, tuple(made), tuple(pages), "text/markdown")


@given(documents(), st.integers(16, 60), st.integers(0, 12), st.sampled_from([count, greedy_count]))
@settings(max_examples=150, deadline=None)
def test_chunks_hold_what_can_be_trusted_in_order_and_within_the_budget(
    parsed: ParsedDocument, budget: int, overlap: int, measure: CountTokens
) -> None:
    chunks = list(chunk_document(parsed, budget=budget, overlap=overlap, least_confidence=0.5, count=measure))
    data = parsed.text.encode()
    covered = bytearray(len(data))
    for chunk in chunks:
        assert data[slice(*chunk.span)].decode() == chunk.text
        assert chunk.text == chunk.text.strip() != ""
        assert chunk.num_tokens == measure([chunk.embedded])[0]
        assert chunk.num_tokens <= budget
        [page] = [page for page in parsed.pages if page.number == chunk.page]
        assert page.confidence >= 0.5
        assert page.span[0] <= chunk.span[0] < chunk.span[1] <= page.span[1]
        covered[slice(*chunk.span)] = b"\1" * (chunk.span[1] - chunk.span[0])
    for before, after in pairwise(chunks):
        assert before.span[0] < after.span[0]
        assert before.span[1] < after.span[1]
        assert before.section <= after.section
    for page in parsed.pages:
        place = page.span[0]
        for letter in data[slice(*page.span)].decode():
            width = len(letter.encode())
            if page.confidence < 0.5:
                assert not any(covered[place : place + width])
            elif not letter.isspace():
                assert all(covered[place : place + width]), f"byte {place} is in no chunk"
            place += width


@given(documents(), st.integers(30, 60))
@settings(max_examples=150, deadline=None)
def test_what_fits_is_never_cut(parsed: ParsedDocument, budget: int) -> None:
    chunks = list(chunk_document(parsed, budget=budget, overlap=0, least_confidence=0.0, count=count))
    data = parsed.text.encode()
    for block in parsed.blocks:
        text = data[slice(*block.span)].decode().strip()
        headings_at_most = budget // 4 + 1
        if text and count([text])[0] + headings_at_most <= budget:
            assert any(text in chunk.text for chunk in chunks)


def chunked(text: str, blocks: list[tuple[BlockKind, str]], **options: int) -> list[Chunk]:
    made, place = [], 0
    for kind, body in blocks:
        start = text.index(body, place)
        place = start + len(body)
        level = len(body) - len(body.lstrip("#"))
        span = (len(text[:start].encode()), len(text[:place].encode()))
        made.append(Block(kind, span, 1, level if kind == "heading" else 0))
    parsed = ParsedDocument(text, tuple(made), (Page(1, (0, len(text.encode())), 1.0),), "text/markdown")
    budget, overlap = options.get("budget", 40), options.get("overlap", 0)
    return list(chunk_document(parsed, budget=budget, overlap=overlap, least_confidence=0.5, count=count))


def test_headings_stand_above_what_they_head() -> None:
    text = "# Tools\n\n## Chisel\n\nCuts wood.\n\n## Plane\n\nMakes it flat.\n"
    blocks: list[tuple[BlockKind, str]] = [
        ("heading", "# Tools"),
        ("heading", "## Chisel"),
        ("paragraph", "Cuts wood."),
        ("heading", "## Plane"),
        ("paragraph", "Makes it flat."),
    ]
    chisel, plane = chunked(text, blocks)
    assert chisel.text == "# Tools\n\n## Chisel\n\nCuts wood."
    assert (chisel.heading_path, chisel.context) == (("Tools", "Chisel"), "")
    assert plane.text == "## Plane\n\nMakes it flat."
    assert (plane.heading_path, plane.context) == (("Tools", "Plane"), "Tools")
    assert plane.embedded == "Tools\n## Plane\n\nMakes it flat."


def test_a_long_table_is_cut_between_rows_and_repeats_its_header() -> None:
    rows = [f"| row{i} | {i} |" for i in range(20)]
    table = "\n".join(["| name | count |", "|---|---|", *rows])
    chunks = chunked(table, [("table", table)], budget=30)
    assert len(chunks) > 2
    assert chunks[0].context == ""
    assert {chunk.context for chunk in chunks[1:]} == {"| name | count |\n|---|---|"}
    assert [row for chunk in chunks for row in chunk.text.splitlines()] == table.splitlines()


def test_the_next_chunk_begins_with_the_last_sentence_of_the_one_before() -> None:
    text = "One two three four. Five six seven eight. Nine ten eleven twelve. More words are here."
    chunks = chunked(text, [("paragraph", text)], budget=14, overlap=6)
    for before, after in pairwise(chunks):
        shared = before.span[1] - after.span[0]
        assert shared > 0
        assert after.text.startswith(before.text[-shared:])


def test_a_word_without_end_is_cut_between_letters() -> None:
    chunks = chunked("漢" * 500, [("paragraph", "漢" * 500)], budget=20)
    assert "".join(chunk.text for chunk in chunks) == "漢" * 500


@given(st.text(max_size=300), st.sampled_from(KINDS), st.integers(1, 20))
def test_pieces_joined_are_the_text(text: str, kind: BlockKind, limit: int) -> None:
    pieces = split(text, kind, limit, lambda texts: [len(each.split()) for each in texts])
    assert "".join(piece for piece, _ in pieces) == text
    assert all(len(piece.split()) <= limit for piece, _ in pieces)


def test_the_header_of_a_table() -> None:
    assert table_header("| a | b |\n|---|:-:|\n| 1 | 2 |") == "| a | b |\n|---|:-:|"
    assert table_header("a,b\n1,2") == "a,b"
