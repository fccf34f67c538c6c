"""core: the words every room shares, and nothing that needs another room.

Errors with remedies and codes, SHA-256 digests, strict configuration, progress, and the
small protocols through which the workshops meet. Importing it costs tens of milliseconds:
no torch, no web framework, no database.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cairn.core.digests import canonical_json, digest_bytes, digest_file, digest_json, short
from cairn.core.errors import (
    CairnError,
    ConfigError,
    ConflictError,
    IntegrityError,
    InvalidRequestError,
    MissingExtraError,
    NotFoundError,
    StorageError,
    StorageUnavailableError,
    UnsupportedModelError,
)

if TYPE_CHECKING:
    from cairn.core.config import Config, Settings, load_config, load_toml, parse_config
    from cairn.core.progress import Progress, Silent, Task, console_progress

# pydantic and rich are most of what `cairn --help` would wait for: they come with the first name
# that needs them.
_HOMES = {
    **dict.fromkeys(("Config", "Settings", "load_config", "load_toml", "parse_config"), "config"),
    **dict.fromkeys(("Progress", "Silent", "Task", "console_progress"), "progress"),
}

__all__ = [
    "CairnError",
    "Config",
    "ConfigError",
    "ConflictError",
    "IntegrityError",
    "InvalidRequestError",
    "MissingExtraError",
    "NotFoundError",
    "Progress",
    "Settings",
    "Silent",
    "StorageError",
    "StorageUnavailableError",
    "Task",
    "UnsupportedModelError",
    "canonical_json",
    "console_progress",
    "digest_bytes",
    "digest_file",
    "digest_json",
    "load_config",
    "load_toml",
    "parse_config",
    "short",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
