"""identity: who asks, and what they may do; people, keys, sessions and groups."""

from cairn.server.identity.principals import ADMIN, COOKIE, Identity

__all__ = ["ADMIN", "COOKIE", "Identity"]
