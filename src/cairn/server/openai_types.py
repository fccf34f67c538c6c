"""The shapes of OpenAI's API, as far as they are served. What is unknown is refused, not ignored.

Accepted and without effect, because they concern OpenAI's own service: `metadata`, `prompt_cache_key`,
`safety_identifier`, `service_tier`, `store`, `user`. Besides OpenAI's fields those of vLLM that
sampling needs are taken: `top_k`, `min_p`, `repetition_penalty`, `stop_token_ids`, `ignore_eos`,
`chat_template_kwargs`, `structured_outputs`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cairn.core.errors import InvalidRequestError
from cairn.providers.encoder_loading import ModelTask
from cairn.server.body import RequestBody, Strict
from cairn.server.filters import Filter, RankingOptions


class FunctionSpec(Strict):
    """A function a model may call; `parameters` is a JSON schema."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolSpec(Strict):
    """A tool offered to the model."""

    type: Literal["function"]
    function: FunctionSpec


class FileSearchSpec(Strict):
    """A search of collections, by id or name, for what the last message asks."""

    type: Literal["file_search"]
    vector_store_ids: Annotated[list[str], Field(min_length=1, max_length=16)]
    max_num_results: Annotated[int, Field(ge=1, le=50, strict=True)] = 5
    filters: Filter | None = None
    ranking_options: RankingOptions = RankingOptions()


class FunctionCall(Strict):
    """The function of a call; `arguments` is JSON text."""

    name: str
    arguments: str


class ToolCallSpec(Strict):
    """A call the model made."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class ImageUrl(Strict):
    """Where an image is."""

    url: str
    detail: str | None = None


class ContentPartSpec(Strict):
    """A piece of a message's content."""

    type: Literal["text", "image_url", "refusal"]
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | None = None


class MessageSpec(Strict):
    """A turn of the conversation."""

    model_config = ConfigDict(extra="ignore")  # clients send back what they got, with all its nulls

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPartSpec] | None = None
    name: str | None = None
    tool_calls: list[ToolCallSpec] | None = None
    tool_call_id: str | None = None


class StreamOptions(Strict):
    """What a stream carries besides text."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ToolChoiceFunction(Strict):
    """The name of a forced tool."""

    name: str


class FileSearchChoice(Strict):
    """The search of collections, which is made anyway."""

    type: Literal["file_search"]


class ToolChoice(Strict):
    """A forced tool."""

    type: Literal["function"]
    function: ToolChoiceFunction


class JsonSchemaSpec(Strict):
    """A JSON schema for the reply. It is always followed to the letter, `strict` or not."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(Strict):
    """The form of the reply."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaSpec | None = None


class StructuredOutputs(Strict):
    """vLLM's field for constrained replies; exactly one of these."""

    json_: Annotated[dict[str, Any] | str | None, Field(alias="json")] = None
    json_object: bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None


class SamplingFields(RequestBody):
    """What chat and plain completion have in common."""

    model: str
    frequency_penalty: float | None = None
    ignore_eos: bool = False
    logit_bias: dict[str, float] | None = None
    max_tokens: int | None = None
    metadata: dict[str, Any] | None = None
    min_p: float | None = None
    n: int | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    service_tier: str | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    structured_outputs: StructuredOutputs | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    user: str | None = None


class ChatCompletionRequest(SamplingFields):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[MessageSpec], Field(min_length=1)]
    chat_template_kwargs: dict[str, Any] | None = None
    logprobs: bool | None = None
    max_completion_tokens: int | None = None
    modalities: list[str] | None = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: str | None = None
    reasoning_effort: str | None = None
    response_format: ResponseFormat | None = None
    safety_identifier: str | None = None
    tool_choice: (
        Literal["none", "auto", "required"]
        | Annotated[ToolChoice | FileSearchChoice, Field(discriminator="type")]
        | None
    ) = None
    tools: list[Annotated[ToolSpec | FileSearchSpec, Field(discriminator="type")]] | None = None
    top_logprobs: int | None = None
    verbosity: str | None = None


class TextCompletionRequest(SamplingFields):
    """`POST /v1/completions`."""

    prompt: str | list[str] | list[int] | list[list[int]]
    best_of: int | None = None
    echo: bool = False
    logprobs: int | None = None
    suffix: str | None = None


class TopLogprob(BaseModel):
    """An alternative at a place, in chat."""

    token: str
    logprob: float
    bytes: list[int] | None


class ContentLogprob(TopLogprob):
    """A generated token, in chat."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(BaseModel):
    """Log-probabilities of a choice, in chat."""

    content: list[ContentLogprob]
    refusal: None = None


class CompletionUsage(BaseModel):
    """Tokens in and out."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int]


