"""Low-rank adapters by hand, under the two paths that vLLM has for it; for administrators."""

from asyncio import to_thread
from pathlib import Path

from fastapi import APIRouter, Request

from cairn.core.errors import ConflictError, NotFoundError
from cairn.providers.importing import import_adapter
from cairn.server.auth import MayManageModels
from cairn.server.body import RequestBody
from cairn.server.chat import LIST_MODELS, get_model
from cairn.server.openai_types import ModelInfo
from cairn.server.state import ServedModel, ServerState, state_of

router = APIRouter(prefix="/v1", tags=["openai"])


class LoadAdapterBody(RequestBody):
    """A folder on the server's disk in PEFT's layout, and the name it shall have."""

    lora_name: str
    lora_path: str
    base_model: str = ""
    """The model it was trained on; empty: the one its adapter_config.json names."""
    load_inplace: bool = False
    """Whether the name may be taken from another adapter."""


class UnloadAdapterBody(RequestBody):
    """An adapter by its name."""

    lora_name: str


@router.post("/load_lora_adapter")
async def load_lora_adapter(
    request: Request, administrator: MayManageModels, body: LoadAdapterBody
) -> ModelInfo:
    """Import an adapter and load it; it answers to its name from now on."""
    state = state_of(request)
    found = await to_thread(_served, state, body.lora_name)
    if found is not None and not (body.load_inplace and found.parent):
        raise ConflictError(
            f"the name {body.lora_name!r} is taken",
            remedy="choose another, or replace an adapter with load_inplace",
        )
    await to_thread(
        import_adapter, state.registry, Path(body.lora_path), name=body.lora_name, base=body.base_model
    )
    async with state.models.use(body.lora_name):
        pass
    return await to_thread(get_model, request, administrator, body.lora_name)


@router.post("/unload_lora_adapter")
async def unload_lora_adapter(
    request: Request, administrator: MayManageModels, body: UnloadAdapterBody
) -> ModelInfo:
    """Let an adapter go and take its name away; requests under way keep it to their end."""
    state = state_of(request)
    found = await to_thread(_served, state, body.lora_name)
    if found is None or not found.parent:
        raise NotFoundError(f"no adapter {body.lora_name!r}", remedy=LIST_MODELS)
    before = await to_thread(get_model, request, administrator, body.lora_name)
    await state.models.unload(body.lora_name)
    base, _, alias = body.lora_name.partition(":")
    await to_thread(state.registry.remove_alias, base, alias or "latest", actor=administrator.user_id)
    return before


def _served(state: ServerState, name: str) -> ServedModel | None:
    return next((model for model in state.models.served() if model.name == name), None)
