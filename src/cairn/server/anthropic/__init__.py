"""anthropic: the messages API, a translation of Anthropic's shapes to the same chats that OpenAI's become.

`/v1/messages`, whole or as a stream, and `/v1/messages/count_tokens`.
"""

from cairn.server.anthropic.messages import router

__all__ = ["router"]
