"""The embedders of a collection and how well its index finds, for who owns it."""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, StringConstraints

from cairn.core.errors import InvalidRequestError
from cairn.providers.knowledge import embedder_is_here
from cairn.providers.packaged_encoder import DEFAULT_EMBEDDER
from cairn.retrieval.catalogue import CollectionInfo, collection_stats
from cairn.retrieval.recall import recalls
from cairn.retrieval.spaces import num_lacking, spaces_of
from cairn.server.auth import MayManageKnowledge, MayReadKnowledge
from cairn.server.body import RequestBody
from cairn.server.knowledge.collections import own_collection
from cairn.server.knowledge.upkeep import Action
from cairn.server.state import ServerState, state_of

router = APIRouter()


class Space(BaseModel):
    """What one embedder made of the passages."""

    role: str
    """`active`: it answers; `next`: it is filled; `previous`: it answered before."""
    embedder: str
    num_done: int
    num_passages: int


class RecallOut(BaseModel):
    """What the monitor found."""

    recall: float
    num_samples: int
    least: float
    is_low: bool


class WorkOut(BaseModel):
    """What is done, or was done last since the server's start."""

    action: Action
    is_over: bool
    message: str
    problem: str


class EmbeddingOut(BaseModel):
    """How a collection is embedded and searched."""

    spaces: list[Space]
    embedders: list[str]
    """Other models that could embed it."""
    recall: RecallOut | None
    work: WorkOut | None


class WorkOrder(RequestBody):
    """What to do."""

    action: Action
    embedder: Annotated[str, StringConstraints(max_length=300)] = ""
    """To `embed` with; may be left out to go on."""


@router.get("/collections/{ref}/embedding", name="get_embedding")
def get(request: Request, caller: MayReadKnowledge, ref: str) -> EmbeddingOut:
    """The embedders of a collection of one's own, the monitor, and what is under way."""
    state = state_of(request)
    return _embedding(state, own_collection(state, ref, caller))


@router.post("/collections/{ref}/embedding", name="work_on_embedding", status_code=202)
def work(request: Request, caller: MayManageKnowledge, ref: str, body: WorkOrder) -> EmbeddingOut:
    """Embed it with another model, switch to that or back, let it go, check the index or make it anew."""
    state = state_of(request)
    info = own_collection(state, ref, caller)
    if body.action == "embed":
        spaces = _spaces(state, info)
        known = [*_embedders(state, info), *(each.embedder for each in spaces if each.role == "next")]
        begun = any(each.role == "next" for each in spaces)
        if body.embedder not in known and not (begun and not body.embedder):
            raise InvalidRequestError(
                f"embedder is {body.embedder!r}, allowed: {', '.join(known) or 'none is here'}",
                remedy="bring one here: cairn import PATH --name NAME",
                param="embedder",
            )
    state.upkeep.start(info.collection_id, body.action, actor=caller.user_id, embedder=body.embedder)
    return _embedding(state, info)


def _embedding(state: ServerState, info: CollectionInfo) -> EmbeddingOut:
    found = recalls(state.registry.database).get(info.collection_id)
    doing = state.upkeep.of(info.collection_id)
    return EmbeddingOut(
        spaces=_spaces(state, info),
        embedders=_embedders(state, info),
        recall=RecallOut(
            recall=found.recall, num_samples=found.num_samples, least=found.least, is_low=found.is_low
        )
        if found
        else None,
        work=WorkOut(action=doing.action, is_over=doing.is_over, message=doing.message, problem=doing.problem)
        if doing
        else None,
    )


def _spaces(state: ServerState, info: CollectionInfo) -> list[Space]:
    total = collection_stats(state.registry.database, info.collection_id).num_chunks
    with state.registry.database.session(read_only=True) as session:
        return [
            Space(
                role=role,
                embedder=space.embedder,
                num_done=total - num_lacking(session, info.collection_id, space.space_id),
                num_passages=total,
            )
            for role, space in spaces_of(session, info.collection_id).items()
        ]


def _embedders(state: ServerState, info: CollectionInfo) -> list[str]:
    """Those at hand beside the one that answers; the packaged one may be there without having been used."""
    names = [each.name for each in state.models.encoders() if each.task == "embedding"]
    if embedder_is_here(state.registry) and DEFAULT_EMBEDDER not in names:
        names.append(DEFAULT_EMBEDDER)
    return [name for name in names if name != info.config.embedder]
