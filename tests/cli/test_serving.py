"""The serving commands as a person types them: real processes, a real home, a tiny real model."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from typer.testing import CliRunner, Result

from cairn.cli import app
from cairn.cli.up import num_bytes_of
from cairn.core import NotFoundError, Settings
from cairn.core.errors import StorageError
from cairn.models import load_decoder
from cairn.providers.starter import adopt_starter
from cairn.registry import Registry
from cairn.registry.manifest import MANIFEST_NAME
from cairn.server.running import published
from tests.conftest import killed_when_late
from tests.engine.tiny_adapters import SPLIT, save_adapter
from tests.providers.tiny_model import tiny_artifact

PATIENCE = 120


@pytest.fixture
def home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty CAIRN_HOME."""
    monkeypatch.setenv("CAIRN_HOME", str(settings.home))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return settings.home


@pytest.fixture
def tiny_home(home: Path, settings: Settings) -> Path:
    """A home with one model, `tiny`."""
    with Registry.open(settings) as registry:
        tiny_artifact(registry)
    return home


def cairn(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=text)


def checkpoint(settings: Settings, folder: Path, **generation: Any) -> Path:
    """A Hugging Face folder on disk."""
    with Registry.open(settings.model_copy(update={"home": folder / "elsewhere"})) as registry:
        artifact = tiny_artifact(registry, generation=generation or None)
        target = folder / "Tiny Llama"
        target.mkdir()
        for entry in artifact.files:
            (target / entry.path).write_bytes((artifact.folder / entry.path).read_bytes())
    return target


