"""A finished model as a plain folder in the package."""

from pathlib import Path

import pytest

from cairn.core import ConfigError, Settings
from cairn.lifecycle import starter
from cairn.providers.starter import adopt_starter
from cairn.registry import Registry

from .conftest import Built


def test_a_fresh_registry_takes_the_exported_folder_in(built: Built, tmp_path: Path) -> None:
    target = tmp_path / "starter" / "text"
    for _ in range(2):  # the second time it replaces what is there
        artifact = starter.export_starter(built.registry, "tiny-chat", target)
    assert (target / "card.md").is_file()
    with Registry.open(Settings(home=tmp_path / "home")) as fresh:
        adopted = adopt_starter(fresh, target)
        assert adopted is not None
        assert adopted.digest == artifact.digest == built.result.model.digest
        fresh.verify(adopted.digest)


def test_a_starter_has_a_limit(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter, "MAX_BYTES", 1000)
    with pytest.raises(ConfigError, match="a starter may have 1,000"):
        starter.export_starter(built.registry, "tiny-chat", tmp_path / "text")
    assert not list(tmp_path.iterdir())
