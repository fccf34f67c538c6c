"""files: uploads and vector stores as OpenAI's API has them.

A vector store is a collection. Files and stores are their maker's alone; to others they answer 404, as what
does not exist. A collection that is open to others may be searched by them here too.
"""

from fastapi import APIRouter

from cairn.server.files import batches, store_files, stores, uploaded

router = APIRouter(prefix="/v1", tags=["openai"])
for room in (uploaded, stores, store_files, batches):
    router.include_router(room.router)
