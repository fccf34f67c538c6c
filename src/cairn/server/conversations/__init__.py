"""conversations: those of the page, a tree of messages each, with feedback; deleting one can be undone.

Every query names the user; somebody else's conversation answers 404, as one that does not exist. A reply
keeps what it cites; what a document said is left out once the document is closed to the user, or gone.
"""

from fastapi import APIRouter

from cairn.server.conversations import feedback, listed, messages, preferences

router = APIRouter(prefix="/api", tags=["conversations"])
for room in (listed, messages, feedback, preferences):
    router.include_router(room.router)
