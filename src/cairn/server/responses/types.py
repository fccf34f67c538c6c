"""The shapes of OpenAI's Responses, as far as they are served. What is unknown is refused, not ignored.

Accepted and without effect, because they concern OpenAI's own service: `max_tool_calls`, `prompt_cache_key`,
`prompt_cache_retention`, `safety_identifier`, `service_tier`, `stream_options`, `user`. Besides OpenAI's
fields `min_p`, `seed` and `top_k` are taken.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from cairn.server.body import RequestBody, Strict
from cairn.server.files.objects import ListPage, Metadata
from cairn.server.openai_types import (
    CairnInfo,
    ContentLogprob,
    FileCitation,
    FileSearchChoice,
    FileSearchSpec,
    SentenceCheck,
)

Status = Literal["in_progress", "completed", "incomplete", "failed"]


class _Given(BaseModel):
    """A part of the input. Clients send back what they got, with all its nulls: what is beside is ignored."""

    model_config = ConfigDict(extra="ignore")


class InputText(_Given):
    """Text."""

    type: Literal["input_text", "output_text"]
    text: str


class Refusal(_Given):
    """What another model would not say."""

    type: Literal["refusal"]
    refusal: str


class InputImage(_Given):
    """An image, by its URL or as a data URL."""

    type: Literal["input_image"]
    image_url: str | None = None


Part = Annotated[InputText | Refusal | InputImage, Field(discriminator="type")]


class MessageItem(_Given):
    """A turn."""

    type: Literal["message"] = "message"
    id: str | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]


class FunctionCallItem(_Given):
    """A call that the model made."""

    type: Literal["function_call"]
    id: str | None = None
    call_id: str
    name: str
    arguments: str


class FunctionOutputItem(_Given):
    """What a call gave."""

    type: Literal["function_call_output"]
    id: str | None = None
    call_id: str
    output: str | list[Part]


class IgnoredItem(_Given):
    """What was searched or thought on the way to a reply: the next one is made without it."""

    type: Literal["file_search_call", "reasoning"]
    id: str | None = None


def _kind(item: Any) -> Any:
    """Messages may leave their type out."""
    kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    return "ignored" if kind in ("file_search_call", "reasoning") else kind or "message"


InputItem = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionOutputItem, Tag("function_call_output")]
    | Annotated[IgnoredItem, Tag("ignored")],
    Discriminator(_kind),
]


class FunctionTool(Strict):
    """A function a model may call; `parameters` is a JSON schema."""

    type: Literal["function"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionChoice(Strict):
    """A forced function."""

    type: Literal["function"]
    name: str


class TextFormat(Strict):
    """The form of the reply."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextConfig(Strict):
    """How the reply is written."""

    format: TextFormat = TextFormat()
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(Strict):
    """How much a model thinks; `effort` is handed to the chat template."""

    effort: str | None = None
    summary: str | None = None


class ResponseStreamOptions(Strict):
    """Without effect."""

    include_obfuscation: bool = False


Tool = Annotated[FunctionTool | FileSearchSpec, Field(discriminator="type")]
Choice = (
    Literal["none", "auto", "required"]
    | Annotated[FunctionChoice | FileSearchChoice, Field(discriminator="type")]
)


class NewResponse(RequestBody):
    """`POST /v1/responses`."""

    model: str
    input: str | Annotated[list[InputItem], Field(min_length=1)]
    background: Literal[False] | None = None
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = None
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1, strict=True)] | None = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    metadata: Metadata | None = None
    min_p: float | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    reasoning: Reasoning | None = None
    safety_identifier: str | None = None
    seed: int | None = None
    service_tier: str | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    temperature: float | None = None
    text: TextConfig | None = None
    tool_choice: Choice | None = None
    tools: list[Tool] | None = None
    top_k: int | None = None
    top_logprobs: int | None = None
    top_p: float | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: str | None = None


class OutputText(BaseModel):
    """Text of a reply."""

    type: Literal["output_text"] = "output_text"
    text: str = ""
    annotations: list[FileCitation] = []
    sentences: list[SentenceCheck] | None = None
    logprobs: list[ContentLogprob] = []


class OutputMessage(BaseModel):
    """What the model said."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class OutputCall(BaseModel):
    """A call that the model made."""

    id: str
    type: Literal["function_call"] = "function_call"
    call_id: str
    name: str
    arguments: str
    status: Literal["in_progress", "completed"]


class OutputSearch(BaseModel):
    """A search of collections that came before the reply."""

    id: str
    type: Literal["file_search_call"] = "file_search_call"
    queries: list[str]
    status: Literal["in_progress", "completed"]
    results: None = None


OutputItem = Annotated[OutputMessage | OutputCall | OutputSearch, Field(discriminator="type")]


class InputTokensDetails(BaseModel):
    """Of the prompt."""

    cached_tokens: int
    cache_write_tokens: Literal[0] = 0


class OutputTokensDetails(BaseModel):
    """Of the reply."""

    reasoning_tokens: Literal[0] = 0


class ResponseUsage(BaseModel):
    """Tokens in and out."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails = OutputTokensDetails()
    total_tokens: int


class ResponseError(BaseModel):
    """Why a response failed after it had begun."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class IncompleteDetails(BaseModel):
    """Why a response is not whole."""

    reason: Literal["max_output_tokens"]


class ResponseObject(BaseModel):
    """A response."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: Status = "in_progress"
    background: Literal[False] = False
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[OutputItem] = []
    parallel_tool_calls: bool
    previous_response_id: str | None
    reasoning: Reasoning
    store: bool
    temperature: float
    text: TextConfig
    tool_choice: Choice
    tools: list[Tool]
    top_logprobs: int
    top_p: float
    truncation: Literal["auto", "disabled"]
    usage: ResponseUsage | None = None
    user: str | None
    cairn: CairnInfo


class InputPart(BaseModel):
    """A part of an input item."""

    type: Literal["input_text", "output_text", "refusal", "input_image"]
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None


class ListedItem(BaseModel):
    """An item of the input, as it was given."""

    id: str
    type: Literal["message", "function_call", "function_call_output", "file_search_call", "reasoning"]
    status: Literal["completed"] = "completed"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: list[InputPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[InputPart] | None = None


class ItemList(ListPage):
    """Items of an input."""

    data: list[ListedItem]
