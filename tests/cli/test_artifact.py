"""`cairn artifact` and `cairn audit` as a person types them: output, errors, exit codes."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cairn.cli import main
from cairn.core import Settings
from cairn.registry import Artifact, Registry


@dataclass(frozen=True, slots=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """Cells of a piped table."""
        return [line.split("\t") for line in self.out.splitlines()]


Cairn = Callable[..., Said]


@pytest.fixture
def cairn(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cairn:
    """Type a command; the home is that of `settings`."""
    monkeypatch.setenv("CAIRN_HOME", str(settings.home))
    monkeypatch.delenv("CAIRN_DATABASE_URL", raising=False)

    def call(*words: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["cairn", *map(str, words)])
        code: Any = 0
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code or 0
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


@pytest.fixture
def family(settings: Settings) -> dict[str, Artifact]:
    """dataset -> tokenizer -> model (named twice); dataset -> model; and a report on its own."""
    made: dict[str, Artifact] = {}
    with Registry.open(settings) as registry:
        for kind, parents in {
            "dataset": (),
            "tokenizer": ("dataset",),
            "model": ("dataset", "tokenizer"),
            "report": (),
        }.items():
            metadata = {"note": kind, "layers": [1, 2]}
            with registry.create(
                kind, parents=[made[p].digest for p in parents], metadata=metadata
            ) as writer:
                (writer.folder / "text.txt").write_text(kind * 100)
            made[kind] = writer.artifact
        for alias in ("latest", "production"):
            registry.set_alias("assistant", made["model"].digest, alias=alias)
    return made


def short(artifact: Artifact) -> str:
    return artifact.digest[7:19]


def test_ls(cairn: Cairn, family: dict[str, Artifact]) -> None:
    rows = cairn("artifact", "ls").rows
    assert [row[0] for row in rows] == [short(a) for a in reversed(family.values())]
    assert rows[1][1:4] == ["model", "assistant:latest, assistant:production", "500 B"]
    assert [row[1] for row in cairn("artifact", "ls", "--kind", "model").rows] == ["model"]
    [model] = cairn("artifact", "ls", "--kind", "model", "--json").json
    assert model["digest"] == family["model"].digest
    assert model["names"] == ["assistant:latest", "assistant:production"]
    assert model["metadata"] == {"note": "model", "layers": [1, 2]}


def test_ls_of_nothing(cairn: Cairn) -> None:
    said = cairn("artifact", "ls")
    assert (said.code, said.out) == (0, "")
    assert "No artifacts yet" in said.err
    assert cairn("artifact", "ls", "--json").json == []


def test_show(cairn: Cairn, family: dict[str, Artifact]) -> None:
    said = cairn("artifact", "show", "assistant:production")
    assert family["model"].digest in said.out
    assert f"parents          {short(family['dataset'])}, {short(family['tokenizer'])}" in said.out
    assert "metadata.layers  [1, 2]" in said.out
    assert "text.txt\t500 B" in said.out
    shown = cairn("artifact", "show", short(family["model"]), "--json").json
    assert shown["files"][0]["path"] == "text.txt"
    assert shown["parents"] == [family["dataset"].digest, family["tokenizer"].digest]


def test_show_of_an_unknown_name(cairn: Cairn, family: dict[str, Artifact]) -> None:
    said = cairn("artifact", "show", "asistant")
    assert (said.code, said.out) == (1, "")
    assert said.err == "error: no artifact is called 'asistant'\n  did you mean assistant:latest?\n"


def test_verify(cairn: Cairn, family: dict[str, Artifact]) -> None:
    assert cairn("artifact", "verify", "assistant").rows == [[short(family["model"]), "ok"]]
    assert [row[1] for row in cairn("artifact", "verify", "--all").rows] == ["ok"] * 4
    assert cairn("artifact", "verify").code == 2
    assert cairn("artifact", "verify", "--all", "assistant").code == 2
    path = family["model"].folder / "text.txt"
    path.chmod(0o644)
    path.write_text("x" * 500)
    said = cairn("artifact", "verify", "--all")
    assert said.code == 1
    assert [row[1].startswith("ok") for row in said.rows].count(False) == 1
    assert "text.txt hashes to" in said.out
    said = cairn("artifact", "verify", "nothing", "assistant", "--json")
    assert said.code == 1
    assert [result["ok"] for result in said.json] == [False, False]


def test_verify_finds_and_repairs_what_the_catalogue_lost(
    cairn: Cairn, settings: Settings, family: dict[str, Artifact]
) -> None:
    for path in settings.home.glob("cairn.db*"):
        path.unlink()
    said = cairn("artifact", "verify", "--all")
    assert said.code == 1
    assert said.out.count("not in the catalogue: add --repair") == 4
    said = cairn("artifact", "verify", "--all", "--repair")
    assert said.code == 0
    assert said.out.count("taken back") == 4
    assert [row[1] for row in cairn("artifact", "verify", "--all").rows] == ["ok"] * 4


def test_lineage(cairn: Cairn, family: dict[str, Artifact]) -> None:
    dataset, tokenizer = short(family["dataset"]), short(family["tokenizer"])
    lines = [line.split("  20")[0] for line in cairn("artifact", "lineage", "assistant").out.splitlines()]
    assert lines[0] == f"{short(family['model'])}  model  assistant:latest  assistant:production"
    assert lines[1] == "made from:"
    branches = {
        (f"├── {dataset}  dataset", f"└── {tokenizer}  tokenizer", f"    └── {dataset}  dataset"),
        (f"├── {tokenizer}  tokenizer", f"│   └── {dataset}  dataset", f"└── {dataset}  dataset"),
    }
    assert tuple(lines[2:5]) in branches
    assert lines[5:] == ["used in: nothing"]
    found = cairn("artifact", "lineage", dataset, "--json").json
    assert len(found["nodes"]) == 3
    assert sorted(map(tuple, found["edges"])) == sorted(
        (family[a].digest, family[b].digest)
        for a, b in [("dataset", "tokenizer"), ("dataset", "model"), ("tokenizer", "model")]
    )


def test_alias(cairn: Cairn, family: dict[str, Artifact]) -> None:
    model, report = short(family["model"]), short(family["report"])
    assert cairn("artifact", "alias", "x:beta", report).err == f"x:beta points to {report}\n"
    assert [row[:2] for row in cairn("artifact", "alias").rows] == [
        ["assistant:latest", model],
        ["assistant:production", model],
        ["x:beta", report],
    ]
    assert [row[0] for row in cairn("artifact", "alias", "assistant").rows] == [
        "assistant:latest",
        "assistant:production",
    ]
    assert [row[0] for row in cairn("artifact", "alias", "assistant:latest").rows] == ["assistant:latest"]
    assert cairn("artifact", "alias", "x:beta", "assistant", "--expect", "none").code == 1
    assert cairn("artifact", "alias", "x:beta", "assistant", "--expect", "assistant").code == 1
    assert cairn("artifact", "alias", "x:beta", "assistant", "--expect", report).code == 0
    assert cairn("artifact", "alias", "x:beta", "--remove").code == 0
    assert [row[1:3] for row in cairn("artifact", "alias", "x:beta", "--history").rows] == [
        ["-", report],
        [report, model],
        [model, "-"],
    ]
    assert cairn("artifact", "alias", "x:beta", "--history", "--json").json[2]["digest"] is None
    assert cairn("artifact", "alias", "assistant", "--json").json[0]["digest"] == family["model"].digest
    for wrong in (["--history"], ["--remove"], ["x", report, "--remove"], ["x", "--history", "--remove"]):
        assert cairn("artifact", "alias", *wrong).code == 2


def test_gc(cairn: Cairn, family: dict[str, Artifact]) -> None:
    assert "Nothing to remove." in cairn("artifact", "gc").err
    said = cairn("artifact", "gc", "--dry-run", "--grace-hours", "0")
    assert [row[1] for row in said.rows] == ["report"]
    assert said.err == "would free 600 B\n"
    assert [each["kind"] for each in cairn("artifact", "gc", "--grace-hours", "0", "--json").json] == [
        "report"
    ]
    assert len(cairn("artifact", "ls").rows) == 3


def test_export_and_import(
    cairn: Cairn, family: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"{short(family['model'])}.tar"
    assert str(path) in cairn("artifact", "export", "assistant", tmp_path).err
    again = cairn("artifact", "export", "assistant", path, "--parents")
    assert again.code == 1
    assert "--force" in again.err
    assert cairn("artifact", "export", "assistant", path, "--parents", "--force").code == 0
    monkeypatch.setenv("CAIRN_HOME", str(tmp_path / "other"))
    assert "is here" in cairn("artifact", "import", path, "--name", "mine:beta").err
    assert [row[2] for row in cairn("artifact", "ls").rows] == ["mine:beta", "", ""]
    path.write_bytes(path.read_bytes()[:-8000])
    said = cairn("artifact", "import", path)
    assert said.code == 1
    assert "the archive is refused" in said.err


def test_rm(cairn: Cairn, family: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch) -> None:
    said = cairn("artifact", "rm", "--yes", "assistant")
    assert said.code == 1
    assert "is needed: the name assistant:latest, the name assistant:production" in said.err
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115 (closed by the next line's patch)
    report = short(family["report"])
    assert cairn("artifact", "rm", report).code == 2
    sys.stdin.close()
    assert cairn("artifact", "rm", "-y", report).err == f"removed {report} (report, 600 B)\n"
    assert len(cairn("artifact", "ls").rows) == 3


def test_audit(cairn: Cairn, settings: Settings, family: dict[str, Artifact]) -> None:
    rows = cairn("audit", "ls").rows
    assert [row[0] for row in rows] == ["1", "2"]
    assert rows[0][2:] == [
        "alias.move",
        "local",
        "assistant:latest",
        f"digest {short(family['model'])}, previous -",
    ]
    assert [row[0] for row in cairn("audit", "ls", "--after", "1").rows] == ["2"]
    assert cairn("audit", "ls", "--limit", "1", "--json").json[0]["seq"] == 2
    lines = cairn("audit", "verify").out.splitlines()
    assert lines[0] == "2 entries, unbroken"
    head = lines[1].removeprefix("head ")
    assert cairn("audit", "verify", "--json").json == {"ok": True, "count": 2, "head": head}
    assert cairn("audit", "verify", "--head", head).code == 0
    assert cairn("audit", "verify", "--head", "nonsense").code == 1
    with Registry.open(settings) as registry, registry.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE audit_entries SET actor = 'eve' WHERE seq = 2")
    said = cairn("audit", "verify")
    assert (said.code, said.out) == (1, "")
    assert "audit entry 2 is changed" in said.err


def test_every_table_fits_a_narrow_terminal(
    cairn: Cairn, family: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for words in ("artifact ls", "artifact alias", "artifact verify --all", "audit ls"):
        said = cairn(*words.split())
        assert said.code == 0
        assert max(len(re.sub(r"\x1b\[\d*m", "", line)) for line in said.out.splitlines()) <= 60
