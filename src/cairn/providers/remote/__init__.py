"""Remote providers: other servers that answer, OpenAI-shaped or Anthropic-shaped, as `TextProvider`s.

Nothing here tries a request twice: what an `UpstreamError` is worth is said by its `retry`, and the route
decides. Keys come from environment variables and are taken out of whatever an upstream says.
"""

from cairn.providers.remote.config import ProviderConfig
from cairn.providers.remote.errors import UpstreamError
from cairn.providers.remote.provider import RemoteProvider, make_remote_provider, make_upstream

__all__ = ["ProviderConfig", "RemoteProvider", "UpstreamError", "make_remote_provider", "make_upstream"]
