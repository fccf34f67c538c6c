"""`cairn bench engine` as a person types it: a small shape, a model of theirs, what is missing."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cairn.cli import app
from cairn.core import Settings
from cairn.registry import Registry
from tests.engine.native_tiny import needs_native
from tests.providers.tiny_model import tiny_artifact

pytestmark = needs_native


@pytest.fixture(autouse=True)
def home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAIRN_HOME", str(settings.home))
    return settings.home


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["bench", "engine", "--quick", "--threads", "1", *arguments])


def test_a_shape_in_a_table_and_a_picture(tmp_path: Path, home: Path) -> None:
    done = bench("--shape", "8m", "--weights", "int4", "--png", str(tmp_path / "new" / "roof.png"))
    assert done.exit_code == 0, done.output
    rows = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
    assert [row[:3] for row in rows] == [
        ["8m", "int4", work] for work in ("1 stream", "32 streams", "prompt")
    ]
    assert all(float(cell) >= 0 for row in rows for cell in row[3:])
    assert ", 1 thread, " in done.stdout.splitlines()[0]
    assert done.stdout.splitlines()[-1] == f"roofline: {tmp_path / 'new' / 'roof.png'}"
    assert (tmp_path / "new" / "roof.png").read_bytes().startswith(b"\x89PNG")
    assert not (home / "cairn.db").exists()


def test_a_model_of_theirs_and_nothing_added_to_the_registry(settings: Settings, home: Path) -> None:
    with Registry.open(settings) as registry:
        tiny_artifact(registry)
        before = [artifact.digest for artifact in registry.artifacts()]
    done = bench("--model", "tiny", "--weights", "int8", "--weights", "float32", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [row["weights"] for row in found["rows"]] == ["int8"] * 3 + ["float32"] * 3
    assert set(found["ceilings"]["gflops"]) == {"int8", "float32"}
    row = found["rows"][0]
    assert row["share_of_read"] == pytest.approx(row["gbps"] / found["ceilings"]["read_gbps"])
    assert Path(found["png"]).parent == home
    with Registry.open(settings) as registry:
        assert [artifact.digest for artifact in registry.artifacts()] == before


def test_without_matplotlib_the_table_is_there_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "cairn.compute.roofline", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    done = bench("--shape", "8m", "--weights", "int4")
    assert done.exit_code == 0, done.output
    assert "8m\tint4\tprompt" in done.stdout
    assert "roofline" not in done.stdout
    assert done.stderr.rstrip().endswith("pip install 'cairn[train]'")


@pytest.mark.parametrize(
    "arguments", [("--shape", "9m"), ("--weights", "int2"), ("--model", "tiny", "--shape", "8m")]
)
def test_what_is_not_there_is_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert bench(*arguments).exit_code == 2
