"""Models in memory: how much they take, and bringing one in or letting one go by hand."""

from asyncio import to_thread

from fastapi import APIRouter, Request
from pydantic import BaseModel

from cairn.server.auth import Administrator, Caller
from cairn.server.body import RequestBody
from cairn.server.chat import get_model
from cairn.server.openai_types import ModelInfo
from cairn.server.state import state_of

router = APIRouter(prefix="/api/models", tags=["models"])


class MemoryInfo(BaseModel):
    """Bytes that all loaded models may take together, and do take."""

    budget: int
    held: int


class ModelBody(RequestBody):
    """A model by its name."""

    model: str


@router.get("/memory")
def get_memory(request: Request, _caller: Caller) -> MemoryInfo:
    """The memory of all models."""
    use = state_of(request).models.memory()
    return MemoryInfo(budget=use.budget, held=use.held)


@router.post("/load")
async def load_model(request: Request, administrator: Administrator, body: ModelBody) -> ModelInfo:
    """Load a model before anybody asks for it; answers when it is in memory."""
    await state_of(request).models.load(body.model)
    return await to_thread(get_model, request, administrator, body.model)


@router.post("/unload")
async def unload_model(request: Request, administrator: Administrator, body: ModelBody) -> ModelInfo:
    """Let a model's memory go; 409 while it answers. It is loaded again when it is asked for."""
    await state_of(request).models.unload(body.model)
    return await to_thread(get_model, request, administrator, body.model)
