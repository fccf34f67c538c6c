"""Calls of tools in messages that are stored, and what they gave."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cairn.core.errors import InvalidRequestError
from cairn.server.body import ShortText, Strict
from cairn.server.openai_types import ToolCallSpec

Role = Literal["system", "user", "assistant", "tool"]


class Calling(Strict):
    """The part of a message that has to do with tools: a reply makes calls, each of which a turn answers."""

    role: Role
    content: str
    tool_calls: Annotated[list[ToolCallSpec], Field(max_length=128)] | None = None
    tool_call_id: ShortText | None = None
    """Of what a tool gave: the call that it answers."""

    @model_validator(mode="after")
    def _check_roles(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise InvalidRequestError(
                f"a message of the role {self.role!r} has tool_calls, which only 'assistant' may have",
                remedy="leave them out",
                param="tool_calls",
            )
        if (self.role == "tool") != bool(self.tool_call_id):
            raise InvalidRequestError(
                f"a message of the role {self.role!r} has "
                + ("a tool_call_id" if self.tool_call_id else "no tool_call_id"),
                remedy="a message of the role 'tool' names the call that it answers, and no other does",
                param="tool_call_id",
            )
        return self


def calls_json(calls: Sequence[ToolCallSpec] | None) -> list[dict[str, Any]] | None:
    """Calls as they are stored."""
    return [each.model_dump() for each in calls or ()] or None


def calls_of(stored: Sequence[dict[str, Any]] | None) -> list[ToolCallSpec]:
    """Stored calls."""
    return [ToolCallSpec(**each) for each in stored or ()]