class Up:
    """A running `cairn up`."""

    def __init__(self, *arguments: str) -> None:
        command = [str(Path(sys.executable).parent / "cairn"), "up", "--port", "0", *arguments]
        env = os.environ | {"PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
        )
        assert self.process.stdout is not None
        self.lines: dict[str, str] = {}
        with killed_when_late(self.process, PATIENCE):
            while "Next" not in self.lines:
                line = self.process.stdout.readline()
                assert line, f"it ended: {self.lines}"
                label, _, value = line.strip().partition(" ")
                self.lines[label] = value.strip()

    @property
    def link(self) -> str:
        return self.lines["Page"].split()[0]

    @property
    def url(self) -> str:
        return self.link.split("/sign-in")[0]

    def stop(self, signum: int = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        code = self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.rest = self.process.stdout.read()
        self.process.stdout.close()
        return code


@pytest.fixture
def up() -> Iterator[type[Up]]:
    """Start `cairn up`; whatever a test leaves running is ended."""
    made: list[Up] = []

    class Tracked(Up):
        def __init__(self, *arguments: str) -> None:
            super().__init__(*arguments)
            made.append(self)

    yield Tracked
    for each in made:
        if each.process.poll() is None:
            each.stop(signal.SIGKILL)


def test_the_first_minute(tiny_home: Path, up: type[Up]) -> None:
    first = up()
    assert re.fullmatch(r"cairn_[0-9a-f]{12}_[0-9a-f]{64}  \(admin; shown this once\)", first.lines["Key"])
    key = first.lines["Key"].split()[0]
    assert first.lines["Model"].startswith("tiny (")
    assert first.lines["Data"] == str(tiny_home)
    assert f"{first.url}/v1" in first.lines["Next"]
    with httpx2.Client(timeout=PATIENCE) as browser:
        assert browser.get(first.link).status_code == 303
        assert browser.get(f"{first.url}/api/session").json()["user_id"] == "admin"
    with openai.OpenAI(base_url=f"{first.url}/v1", api_key=key, timeout=PATIENCE) as client:
        asked: Any = [{"role": "user", "content": "hi"}]
        answer = client.chat.completions.create(model="tiny", messages=asked, max_tokens=4)
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert first.stop() == 0
    assert first.rest == ""
    second = up()
    assert "Key" not in second.lines
    with httpx2.Client(headers={"authorization": f"Bearer {key}"}, timeout=PATIENCE) as client_again:
        assert client_again.get(f"{second.url}/v1/models").status_code == 200
    assert second.stop(signal.SIGINT) == 0
    third = up("--new-key")
    assert third.lines["Key"].split()[0] != key


def test_without_a_model_the_page_is_served_all_the_same(
    home: Path, up: type[Up], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = up()
    if "starter" not in running.lines["Model"]:
        assert "cairn build recipes/tutorial.toml" in running.lines["Model"]
    with httpx2.Client(timeout=PATIENCE) as client:
        assert client.get(f"{running.url}/healthz").status_code == 200
        assert "Cairn" in client.get(running.url).text


def test_a_busy_port_is_said_with_a_free_one(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = cairn("up", "--port", str(port))
    assert result.exit_code == 1
    assert f"port {port} on 127.0.0.1 is in use" in str(result.exception)
    assert re.search(r"cairn up --port \d+", str(result.exception))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--host", "0.0.0.0"), "without encryption"),
        (("--host", "::"), "without encryption"),
        (("--tls-certificate", "x.pem"), "both a certificate and its key"),
        (("nothing", "--port", "0"), "nothing"),
    ],
)
def test_what_up_refuses(home: Path, arguments: tuple[str, ...], message: str) -> None:
    result = cairn("up", *arguments)
    assert result.exit_code == 1
    assert message in str(result.exception)


def test_chat_in_a_pipe_then_its_receipt_and_replay(tiny_home: Path) -> None:
    said = cairn("chat", "tiny", "--max-tokens", "8", "--temperature", "0", text="hello\n")
    assert said.exit_code == 0, said.output
    assert said.stdout.strip()
    assert cairn("chat", "--max-tokens", "8", "--temperature", "0", text="hello\n").stdout == said.stdout
    rows = json.loads(cairn("receipt", "ls", "--json").stdout)
    assert [(row["model"], row["user"]) for row in rows] == [("tiny", "local")] * 2
    receipt_id = rows[0]["id"]
    shown = cairn("receipt", "show", receipt_id)
    assert "ended by" in shown.stdout
    assert "max_tokens 8" in shown.stdout
    replayed = cairn("replay", receipt_id)
    assert replayed.exit_code == 0
    assert replayed.stdout.startswith("the same: ")
    assert json.loads(cairn("replay", receipt_id, "--json").stdout)["is_same"] is True


def test_where_nothing_can_be_recorded_nothing_is_said(
    tiny_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAIRN_DATABASE_URL", f"sqlite:///file:{tiny_home / 'cairn.db'}?mode=ro&uri=true")
    refused = cairn("chat", "tiny", "--max-tokens", "8", text="hello\n")
    assert refused.exit_code == 1
    assert isinstance(refused.exception, StorageError)
    assert refused.stdout == ""


def test_a_conversation_in_a_terminal_remembers(tiny_home: Path, settings: Settings) -> None:
    master, slave = pty.openpty()
    command = [str(Path(sys.executable).parent / "cairn"), "chat", "tiny", "--max-tokens", "3"]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, close_fds=True)
    os.close(slave)
    try:
        for line in ("first stone", "second stone"):
            read_until(master, b"> ")
            os.write(master, line.encode() + b"\n")
        read_until(master, b"> ")
        os.write(master, b"\x04")  # Ctrl-D
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
    with Registry.open(settings) as registry:
        second, first = registry.receipts(2)
    said = [message["content"] for message in second.request["messages"]]
    assert said[::2] == ["first stone", "second stone"]
    assert len(first.request["messages"]) == 1


def read_until(descriptor: int, mark: bytes) -> None:
    """Read from a terminal until it shows a mark."""
    shown = b""
    while not shown.endswith(mark):
        readable, _, _ = select.select([descriptor], [], [], PATIENCE)
        assert readable, shown
        piece = os.read(descriptor, 1024)
        assert piece, shown
        shown += piece


def test_a_receipt_that_does_not_replay_ends_with_1(tiny_home: Path, settings: Settings) -> None:
    cairn("chat", "tiny", "--max-tokens", "4", text="hello\n")
    with Registry.open(settings) as registry:
        from dataclasses import replace

        (receipt,) = registry.receipts(1)
        forged = replace(receipt, receipt_id="rcpt_forged", outputs=[[1, *receipt.outputs[0][1:]]])
        registry.save_receipt(forged)
    result = cairn("replay", "rcpt_forged")
    assert result.exit_code == 1
    assert "different: choice 0, token 0: recorded 1" in result.stdout


def test_models_are_listed_shown_and_unnamed(tiny_home: Path) -> None:
    (row,) = json.loads(cairn("models", "ls", "--json").stdout)
    assert row["name"] == "tiny"
    assert "tiny" in cairn("models", "ls").stdout
    shown = cairn("models", "show", "tiny").stdout
    assert "# Tiny" in shown
    assert row["digest"] in shown
    removed = cairn("models", "rm", "tiny")
    assert removed.exit_code == 0
    undo = removed.stderr.split("undo: cairn ")[1].split()
    assert cairn("models", "ls").stdout == ""
    assert cairn(*undo).exit_code == 0
    assert json.loads(cairn("models", "ls", "--json").stdout)[0]["digest"] == row["digest"]


def test_a_checkpoint_comes_in_and_answers(home: Path, settings: Settings, tmp_path: Path) -> None:
    folder = checkpoint(settings, tmp_path)
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "README.md").write_text("# A card")
    result = cairn("import", str(folder))
    assert result.exit_code == 0, result.output
    assert "cairn chat tiny-llama" in result.stderr
    shown = json.loads(cairn("models", "show", "tiny-llama", "--json").stdout)
    assert shown["card"] == "# A card"
    assert shown["metadata.family"] == "llama"
    with Registry.open(settings) as registry:
        assert not any("pytorch" in entry.path for entry in registry.get("tiny-llama").files)
    assert cairn("chat", "tiny-llama", "--max-tokens", "2", text="hi").exit_code == 0


