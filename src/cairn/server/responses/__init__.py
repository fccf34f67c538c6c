"""responses: OpenAI's Responses API, a translation of its items to the same chats, and what is kept of them.

A response is stored for its maker alone until it is deleted or its time has come, so that the next one can go
on from it (`previous_response_id`).
"""

from cairn.server.responses.routes import router

__all__ = ["router"]
