"""`pip install cairn` without extras: it serves the starter model, and torch is nowhere."""

import subprocess
import sys
from pathlib import Path

import openai
import pytest

from cairn.core import Settings
from tests.cli.test_serving import Up, checkpoint
from tests.conftest import killed_when_late
from tests.engine.native_tiny import needs_native
from tests.providers.tiny_encoder import embedder_folder

pytestmark = needs_native

# What only extras bring. Finders that do not find them make the interpreter one of a plain installation.
HIDDEN = (
    "torch",
    "matplotlib",
    "py3langid",
    "pyarrow",
    "rensa",
    "zstandard",
    "lz4",
    "transformers",
    "sentence_transformers",
    "psycopg",
)
SITE = f"""
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in {HIDDEN!r} else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


@pytest.fixture(autouse=True)
def plain_installation(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("CAIRN_HOME", str(settings.home))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def _cairn(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "cairn"), *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=120)


def test_the_starter_answers() -> None:
    hidden = subprocess.run(
        [sys.executable, "-c", "import torch"], capture_output=True, text=True, check=False
    )
    assert "No module named 'torch'" in hidden.stderr
    reply = _cairn("chat", "--temperature", "0", text="Who are you?")
    assert reply.returncode == 0, reply.stderr
    assert "model" in reply.stdout
    assert "native" in _cairn("doctor").stdout


def test_a_server_is_small() -> None:
    server = Up()
    try:
        key = server.lines["Key"].split()[0]
        with (
            killed_when_late(server.process, 120),
            openai.OpenAI(base_url=f"{server.url}/v1", api_key=key) as client,
        ):
            reply = client.completions.create(model="starter", prompt="Once upon", max_tokens=8)
        assert reply.usage is not None
        assert reply.usage.completion_tokens == 8
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        resident = next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]
        assert int(resident) * 1024 < 250_000_000
    finally:
        assert server.stop() == 0


def test_what_comes_in_is_served(settings: Settings, tmp_path: Path) -> None:
    """A Hugging Face folder and a GGUF file with their chat templates, side by side."""
    folder = checkpoint(settings, tmp_path)
    assert _cairn("import", str(folder), "--name", "tiny").returncode == 0
    gguf = tmp_path / "small.gguf"
    assert _cairn("models", "export", "tiny", str(gguf), "--type", "q8_0").returncode == 0
    assert _cairn("import", str(gguf), "--name", "small").returncode == 0
    server = Up("small", "tiny")
    try:
        key = server.lines["Key"].split()[0]
        with (
            killed_when_late(server.process, 120),
            openai.OpenAI(base_url=f"{server.url}/v1", api_key=key) as client,
        ):
            for name in ("tiny", "small"):
                reply = client.chat.completions.create(
                    model=name, messages=[{"role": "user", "content": "hi"}], max_tokens=4
                )
                assert reply.usage is not None
                assert reply.usage.completion_tokens > 0
            states = {model.id: model.model_extra for model in client.models.list()}
        assert {(states[name] or {})["cairn"]["state"] for name in ("tiny", "small")} == {"loaded"}
    finally:
        assert server.stop() == 0


def test_texts_are_embedded(tmp_path: Path) -> None:
    imported = _cairn("import", str(embedder_folder(tmp_path / "embedder")))
    assert imported.returncode == 0, imported.stderr
    server = Up()
    try:
        key = server.lines["Key"].split()[0]
        with (
            killed_when_late(server.process, 120),
            openai.OpenAI(base_url=f"{server.url}/v1", api_key=key) as client,
        ):
            found = client.embeddings.create(model="embedder", input=["the cat", "the dog sat"])
        assert [len(each.embedding) for each in found.data] == [48, 48]
    finally:
        assert server.stop() == 0


def test_what_needs_an_extra_says_which() -> None:
    recipe = Path(__file__).parents[2] / "recipes" / "tutorial.toml"
    refused = _cairn("build", str(recipe))
    assert refused.returncode != 0
    assert "cairn[train]" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_engine_is_measured_and_the_picture_says_what_it_needs() -> None:
    done = _cairn("bench", "engine", "--quick", "--shape", "8m", "--weights", "int4", "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert "8m\tint4\t1 stream" in done.stdout
    assert done.stderr.rstrip().endswith("pip install 'cairn[train]'")