def test_models_come_into_a_servers_memory_and_leave(
    tiny_home: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = cairn("models", "load", "tiny")
    assert "no server runs over" in str(refused.exception)
    with Registry.open(settings) as registry:
        tiny_artifact(registry, name="other", seed=2)
    (tiny_home / "servers").mkdir()
    stale = tiny_home / "servers" / "1.lock"
    stale.write_text("http://127.0.0.1:1")  # of a server that was killed
    up = Up("tiny", "--pin", "other")
    try:
        # The start loads the first model; whoever asks for it meanwhile waits.
        loaded = cairn("models", "load", "tiny")
        assert re.fullmatch(r"tiny is in memory, takes \S+ .B; models take \S+ .B of \S+ .B\n", loaded.stderr)
        assert not stale.exists()
        rows = {row["name"]: row["memory"] for row in json.loads(cairn("models", "ls", "--json").stdout)}
        assert {name for name, row in rows.items() if row["state"] == "loaded"} == {"tiny"}
        assert cairn("models", "load", "other").exit_code == 0
        lines = [line.split("\t") for line in cairn("models", "ls").stdout.splitlines()]
        shown = {line[0]: line[-2] for line in lines}
        assert re.fullmatch(r"\S+ .B, idle", shown["tiny"])
        assert re.fullmatch(r"\S+ .B, idle, pinned", shown["other"])
        assert "tiny is not in memory" in cairn("models", "unload", "tiny").stderr
        unknown = cairn("models", "load", "nothing")
        assert str(unknown.exception) == "no model 'nothing'\n  list them: cairn models ls"
        # By address, with a key: an administrator's and another's.
        monkeypatch.delenv("CAIRN_API_KEY", raising=False)
        assert "CAIRN_API_KEY is not set" in str(
            cairn("models", "load", "tiny", "--address", up.url).exception
        )
        for key, exit_code in ((cairn("key", "create"), 0), (cairn("key", "create", "ada"), 1)):
            monkeypatch.setenv("CAIRN_API_KEY", key.stdout.strip())
            result = cairn("models", "load", "tiny", "--address", up.url)
            assert result.exit_code == exit_code
        assert "ada (member) may not load" in str(result.exception)
    finally:
        up.stop()
    assert list((tiny_home / "servers").iterdir()) == []
    assert "idle" not in cairn("models", "ls").stdout
    assert "no server runs over" in str(cairn("models", "unload", "tiny").exception)


def test_an_adapter_comes_in_answers_and_goes_out(
    tiny_home: Path, settings: Settings, tmp_path: Path
) -> None:
    with Registry.open(settings) as registry:
        base = load_decoder(registry.get("tiny").folder)
    folder = str(save_adapter(base, SPLIT, lora_alpha=64))
    said = cairn("import", folder, "--base", "tiny", "--name", "stones")
    assert "stones is here (adapter of tiny); talk to it: cairn chat stones" in said.stderr
    rows = {row["name"]: row for row in json.loads(cairn("models", "ls", "--json").stdout)}
    assert (rows["stones"]["base"], rows["stones"]["task"], rows["tiny"]["base"]) == ("tiny", "text", "")
    assert ["stones", "text", "tiny"] in [
        line.split("\t")[:3] for line in cairn("models", "ls").stdout.splitlines()
    ]
    answers = [
        cairn("chat", name, "--temperature", "0", "--max-tokens", "8", text="stones")
        for name in ("tiny", "stones")
    ]
    assert [answer.exit_code for answer in answers] == [0, 0]
    assert answers[0].stdout != answers[1].stdout
    assert cairn("models", "export", "stones", str(tmp_path / "out")).exit_code == 0
    assert (tmp_path / "out" / "adapter_config.json").is_file()
    (tmp_path / "taken").write_text("")
    refused = cairn("models", "export", "stones", str(tmp_path / "taken"), "--force")
    assert "is a file, stones is an adapter" in str(refused.exception)


@pytest.mark.parametrize("options", [(), ("--base", "tiny")])
@pytest.mark.parametrize("path", ["nowhere", "./nowhere", "../nowhere", "/nowhere/at/all"])
def test_a_path_that_is_not_there(tiny_home: Path, path: str, options: tuple[str, ...]) -> None:
    result = cairn("import", path, *options)
    assert isinstance(result.exception, NotFoundError)
    assert str(Path(path)) in str(result.exception)
    assert "check the path" in result.exception.remedy


def test_what_cannot_be_served_is_not_imported(home: Path, settings: Settings, tmp_path: Path) -> None:
    folder = checkpoint(settings, tmp_path)
    weights = folder / "model.safetensors"
    whole, config = weights.read_bytes(), (folder / "config.json").read_text()
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: weights.write_bytes(whole[: len(whole) // 2]), "model.safetensors"),
        (lambda: weights.rename(folder / "pytorch_model.bin"), "pickles"),
        (lambda: (folder / "config.json").write_text('{"model_type": "mystery"}'), "mystery"),
        (lambda: (folder / "generation_config.json").write_text('{"eos_token_id": 5}'), "end token"),
        (lambda: (folder / "tokenizer.json").write_text("{"), "tokenizer"),
        (lambda: (folder / "config.json").unlink(), "config.json"),
    ]
    ends = (folder / "generation_config.json").read_text()
    tokens = (folder / "tokenizer.json").read_text()
    for spoil, message in cases:
        weights.write_bytes(whole)
        (folder / "config.json").write_text(config)
        (folder / "generation_config.json").write_text(ends)
        (folder / "tokenizer.json").write_text(tokens)
        spoil()
        result = cairn("import", str(folder))
        assert result.exit_code == 1
        assert message in str(result.exception)
        assert getattr(result.exception, "remedy", ""), result.exception
        (folder / "pytorch_model.bin").unlink(missing_ok=True)
    assert cairn("models", "ls").stdout == ""
    assert cairn("import", str(tmp_path / "nothing")).exit_code == 1


def test_pulling_without_a_network_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for verb in ("pull", "import"):
        result = cairn(verb, "nobody/nothing")
        assert result.exit_code == 1
        assert "cannot fetch nobody/nothing" in str(result.exception)
        assert "cairn import PATH" in str(result.exception)
    assert cairn("pull", "not a repository").exit_code == 1


def test_keys(home: Path, settings: Settings) -> None:
    key = cairn("key", "create", "ada").stdout.strip()
    assert key.startswith("cairn_")
    rows = json.loads(cairn("key", "ls", "--json").stdout)
    assert [row["user"] for row in rows] == ["admin", "ada"]
    assert cairn("key", "revoke", rows[1]["id"]).exit_code == 0
    assert json.loads(cairn("key", "ls", "--json").stdout)[1]["revoked"] != "-"
    assert cairn("key", "revoke", "nothing").exit_code == 1
    assert re.match(r"https://ai/sign-in\?token=\S+", cairn("key", "link", "--address", "https://ai/").stdout)
    assert cairn("key", "link").stdout.startswith("http://127.0.0.1:8642/sign-in?")
    with published(home, "http://127.0.0.1:8791"):
        assert cairn("key", "link").stdout.startswith("http://127.0.0.1:8791/sign-in?")
    assert cairn("key", "link", "nobody").exit_code == 1


def test_doctor(tiny_home: Path) -> None:
    result = cairn("doctor", "--json")
    assert result.exit_code == 0, result.output
    found = {check["check"]: check for check in json.loads(result.stdout)}
    assert found["models"]["found"] == "tiny"
    assert found["home"]["found"] == str(tiny_home)
    assert {
        "python",
        "engine",
        "torch",
        "processor",
        "features",
        "memory",
        "disk",
        "database",
        "page",
    } <= set(found)
    assert "tiny" in cairn("doctor").stdout


def test_doctor_sees_a_broken_home(home: Path) -> None:
    home.mkdir(parents=True)
    (home / "cairn.db").write_bytes(b"this is no database at all" * 100)
    result = cairn("doctor", "--json")
    assert result.exit_code == 1
    (database,) = [check for check in json.loads(result.stdout) if check["check"] == "database"]
    assert database["state"] == "broken"
    assert database["remedy"]


def test_doctor_tries_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    # A folder in which not even root can make a file.
    monkeypatch.setenv("CAIRN_HOME", "/proc/self")
    result = cairn("doctor", "--json")
    assert result.exit_code == 1
    found = {check["check"]: check for check in json.loads(result.stdout)}
    assert found["home"]["state"] == "broken"
    assert "CAIRN_HOME" in found["home"]["remedy"]


def test_the_starter_is_adopted_once_with_its_digest(settings: Settings, tmp_path: Path) -> None:
    with Registry.open(settings.model_copy(update={"home": tmp_path / "maker"})) as maker:
        with maker.create("corpus") as writer:
            (writer.folder / "a").write_text("a")
        artifact = tiny_artifact(maker)
        folder = tmp_path / "starter"
        folder.mkdir()
        for name in (MANIFEST_NAME, *(entry.path for entry in artifact.files)):
            (folder / name).write_bytes((artifact.folder / name).read_bytes())
    with Registry.open(settings) as registry:
        with registry.create("model", metadata={"task": "embedding"}) as writer:  # it does not write
            (writer.folder / "a").write_text("a")
        registry.set_alias("embedder", writer.artifact.digest)
        adopted = adopt_starter(registry, folder)
        assert adopted is not None
        assert adopted.digest == artifact.digest
        assert registry.get("starter").digest == artifact.digest
        assert adopt_starter(registry, folder) is None
        assert adopt_starter(registry, tmp_path) is None


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from cairn.cli import app; "
        "heavy = {'torch', 'fastapi', 'sqlalchemy', 'numpy', 'pydantic', 'rich', 'tokenizers'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_sizes_as_people_write_them(home: Path) -> None:
    written = {"8GB": 8_000_000_000, "600 MB": 600_000_000, "2.5g": 2_500_000_000, "7000000": 7_000_000}
    assert {text: num_bytes_of(text) for text in written} == written
    refused = cairn("up", "--memory", "lots")
    assert refused.exit_code == 2
    assert "'lots' is no size" in refused.output
