"""The file in which conversations leave and come: what stands in it, versioned."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from cairn.server.body import RequestBody, Strict
from cairn.server.conversations.calling import Calling
from cairn.server.openai_types import FileCitation, SearchDone, SentenceCheck

FORMAT = "cairn.conversations"
VERSION = 1
MOST = 1000
"""Conversations that are taken at once."""

Moment = Annotated[float, Field(ge=0, le=4e9, allow_inf_nan=False)]
_Id = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Judged(Strict):
    """What somebody thought of a reply."""

    rating: Literal[1, 0, -1]
    comment: Annotated[str, StringConstraints(max_length=10_000)] = ""


class FiledMessage(Calling):
    """A turn; `parent_id` names one before it in the same conversation."""

    id: _Id
    parent_id: _Id | None = None
    created_at: Moment = 0.0
    receipt_id: str | None = None
    annotations: Annotated[list[FileCitation], Field(max_length=100)] = Field(default_factory=list)
    sentences: Annotated[list[SentenceCheck], Field(max_length=10_000)] = Field(default_factory=list)
    search: SearchDone | None = None
    feedback: Judged | None = None


class FiledConversation(Strict):
    """A conversation with every version of every turn, oldest first."""

    title: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    model: Annotated[str, StringConstraints(max_length=200)] = ""
    folder: Annotated[str, StringConstraints(strip_whitespace=True, max_length=100)] = ""
    """The folder's name; empty: in none."""
    created_at: Moment = 0.0
    updated_at: Moment = 0.0
    messages: Annotated[list[FiledMessage], Field(max_length=100_000)] = Field(default_factory=list)


class ConversationFile(RequestBody):
    """Conversations as a file."""

    format: Literal["cairn.conversations"]
    version: Literal[1]
    conversations: Annotated[list[FiledConversation], Field(max_length=MOST)]


class Imported(BaseModel):
    """What came in."""

    conversation_ids: list[str]
    num_messages: int
