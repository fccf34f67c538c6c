"""Commands that act for a named user, as that user may: the table of permissions holds there too."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cairn.core.chat import Principal
    from cairn.registry import Registry
    from cairn.server.identity.permissions import Permission


def acting_as(
    registry: "Registry", user: str, groups: Iterable[str], permission: "Permission"
) -> "Principal":
    """A user as who asks, the administrator unless named; with more groups for the occasion.

    One without an account is a name that documents may be open to, and no more.
    """
    from dataclasses import replace

    from cairn.core.chat import Principal
    from cairn.core.errors import NotFoundError
    from cairn.server.identity import ADMIN, Identity
    from cairn.server.identity.permissions import require

    try:
        found = Identity(registry.database).principal_of(user or ADMIN)
    except NotFoundError:
        return Principal(user or ADMIN, frozenset(groups))
    require(found, permission)
    return replace(found, groups=found.groups | frozenset(groups))
