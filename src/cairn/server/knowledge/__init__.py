"""knowledge: collections of documents over HTTP, as the page uses them.

Everything is asked for a signed-in reader and holds only what they may see (`retrieval/reading.py` says how);
what they may not see answers 404, as what does not exist.
"""

from fastapi import APIRouter

from cairn.server.knowledge import collections, documents, embedding, searching, uploads

router = APIRouter(prefix="/api", tags=["knowledge"])
for room in (collections, embedding, uploads, documents, searching):
    router.include_router(room.router)
