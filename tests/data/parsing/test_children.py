"""Worker processes: reused, replaced when a file harms them, and never the end of anything but that file."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cairn.data.parsing import (
    ParseLimits,
    ParserPool,
    children,
    dump_document,
    load_document,
    parse_bytes,
    parse_in_child,
)
from cairn.data.parsing.parsed import dump_piece
from tests.data.parsing.pdfs import check, make_pdf, show

PAGE = b"# Title\n\nSome words.\n"


@pytest.fixture(scope="module")
def pool() -> Iterator[ParserPool]:
    with ParserPool(1) as opened:
        yield opened


def test_a_document_survives_its_json() -> None:
    document = parse_bytes(make_pdf([show("words", 72, 700), ""]), "")
    assert load_document(dump_document(document)) == document


def test_many_files_cost_one_start(pool: ParserPool, tmp_path: Path) -> None:
    before = pool.num_started
    paths = []
    for at in range(60):
        paths.append(tmp_path / f"{at}.md")
        paths[-1].write_bytes(b"# %d\n\ntext" % at)
    documents = list(pool.parse_many(paths))
    assert [document.title for document in documents] == [str(at) for at in range(60)]
    assert pool.num_started <= before + 1


def test_the_same_document_as_in_this_process(pool: ParserPool) -> None:
    assert pool.parse(PAGE, "x.md") == parse_bytes(PAGE, "x.md")


def test_too_slow_is_killed_and_replaced(pool: ParserPool, tmp_path: Path) -> None:
    """A named pipe that nobody writes to: reading it waits for ever."""
    waiting = tmp_path / "waiting.md"
    os.mkfifo(waiting)
    document = pool.parse(waiting, limits=ParseLimits(seconds=0.1))
    check(document)
    assert document.pages[0].problems[0].kind == "truncated"
    assert pool.parse(PAGE, "x.md").title == "Title"


def test_a_worker_that_dies_is_replaced(pool: ParserPool, tmp_path: Path) -> None:
    pool.parse(PAGE, "x.md")
    worker = pool._free.get()
    assert worker is not None
    os.kill(worker._process.pid, signal.SIGSEGV)
    pool._free.put(worker)
    document = pool.parse(PAGE, "x.md")
    assert document.pages[0].problems[0].kind == "failed"
    assert "SIGSEGV" in document.pages[0].problems[0].message
    assert pool.parse(PAGE, "x.md").title == "Title"


@pytest.mark.parametrize("then", [b"", (4).to_bytes(8, "big") + b"[17]", (1 << 60).to_bytes(8, "big")])
def test_what_came_before_a_worker_was_lost_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, then: bytes
) -> None:
    """One that hands over a page and then dies, talks nonsense, or never ends."""
    piece = dump_piece(next(parse_bytes(PAGE, "x.md").pieces()))
    said = len(piece).to_bytes(8, "big") + piece + then
    hand_over = f"import sys; sys.stdin.buffer.read(9); sys.stdout.buffer.write({said!r})"
    monkeypatch.setattr(children, "_START", hand_over.replace("{", "{{").replace("}", "}}"))
    with ParserPool(1) as hostile:
        document = hostile.parse_to(tmp_path / "parsed", PAGE, "x.md")
    assert [page.confidence for page in document.pages] == [1.0, 0.0]
    assert document.pages[1].problems[0].kind in ("failed", "too_large")
    with (tmp_path / "parsed").open("rb") as file:
        check(load_document(file))


def test_memory_is_bounded(pool: ParserPool) -> None:
    limits = ParseLimits(memory_bytes=160 << 20)
    document = pool.parse(b"a\n\n" * 3_000_000, "x.txt", limits=limits)
    check(document)
    assert document.pages[0].problems[0].kind in ("too_large", "failed")
    assert pool.parse(PAGE, "x.md").title == "Title"


def test_threads_share_a_pool() -> None:
    with ParserPool(2) as shared, ThreadPoolExecutor(4) as threads:
        documents = list(threads.map(lambda at: shared.parse(b"# %d\n" % at, "x.md"), range(40)))
    assert [document.title for document in documents] == [str(at) for at in range(40)]
    assert shared.num_started <= 2


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    gone = parse_in_child(tmp_path / "gone.pdf")
    assert gone.pages[0].problems[0].kind == "failed"
    large = tmp_path / "large.txt"
    large.write_bytes(b"words " * 100)
    document = parse_in_child(large, limits=ParseLimits(max_file_bytes=100))
    assert document.pages[0].problems[0].kind == "too_large"


def test_a_worker_sees_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAIRN_SECRET", "do not tell")
    with ParserPool(1) as fresh:
        fresh.parse(PAGE, "x.md")
        worker = fresh._free.get()
        assert worker is not None
        environment = Path(f"/proc/{worker._process.pid}/environ").read_bytes()
        fresh._free.put(worker)
    assert b"do not tell" not in environment
