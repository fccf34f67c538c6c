"""conversations: those of the page, a tree of messages each, with feedback; deleting one can be undone.

Every query names the user; somebody else's conversation answers 404, as one that does not exist. A reply
keeps what it cites; what a document said is left out once the document is closed to the user, or gone.
They lie in folders, are found by their words, leave and come as files, and are shown to others by links.
"""

from fastapi import APIRouter

from cairn.server.conversations import (
    exporting,
    feedback,
    folders,
    importing,
    listed,
    messages,
    preferences,
    searching,
    sharing,
)
from cairn.server.conversations.attachments import routes as attachments

router = APIRouter(prefix="/api", tags=["conversations"])
# Searching and exporting first: their paths look like an id.
for room in (
    searching,
    exporting,
    importing,
    listed,
    messages,
    feedback,
    preferences,
    folders,
    sharing,
    attachments,
):
    router.include_router(room.router)
