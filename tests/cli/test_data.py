"""`cairn data` as a person and as a program uses it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cairn.cli import app
from cairn.core import NotFoundError
from tests.data.test_quality import PROSE

runner = CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own and no mirror."""
    monkeypatch.setenv("CAIRN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CAIRN_MIRROR", raising=False)
    return tmp_path / "home"


def run(*arguments: str) -> str:
    result = runner.invoke(app, ["data", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_ls() -> None:
    lines = run("ls").splitlines()
    assert lines[0] == "tutorial\tpre-training, fine-tuning\tpublic domain\tyes\tyes"
    assert len(lines) == 45
    rows = json.loads(run("ls", "--json", "--use", "evaluation"))
    assert {"mmlu", "humaneval", "bbh"} <= {row["name"] for row in rows}
    assert all("evaluation" in row["use"] for row in rows)
    assert len(rows[0]["archive"]) == 71


def test_show() -> None:
    text = run("show", "gsm8k")
    assert "licence\tMIT\n" in text
    assert (
        "source\thttps://github.com/openai/grade-school-math/tree/3101c7d5072418e28b9008a6636bde82a006892c"
        in text
    )
    row = json.loads(run("show", "gsm8k", "--json"))
    assert row["weights"] == "train only"
    assert row["folder"] == ""


def test_get_and_verify() -> None:
    folder = Path(run("get", "tutorial").strip())
    assert (folder / "alice.md").is_file()
    assert json.loads(run("get", "tutorial", "--json")) == [{"name": "tutorial", "folder": str(folder)}]
    assert "every file is as it should be" in run("verify", "tutorial")
    with pytest.raises(NotFoundError, match="is not on this machine"):
        run("verify", "gsm8k")
    with pytest.raises(NotFoundError, match="no data set is called 'gms8k'"):
        run("get", "gms8k")


def test_clean(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(PROSE, encoding="utf-8")
    out = tmp_path / "out.jsonl"
    report = json.loads(run("clean", str(tmp_path), "--out", str(out), "--language", "en", "--json"))
    assert report["read"]["num_documents"] == 2
    assert report["steps"]["exact"]["reasons"] == {"exact duplicate": 1}
    assert len(out.read_text(encoding="utf-8").splitlines()) == 1
    table = run("clean", str(tmp_path / "a.txt"), "--out", str(out))
    assert table.splitlines()[0].startswith("clean\t1\t1\t")
