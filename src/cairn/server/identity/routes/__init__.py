"""routes of identity: signing in, one's own account, and everybody's for administrators."""

from fastapi import APIRouter

from cairn.server.identity.routes import account, audit, groups, keys, people, sign_in, sign_on

router = APIRouter()
for room in (sign_in, sign_on, account, keys, people, groups, audit):
    router.include_router(room.router)