class CairnInfo(BaseModel):
    """What OpenAI's shape has no place for: the receipt of the reply."""

    receipt: str


class RoutedInfo(CairnInfo):
    """The receipt of the reply, and who gave it."""

    target: str | None = None
    """Of a route: the target that answered; absent otherwise."""
    repeats: str | None = None
    """Of an answer that was given before: its receipt; absent otherwise."""


class FileCitation(BaseModel):
    """A passage that a reply names by its number, after a search of collections."""

    type: Literal["file_citation"] = "file_citation"
    number: int
    """As `[1]` in the content."""
    index: int
    """Where the content first names it, in characters."""
    file_id: str
    filename: str
    collection: str
    """Its name."""
    collection_id: str = ""
    document_id: str
    chunk_id: int
    page: int
    """Of the document, from 1."""
    heading: list[str]
    """Headings above the passage, the outermost first."""
    start: int
    """Of what is quoted: UTF-8 bytes of the document's text."""
    end: int
    quote: str


class FoundPassage(BaseModel):
    """A passage that a search of collections found, whether a reply names it or not."""

    number: int
    """As a reply names it."""
    score: float
    """How well it answers, from 0 to 1."""
    filename: str
    collection: str
    """Its name."""
    collection_id: str = ""
    document_id: str
    chunk_id: int
    page: int
    heading: list[str]
    quote: str
    """How it begins."""


class SearchDone(BaseModel):
    """A search of collections that was made for a reply."""

    query: Annotated[str, Field(min_length=1)]
    collections: list[str]
    """Their names."""
    found: Annotated[list[FoundPassage], Field(max_length=100)]


class SentenceCheck(BaseModel):
    """A sentence of a reply, held against the sources it names."""

    start: int
    """Characters of the content."""
    end: int
    sources: list[int]
    supported: bool
    """Whether its words stand in them."""


class AssistantMessage(BaseModel):
    """The reply of a choice."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[ToolCallSpec] | None = None
    annotations: list[FileCitation] | None = None
    sentences: list[SentenceCheck] | None = None
    search: SearchDone | None = None


class ChatChoice(BaseModel):
    """A choice of a chat completion."""

    index: int
    message: AssistantMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: str


class ChatCompletion(BaseModel):
    """The answer of `POST /v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: CompletionUsage
    cairn: RoutedInfo


class TextLogprobs(BaseModel):
    """Log-probabilities of a plain completion: one entry per token in every list."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(BaseModel):
    """A choice of a plain completion."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: str | None


class TextCompletion(BaseModel):
    """The answer of `POST /v1/completions`."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: CompletionUsage
    cairn: RoutedInfo


class EmbeddingsRequest(RequestBody):
    """`POST /v1/embeddings`."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    dimensions: Annotated[int, Field(ge=1, strict=True)] | None = None
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None


class Embedding(BaseModel):
    """The vector of a text: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens in."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """The answer of `POST /v1/embeddings`."""

    object: Literal["list"] = "list"
    model: str
    data: list[Embedding]
    usage: EmbeddingUsage


class ClassifyRequest(RequestBody):
    """`POST /v1/classify`, as vLLM has it."""

    model: str
    input: str | list[str]
    user: str | None = None


class Classification(BaseModel):
    """What a classifier says of a text; `probs` in the order of its labels."""

    index: int
    label: str
    """The likeliest."""
    probs: list[float]
    num_classes: int


class ClassifyUsage(EmbeddingUsage):
    """Tokens in; none come out."""

    completion_tokens: Literal[0] = 0


class ClassificationList(BaseModel):
    """The answer of `POST /v1/classify`."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Classification]
    usage: ClassifyUsage


class ModelState(BaseModel):
    """Whether a model is in memory; any other is loaded when it is asked for."""

    state: Literal["loaded", "loading", "unloaded"]
    resident_bytes: int
    loading: str
    """How far its loading is; empty otherwise."""
    pinned: bool
    task: ModelTask
    """What it does: writes text, embeds it, or classifies it."""


class ModelInfo(BaseModel):
    """A model that may be asked for."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["cairn"] = "cairn"
    digest: str
    root: str
    """The artifact that is loaded by this name: the same as `digest`, where vLLM has a path."""
    parent: str | None = None
    """Of a low-rank adapter: the name of its base."""
    cairn: ModelState


class ModelList(BaseModel):
    """The answer of `GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[ModelInfo]


def refuse(param: str, got: object, allowed: str) -> InvalidRequestError:
    """The error for a value that OpenAI allows and this server does not."""
    return InvalidRequestError(f"{param} is {got!r}, allowed here: {allowed}", param=param)
