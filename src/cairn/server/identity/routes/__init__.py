"""routes of identity: signing in, one's own account, and everybody's for administrators."""

from fastapi import APIRouter

from cairn.server.identity.routes import account, audit, groups, keys, people, sign_in

router = APIRouter()
for room in (sign_in, account, keys, people, groups, audit):
    router.include_router(room.router)
