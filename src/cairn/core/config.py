"""Strict configuration: TOML files and `CAIRN_*` variables into frozen pydantic models.

An unknown key is an error with a suggestion, never a silent default. Every field carries
a description (a test holds that), because the descriptions are the reference documentation.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cairn.core.errors import ConfigError, NotFoundError

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of every config model: frozen, unknown keys forbidden, defaults validated."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Settings(Config):
    """Where things are kept. Read from `CAIRN_*` variables; everything that outgrows one machine is a URL."""

    home: Path = Field(
        default=Path("~/.local/share/cairn"),
        description="folder of the database, artifacts and runs",
    )
    database_url: str = Field(
        default="", description="SQLAlchemy URL of the catalogue; empty: SQLite in home"
    )
    artifacts: str = Field(default="", description="artifact folder; empty: `artifacts` in home")
    redis_url: str = Field(
        default="", description="Redis in which several servers count limits together; empty: in memory"
    )
    mirror: Path | None = Field(
        default=None, description="folder of data set archives to use instead of the network"
    )

    @field_validator("home", "mirror")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value is not None else None

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Settings from `CAIRN_HOME`, `CAIRN_DATABASE_URL`, `CAIRN_ARTIFACTS` and the others."""
        env = os.environ if env is None else env
        given = {
            name: env[f"CAIRN_{name.upper()}"]
            for name in cls.model_fields
            if env.get(f"CAIRN_{name.upper()}")
        }
        return parse_config(cls, given, source="environment")

    @property
    def sqlalchemy_url(self) -> str:
        """The catalogue's URL: `database_url`, or the SQLite file in `home`."""
        url = self.database_url or f"sqlite:///{self.home / 'cairn.db'}"
        # psycopg 3 is the driver we install; a bare postgresql:// would ask for psycopg2.
        return url.replace("postgresql://", "postgresql+psycopg://", 1)

    @property
    def artifacts_folder(self) -> Path:
        """Where the artifact store lies: `artifacts`, or the folder of that name in `home`."""
        return Path(self.artifacts) if self.artifacts else self.home / "artifacts"

    @property
    def runs_folder(self) -> Path:
        """Where builds keep their checkpoints, metrics and reports: `runs/<run_id>/`."""
        return self.home / "runs"


def load_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dictionary; errors name the file and line."""
    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, _names_in(path.parent), n=1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "check the path"
        raise NotFoundError(f"no such file: {path}", remedy=hint) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 (byte {error.start})", remedy="save the file as UTF-8"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", remedy="mend that line") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def load_config(cls: type[C], path: Path) -> C:
    """A TOML file as a `Config`; every mistake in it is reported at once."""
    return parse_config(cls, load_toml(path), source=str(path))


def parse_config(cls: type[C], values: Mapping[str, Any], *, source: str) -> C:
    """A dictionary as a `Config`, or a `ConfigError` saying what, got, allowed and the near miss."""
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        problems = [describe(cls, detail) for detail in error.errors()]
        raise ConfigError(f"{source}: " + "; ".join(problems), remedy="mend the keys named above") from None


def describe(cls: type[BaseModel], detail: Any) -> str:
    """One of pydantic's details as a sentence: what, got, allowed."""
    where = ".".join(str(part) for part in detail["loc"])
    if detail["type"] != "extra_forbidden":
        return f"{where}: {detail['msg']}, got {detail['input']!r}"
    allowed = _fields_at(cls, detail["loc"][:-1])
    near = difflib.get_close_matches(str(detail["loc"][-1]), allowed, n=1)
    hint = f", did you mean {near[0]!r}?" if near else f", allowed: {', '.join(allowed)}"
    return f"unknown key {where!r}{hint}"


def _fields_at(cls: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """Field names of the model nested at `loc` (list indices and union tags are passed over)."""

    def step(model: type[BaseModel], part: Any) -> type[BaseModel]:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        return (_model_in(field.annotation) or model) if field else model

    return sorted(reduce(step, loc, cls).model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first pydantic model inside an annotation such as `list[Stage] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if found := _model_in(inner):
            return found
    return None


def _names_in(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:
        return []
