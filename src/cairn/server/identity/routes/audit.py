"""The audit log, for who may read it."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from cairn.core.chat import Principal
from cairn.server.auth import allowed
from cairn.server.identity.permissions import Permission
from cairn.server.state import state_of

router = APIRouter(prefix="/api", tags=["audit"])


class AuditEntryOut(BaseModel):
    """Who did what to what, when; `hash` seals it and all before it."""

    seq: int
    at: float
    action: str
    actor: str
    subject: str
    details: dict[str, Any]
    hash: str


@router.get("/audit")
def list_audit(
    request: Request,
    _caller: Annotated[Principal, allowed(Permission.READ_AUDIT)],
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int | None, Query(ge=0)] = None,
) -> list[AuditEntryOut]:
    """The newest entries, or those that follow number `after`; oldest first."""
    found = state_of(request).registry.audit.entries(limit, after)
    return [
        AuditEntryOut(**{name: getattr(entry, name) for name in AuditEntryOut.model_fields})
        for entry in found
    ]
