"""What the routes' file says of another server."""

import os
import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from cairn.core import Config
from cairn.providers.remote.errors import UpstreamNotAllowedError

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(KEY|TOKEN)", re.IGNORECASE)
"""So that who may write the file has not all of the environment sent somewhere."""


class ProviderConfig(Config):
    """Another server that answers. Its key is never in the file: `key_env` names where it is."""

    kind: Literal["openai", "anthropic"] = Field(
        default="openai",
        description="API that it speaks: `openai` (OpenAI, another Cairn, vLLM, llama-server) or `anthropic`",
    )
    base_url: str = Field(description="address up to where paths begin, as clients take it: https://HOST/v1")
    key_env: str = Field(
        default="",
        description="environment variable with the key, named …KEY or …TOKEN; empty: none is sent",
    )
    connect_seconds: float = Field(default=5.0, gt=0, description="longest time to connect")
    first_token_seconds: float = Field(
        default=60.0,
        gt=0,
        description="longest silence before a stream begins; a whole reply has whole_seconds",
    )
    between_tokens_seconds: float = Field(
        default=30.0, gt=0, description="longest silence within a stream, or within an answer's body"
    )
    whole_seconds: float = Field(default=600.0, gt=0, description="longest time of a whole reply")
    max_connections: int = Field(
        default=256, ge=1, description="connections open at once; further requests wait for one"
    )
    context_length: int = Field(
        default=8192,
        ge=1,
        description="tokens its models read; passages of collections are cut to it",
    )
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens",
        description="field of an OpenAI-shaped request that bounds a reply; OpenAI's own reasoning models "
        "take max_completion_tokens alone",
    )
    default_max_tokens: int = Field(
        default=4096, ge=1, description="Anthropic-shaped: bound of a reply whose request names none"
    )

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be http://HOST[:PORT]/PATH or https://…, without ? and #")
        if parts.username or parts.password:
            raise ValueError("must hold no password: name a variable with key_env")
        return value.rstrip("/")

    @field_validator("key_env")
    @classmethod
    def _is_variable(cls, value: str) -> str:
        if value and not _VARIABLE.fullmatch(value):
            raise ValueError(
                "must be the name of an environment variable, …KEY or …TOKEN, never the key itself"
            )
        return value

    def key(self, name: str) -> str:
        """The key; `UpstreamNotAllowedError` where the variable is not set."""
        if not self.key_env:
            return ""
        if not (key := os.environ.get(self.key_env, "").strip()):
            raise UpstreamNotAllowedError(
                f"provider {name!r} takes its key from {self.key_env}, which is not set",
                remedy=f"set {self.key_env} where the server is started",
            )
        if not (key.isascii() and key.isprintable()):
            raise UpstreamNotAllowedError(
                f"the key of provider {name!r} in {self.key_env} holds characters that no header takes",
                remedy="set it again, in one line",
            )
        return key
