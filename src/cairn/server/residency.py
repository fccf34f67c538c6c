"""Models in memory: how much they take, and bringing one in or letting one go by hand."""

from asyncio import to_thread
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from cairn.providers.encoder_loading import ModelTask
from cairn.server.auth import MayManageModels, MayReadModels
from cairn.server.body import RequestBody
from cairn.server.chat import get_model
from cairn.server.openai_types import ModelInfo
from cairn.server.state import ServedModel, state_of

router = APIRouter(prefix="/api/models", tags=["models"])


class ResidenceInfo(BaseModel):
    """A model that may be asked for, and what it does in memory."""

    name: str
    digest: str
    task: ModelTask
    parent: str
    """Of an adapter: its base's name; empty otherwise."""
    state: Literal["loaded", "loading", "unloaded"]
    resident_bytes: int
    """What it takes; names of one artifact share it."""
    loading: str
    """How far its loading is; empty otherwise."""
    num_requests: int
    """How many it answers now."""
    last_used: float | None
    """Seconds since 1970; null where nobody asked yet, and for adapters."""
    pinned: bool
    """Whether it stays once it is loaded."""


class MemoryInfo(BaseModel):
    """Bytes that all loaded models may take together, and do take; and every model's part in it."""

    budget: int
    held: int
    models: list[ResidenceInfo]


class ModelBody(RequestBody):
    """A model by its name."""

    model: str


@router.get("/memory")
def get_memory(request: Request, _caller: MayReadModels) -> MemoryInfo:
    """The memory of all models, and who is in it."""
    models = state_of(request).models
    use = models.memory()
    served = (*models.served(), *models.encoders())
    return MemoryInfo(budget=use.budget, held=use.held, models=[_residence(model) for model in served])


def _residence(model: ServedModel) -> ResidenceInfo:
    return ResidenceInfo(
        name=model.name,
        digest=model.digest,
        task=model.task,
        parent=model.parent,
        state=model.state,
        resident_bytes=model.num_bytes,
        loading=model.note,
        num_requests=model.num_requests,
        last_used=model.last_used or None,
        pinned=model.is_pinned,
    )


@router.post("/load")
async def load_model(request: Request, administrator: MayManageModels, body: ModelBody) -> ModelInfo:
    """Load a model before anybody asks for it; answers when it is in memory."""
    await to_thread(get_model, request, administrator, body.model)  # only by a name that is listed
    await state_of(request).models.load(body.model)
    return await to_thread(get_model, request, administrator, body.model)


@router.post("/unload")
async def unload_model(request: Request, administrator: MayManageModels, body: ModelBody) -> ModelInfo:
    """Let a model's memory go; 409 while it answers. It is loaded again when it is asked for."""
    await to_thread(get_model, request, administrator, body.model)  # only by a name that is listed
    await state_of(request).models.unload(body.model)
    return await to_thread(get_model, request, administrator, body.model)
