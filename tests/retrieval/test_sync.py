"""A folder and its collection agree after every sync, and mistakes in access files close, never open."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cairn.core import ConflictError, NotFoundError, Silent
from cairn.data.parsing import ParserPool
from cairn.retrieval.collection import Collection
from cairn.retrieval.search import SearchOptions, find
from cairn.retrieval.sync import sync
from tests.retrieval.conftest import ANN, BOB, document
from tests.retrieval.test_collection import assert_consistent


@pytest.fixture(scope="module")
def parsers() -> Iterator[ParserPool]:
    with ParserPool(2) as pool:
        yield pool


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "team"
    (root / "pay").mkdir(parents=True)
    (root / "boats.md").write_text("# Boats\n\nA canoe is paddled.\n")
    (root / "pay" / "bonus.txt").write_text("The bonus is large.\n")
    (root / "pay" / "review.txt").write_text("The review is in May.\n")
    return root


def labels(collection: Collection) -> dict[str, tuple[str, ...]]:
    return {info.source: info.labels for info in collection.documents(None)}


def touch_later(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


def test_a_sync_follows_the_folder(collection: Collection, folder: Path, parsers: ParserPool) -> None:
    upload = collection.put(document("team/upload.md", "An upload stays."))
    first = sync(collection, folder, parsers=parsers)
    assert sorted(first.added) == ["team/boats.md", "team/pay/bonus.txt", "team/pay/review.txt"]
    assert sync(collection, folder, parsers=parsers).num_unchanged == 3
    (folder / "boats.md").write_text("# Boats\n\nA kayak is paddled.\n")
    touch_later(folder / "boats.md")
    touch_later(folder / "pay" / "bonus.txt")
    (folder / "pay" / "review.txt").rename(folder / "pay" / "moved.txt")
    (folder / ".hidden.txt").write_text("hidden")
    (folder / "link.txt").symlink_to(folder / "boats.md")
    again = sync(collection, folder, parsers=parsers)
    assert (again.added, again.replaced, again.removed) == ([], ["team/boats.md"], [])
    assert (again.moved, again.num_unchanged) == (["team/pay/moved.txt"], 1)
    shutil.rmtree(folder / "pay")
    last = sync(collection, folder, parsers=parsers)
    assert last.removed == ["team/pay/bonus.txt", "team/pay/moved.txt"]
    assert set(labels(collection)) == {"team/boats.md", "team/upload.md"}
    assert collection.document(upload.document_id, ANN).source == "team/upload.md"
    [hit] = find(collection, "kayak", ANN, SearchOptions(limit=1))
    assert hit.passage.name == "team/boats.md"
    assert_consistent(collection)


def test_the_nearest_access_file_wins(collection: Collection, folder: Path, parsers: ParserPool) -> None:
    (folder / ".cairn-access.toml").write_text('allow = ["group:makers"]')
    (folder / "pay" / ".cairn-access.toml").write_text('allow = ["user:ann"]')
    (folder / "pay" / "review.txt.cairn-access.toml").write_text('allow = ["everyone"]')
    report = sync(collection, folder, parsers=parsers)
    assert report.access_problems == {}
    assert labels(collection) == {
        "team/boats.md": ("group:makers",),
        "team/pay/bonus.txt": ("user:ann",),
        "team/pay/review.txt": ("everyone",),
    }
    (folder / "pay" / ".cairn-access.toml").unlink()
    assert sync(collection, folder, parsers=parsers).relabelled == ["team/pay/bonus.txt"]
    assert labels(collection)["team/pay/bonus.txt"] == ("group:makers",)


@pytest.mark.parametrize(
    "text",
    [
        'allow = ["group:makers"',
        'alow = ["everyone"]',
        'allow = "everyone"',
        'allow = ["makers"]',
        "",
        "\xff",
    ],
)
def test_a_broken_access_file_closes(
    collection: Collection, folder: Path, parsers: ParserPool, text: str
) -> None:
    sync(collection, folder, parsers=parsers)
    assert labels(collection)["team/pay/bonus.txt"] == ("everyone",)
    (folder / "pay" / ".cairn-access.toml").write_text(text, encoding="latin-1")
    report = sync(collection, folder, parsers=parsers)
    assert list(report.access_problems) == ["pay/.cairn-access.toml"]
    assert labels(collection)["team/pay/bonus.txt"] == ()
    assert labels(collection)["team/boats.md"] == ("everyone",)
    assert "bonus" not in str(find(collection, "bonus", ANN, SearchOptions()))


def test_an_access_file_that_leads_nowhere_closes(
    collection: Collection, folder: Path, parsers: ParserPool
) -> None:
    (folder / "pay" / ".cairn-access.toml").symlink_to(folder / "nowhere")
    sync(collection, folder, parsers=parsers)
    assert labels(collection)["team/pay/bonus.txt"] == ()


def test_old_text_is_never_seen_under_new_labels(
    collection: Collection, folder: Path, parsers: ParserPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret file becomes a public one: until its new text is there, the old one stays closed."""
    secret = folder / "boats.md"
    rule = folder / "boats.md.cairn-access.toml"
    rule.write_text('allow = ["user:ann"]')
    sync(collection, folder, parsers=parsers)
    secret.write_text("A public raft.")
    touch_later(secret)
    rule.write_text('allow = ["everyone"]')
    seen: list[str] = []
    parse = parsers.parse_to

    def spying(*args: object, **options: object) -> object:
        seen.append(str(find(collection, "canoe", BOB, SearchOptions())))
        return parse(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(parsers, "parse_to", spying)
    sync(collection, folder, parsers=parsers)
    assert seen
    assert not any("canoe" in each for each in seen)
    assert "public raft" in str(find(collection, "raft", BOB, SearchOptions()))


def test_a_folder_that_is_not_there_removes_nothing(
    collection: Collection, folder: Path, parsers: ParserPool
) -> None:
    sync(collection, folder, parsers=parsers)
    folder.rename(folder.with_name("away"))
    with pytest.raises(NotFoundError, match="no such folder"):
        sync(collection, folder, parsers=parsers)
    assert len(collection.documents(None)) == 3


def test_a_folder_without_a_file_is_not_taken_for_empty(
    collection: Collection, folder: Path, parsers: ParserPool
) -> None:
    """So looks the place where a file system is not mounted."""
    sync(collection, folder, parsers=parsers)
    for each in (folder / "boats.md", folder / "pay"):
        each.rename(folder.parent / each.name)
    with pytest.raises(ConflictError, match="is empty, and 3 documents would go"):
        sync(collection, folder, parsers=parsers)
    assert len(collection.documents(None)) == 3
    assert len(sync(collection, folder, parsers=parsers, may_be_empty=True).removed) == 3


def test_unreadable_pages_are_told(collection: Collection, folder: Path, parsers: ParserPool) -> None:
    (folder / "empty.md").write_text(" \n")
    report = sync(collection, folder, parsers=parsers)
    assert report.num_skipped_pages == 1
    info = next(info for info in collection.documents(None) if info.source == "team/empty.md")
    assert (info.status, [problem.kind for problem in info.problems]) == ("unreadable", ["empty"])


def test_an_interruption_leaves_every_document_old_or_new(
    collection: Collection, folder: Path, parsers: ParserPool
) -> None:
    class Impatient(Silent):
        num_seen = 0

        def advance(self, amount: float = 1) -> None:
            self.num_seen += 1
            if self.num_seen > 3:  # all three are embedded, and the first is written
                raise KeyboardInterrupt

    sync(collection, folder, parsers=parsers)
    for path in folder.rglob("*.*"):
        path.write_text("Rewritten: a raft.")
        touch_later(path)
    with pytest.raises(KeyboardInterrupt):
        sync(collection, folder, parsers=parsers, progress=Impatient())
    texts = [collection.parsed(info.document_id, None).text for info in collection.documents(None)]
    assert texts.count("Rewritten: a raft.") == 1
    assert_consistent(collection)
    assert len(sync(collection, folder, parsers=parsers).replaced) == 2
    assert list((collection.registry.store.root / "tmp").iterdir()) == []
