"""`cairn models export` and `cairn import FILE.gguf` as a person types them, with the starter model."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from cairn.cli import app
from cairn.core import Settings
from cairn.core.errors import CairnError, ConflictError, IntegrityError
from cairn.data import Tokenizer
from cairn.data.gguf_tokenizer import tokenizer_from_gguf
from cairn.models import read_generation_defaults
from cairn.models.gguf import open_gguf
from cairn.models.gguf_import import convert_gguf
from cairn.models.mapped_weights import map_weights
from cairn.providers.loading import load_local_provider
from cairn.providers.starter import adopt_starter
from cairn.registry import Registry
from tests.providers.tiny_model import tiny_artifact


@pytest.fixture
def registry(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The home that the commands use, with the model `tiny`."""
    monkeypatch.setenv("CAIRN_HOME", str(settings.home))
    with Registry.open(settings) as opened:
        tiny_artifact(opened)
        yield opened


def cairn(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if isinstance(result.exception, CairnError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_out_and_in_again(registry: Registry, tmp_path: Path) -> None:
    cairn("models", "export", "tiny", tmp_path / "Tiny Stone.gguf", "--type", "f16")
    said = cairn("import", tmp_path / "Tiny Stone.gguf")
    assert "tiny-stone is here" in said.stderr
    made, back = registry.get("tiny"), registry.get("tiny-stone")
    assert back.metadata["origin"] == "Tiny Stone.gguf"
    assert back.metadata["family"] == "llama"
    before, after = map_weights(made.folder), map_weights(back.folder)
    assert set(before) == set(after)
    for name, tensor in before.items():
        kept = tensor.read() if len(tensor.shape) == 1 else tensor.read().astype(np.float16)
        assert np.array_equal(after[name].read(), kept), name
    ends = read_generation_defaults(made.folder).eos_token_ids
    assert set(read_generation_defaults(back.folder).eos_token_ids) == set(ends)
    first, second = Tokenizer.load(made.folder), Tokenizer.load(back.folder)
    assert first.to_json() == second.to_json()
    assert first.chat_template is not None
    assert second.chat_template is not None
    assert first.chat_template.source == second.chat_template.source
    load_local_provider(registry, "tiny-stone").engine.stop()


@pytest.mark.parametrize("weights", ["q8_0", "q4_0"])
def test_the_starter_travels(weights: str, registry: Registry, tmp_path: Path) -> None:
    registry.remove_alias("tiny", "latest")
    starter = adopt_starter(registry)
    assert starter is not None
    cairn("models", "export", starter.digest, tmp_path / "a.gguf", "--type", weights)
    cairn("import", tmp_path / "a.gguf", "--name", "back")
    config = json.loads((registry.get("back").folder / "config.json").read_text())
    made = json.loads((starter.folder / "config.json").read_text())
    assert config == made
    load_local_provider(registry, "back").engine.stop()


def test_a_file_is_not_replaced_unasked(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_text("mine")
    with pytest.raises(ConflictError, match="there already"):
        cairn("models", "export", "tiny", path)
    assert path.read_text() == "mine"
    cairn("models", "export", "tiny", path, "--force")
    assert open_gguf(path).metadata["general.name"] == "tiny"
    assert list(tmp_path.glob("a.gguf*")) == [path]


def test_a_broken_file_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    cairn("models", "export", "tiny", path)
    path.write_bytes(path.read_bytes()[:-9])
    artifacts = registry.artifacts()
    with pytest.raises(IntegrityError, match="takes bytes"):
        cairn("import", path)
    assert registry.artifacts() == artifacts
    assert not list(registry.settings.home.glob("gguf-*"))


def test_import_needs_no_torch(registry: Registry, tmp_path: Path) -> None:
    cairn("models", "export", "tiny", tmp_path / "a.gguf")
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom cairn.cli import app\n"
        f"app(['import', {str(tmp_path / 'a.gguf')!r}], standalone_mode=False)\n"
        f"app(['models', 'export', 'a', {str(tmp_path / 'b.gguf')!r}], standalone_mode=False)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b.gguf").is_file()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A whole sound file."""
    folder = tmp_path_factory.mktemp("gguf")
    with Registry.open(Settings(home=folder / "home")) as opened:
        tiny_artifact(opened)
        from cairn.providers.exporting import export_model

        export_model(opened, "tiny", folder / "a.gguf")
    return (folder / "a.gguf").read_bytes()


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_damage_anywhere_is_read_or_refused(
    data: st.DataObject, exported: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(exported)
    header = content.index(b"tokenizer.huggingface.json")
    for _ in range(data.draw(st.integers(1, 3))):
        most = data.draw(st.sampled_from([600, header, len(content) - 1]))
        content[data.draw(st.integers(0, most))] ^= data.draw(st.integers(1, 255))
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "a.gguf").write_bytes(content)
    try:
        file = open_gguf(folder / "a.gguf")
        tokenizer_from_gguf(file.metadata)
        convert_gguf(file, folder / "back")
    except CairnError:
        pass
