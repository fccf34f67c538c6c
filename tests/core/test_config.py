from pathlib import Path

import pytest
from pydantic import Field

from cairn.core import Config, ConfigError, NotFoundError, Settings, load_config, load_toml, parse_config


class Stage(Config):
    learning_rate: float = Field(default=0.1, gt=0, description="step size")
    steps: int = Field(default=1, description="how many")


class Recipe(Config):
    name: str = Field(description="what it makes")
    stages: list[Stage] = Field(default=[], description="what to do")


def test_valid_values_become_a_frozen_config() -> None:
    recipe = parse_config(Recipe, {"name": "x", "stages": [{"steps": 3}]}, source="here")
    assert recipe.stages[0].steps == 3
    with pytest.raises(Exception, match="frozen"):
        recipe.name = "y"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "x", "stagse": []}, "unknown key 'stagse', did you mean 'stages'?"),
        ({"name": "x", "stages": [{"learning_rat": 1}]}, "unknown key 'stages.0.learning_rat', did you mean"),
        ({"name": "x", "stages": [{"qqq": 1}]}, "allowed: learning_rate, steps"),
        ({"name": "x", "stages": [{"learning_rate": -1}]}, "greater than 0, got -1"),
        ({}, "name: Field required"),
    ],
)
def test_errors_say_what_got_and_allowed(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(Recipe, values, source="recipe.toml")
    assert message in error.value.message
    assert error.value.message.startswith("recipe.toml: ")


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(Recipe, {"nam": "x", "stages": [{"step": 1}]}, source="r")
    assert all(word in error.value.message for word in ("'nam'", "'stages.0.step'", "name: Field required"))


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "tutorial.toml").write_text("")
    with pytest.raises(NotFoundError) as error:
        load_toml(tmp_path / "tutorail.toml")
    assert "tutorial.toml" in error.value.remedy


@pytest.mark.parametrize(
    ("content", "message"), [(b"a = ", "not valid TOML"), (b"\xff\xfe", "not UTF-8 (byte 0)")]
)
def test_broken_files_say_where(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"r\.toml") as error:
        load_config(Recipe, path)
    assert message in error.value.message


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_toml(tmp_path)


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    settings = Settings.from_env({"CAIRN_HOME": str(tmp_path), "CAIRN_DATABASE_URL": "postgresql://u@h/d"})
    assert settings.home == tmp_path
    assert settings.sqlalchemy_url == "postgresql+psycopg://u@h/d"
    assert settings.artifacts_folder == tmp_path / "artifacts"
    assert settings.runs_folder == tmp_path / "runs"


def test_settings_default_to_sqlite_in_an_absolute_home() -> None:
    settings = Settings.from_env({"CAIRN_HOME": "~/x"})
    assert settings.home == Path("~/x").expanduser()
    assert settings.sqlalchemy_url == f"sqlite:///{settings.home}/cairn.db"


def test_an_empty_variable_counts_as_unset() -> None:
    assert Settings.from_env({"CAIRN_MIRROR": ""}).mirror is None
