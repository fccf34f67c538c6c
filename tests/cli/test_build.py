"""The commands build, plan and runs."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cairn.cli import app, main
from tests.lifecycle.conftest import write_recipe


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_recipe(tmp_path_factory.mktemp("recipe"), family="llama")
    text = (
        path.read_text()
        .replace("steps = 12", "steps = 3")
        .replace("num_instructions = 4", "num_instructions = 1")
    )
    path.write_text(text)
    return path


def run(*arguments: str, home: Path) -> str:
    environment = {"CAIRN_HOME": str(home), "COLUMNS": "200"}
    result = CliRunner().invoke(app, arguments, env=environment, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_build_then_look_at_it(home: Path, recipe: Path) -> None:
    before = json.loads(run("build", str(recipe), "--dry-run", "--json", home=home))
    assert {row["status"] for row in before} == {"to do"}
    lines = run("build", str(recipe), home=home).strip().splitlines()
    report = Path(lines[-1].split()[-1])
    assert report.name == "report.html"
    assert report.is_file()

    again = json.loads(run("build", str(recipe), "--json", home=home))
    assert all(stage["cached"] for stage in again["stages"])
    assert again["name"] == "tiny-chat:latest"

    runs = json.loads(run("runs", "ls", "--json", home=home))
    assert [row["status"] for row in runs] == ["succeeded", "succeeded"]
    shown = json.loads(run("runs", "show", runs[1]["run_id"], "--json", home=home))
    assert [stage["stage"] for stage in shown["stages"]][:3] == ["data", "tokenizer", "pack"]
    pretrain = next(stage for stage in shown["stages"] if stage["stage"] == "pretrain")
    assert "loss" in run("runs", "show", pretrain["run_id"], home=home)

    plan = json.loads(run("plan", str(recipe), "--no-measure", "--json", home=home))
    assert plan["last_build"]["pretrain"]["predicted"]
    assert plan["last_build"]["pretrain"]["actual"]
    assert "pretrain" in run("plan", str(recipe), "--no-measure", home=home)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "typo.toml"], "did you mean 'sft'?"),
        (["plan", "tiny.tml"], "did you mean"),
        (["build", "tiny.toml", "--from", "stf"], "there is no stage 'stf'"),
        (["runs", "show", "run_0"], "there is no run run_0"),
    ],
)
def test_mistakes_end_with_a_remedy_and_exit_code_one(
    home: Path,
    recipe: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (recipe.parent / "typo.toml").write_text(recipe.read_text().replace("[sft]", "[sftt]"))
    monkeypatch.chdir(recipe.parent)
    monkeypatch.setenv("CAIRN_HOME", str(home))
    monkeypatch.setattr(sys, "argv", ["cairn", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert message in capsys.readouterr().err
