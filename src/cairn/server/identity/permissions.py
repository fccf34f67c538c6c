"""The table of permissions: what each allows, and which roles have it. Every route and command asks it.

A key may be narrowed to scopes: then its permissions are those of its owner that are among them.
"""

from collections.abc import Iterable
from enum import StrEnum
from functools import cache

from cairn.core.chat import Principal
from cairn.core.errors import ForbiddenError, InvalidRequestError


class Permission(StrEnum):
    """Something that a caller may do."""

    ACCOUNT = "account"
    OWN_KEYS = "own_keys"
    CHAT = "chat"
    CONVERSATIONS = "conversations"
    SHARE_PROMPTS = "share_prompts"
    READ_MODELS = "read_models"
    READ_CATALOGUE = "read_catalogue"
    READ_KNOWLEDGE = "read_knowledge"
    MANAGE_KNOWLEDGE = "manage_knowledge"
    READ_USAGE = "read_usage"
    READ_TRACES = "read_traces"
    MANAGE_MODELS = "manage_models"
    MANAGE_ROUTES = "manage_routes"
    READ_ALL_USAGE = "read_all_usage"
    READ_ALL_TRACES = "read_all_traces"
    MANAGE_LIMITS = "manage_limits"
    MANAGE_KEYS = "manage_keys"
    MANAGE_PEOPLE = "manage_people"
    READ_AUDIT = "read_audit"
    MANAGE_SERVER = "manage_server"


MEANING = {
    Permission.ACCOUNT: "see who one is, change one's own password, end one's own sessions",
    Permission.OWN_KEYS: "make, rotate and revoke keys of one's own",
    Permission.CHAT: "ask models: chat, completions, embeddings, reranking; see one's own receipts",
    Permission.CONVERSATIONS: "keep conversations in the page, and judge replies",
    Permission.SHARE_PROMPTS: "offer saved prompts to everyone, and look after those that are",
    Permission.READ_MODELS: "see which models there are and who is in memory",
    Permission.READ_CATALOGUE: "see artifacts, lineage and runs",
    Permission.READ_KNOWLEDGE: "find and read what is in collections, as far as it is open to one",
    Permission.MANAGE_KNOWLEDGE: "make collections, files and vector stores, and change one's own",
    Permission.READ_USAGE: "see what one has used oneself",
    Permission.READ_TRACES: "see how one's own requests went, step by step",
    Permission.MANAGE_MODELS: "load and unload models and adapters",
    Permission.MANAGE_ROUTES: "change which model a name leads to",
    Permission.READ_ALL_USAGE: "see what everybody has used",
    Permission.READ_ALL_TRACES: "see how everybody's requests went, step by step",
    Permission.MANAGE_LIMITS: "set limits and budgets",
    Permission.MANAGE_KEYS: "make, see, rotate and revoke everybody's keys",
    Permission.MANAGE_PEOPLE: "add people, change roles, groups and passwords, end sessions",
    Permission.READ_AUDIT: "read the audit log",
    Permission.MANAGE_SERVER: "read the metrics, and whatever else is the operator's",
}

_VIEWER = frozenset(
    {
        Permission.ACCOUNT,
        Permission.READ_MODELS,
        Permission.READ_CATALOGUE,
        Permission.READ_KNOWLEDGE,
        Permission.READ_USAGE,
        Permission.READ_TRACES,
    }
)
_MEMBER = _VIEWER | {
    Permission.OWN_KEYS,
    Permission.CHAT,
    Permission.CONVERSATIONS,
    Permission.MANAGE_KNOWLEDGE,
}

SERVICE = "service"
"""The role of a program: it has keys and no password, and no other role beside it."""
ROLES: dict[str, frozenset[Permission]] = {
    "admin": frozenset(Permission),
    "builder": _MEMBER | {Permission.MANAGE_MODELS, Permission.MANAGE_ROUTES, Permission.SHARE_PROMPTS},
    "member": _MEMBER,
    "viewer": _VIEWER,
    SERVICE: frozenset(
        {
            Permission.ACCOUNT,
            Permission.CHAT,
            Permission.READ_MODELS,
            Permission.READ_KNOWLEDGE,
            Permission.MANAGE_KNOWLEDGE,
            Permission.READ_USAGE,
            Permission.READ_TRACES,
        }
    ),
}


def permissions_of(caller: Principal) -> frozenset[Permission]:
    """What a caller may do: all that their roles allow, or of that what the key's scopes leave."""
    return _allowed(caller.roles, caller.scopes)


@cache
def _allowed(roles: frozenset[str], scopes: frozenset[str] | None) -> frozenset[Permission]:
    # A role that this version does not know allows nothing.
    held = frozenset[Permission]().union(*(ROLES.get(role, frozenset()) for role in roles))
    return held if scopes is None else held & scopes


def require(caller: Principal, permission: Permission) -> None:
    """`ForbiddenError` unless the caller has a permission."""
    if permission in permissions_of(caller):
        return
    if permission in _allowed(caller.roles, None):
        raise ForbiddenError(
            f"this key's scopes ({', '.join(sorted(caller.scopes or ())) or 'none'}) leave out {permission}",
            remedy="use a key with that scope",
        )
    raise ForbiddenError(
        f"{caller.user_id} ({', '.join(sorted(caller.roles)) or 'no role'}) may not {MEANING[permission]}",
        remedy=f"the permission {permission} is for these roles: {', '.join(roles_with(permission))}",
    )


def require_model(caller: Principal, model: str) -> None:
    """`ForbiddenError` when the caller's key is for other models."""
    if caller.models is not None and model not in caller.models:
        raise ForbiddenError(
            f"this key is not for the model {model!r}",
            remedy=f"ask for one of these: {', '.join(sorted(caller.models))}",
        )


def require_grant(
    caller: Principal, roles: Iterable[str], what: str, *, scopes: Iterable[str] | None = None
) -> None:
    """`ForbiddenError` when somebody would give away, or reach through another, more than they have."""
    given = _allowed(frozenset(roles), None if scopes is None else frozenset(scopes))
    if beyond := given - permissions_of(caller):
        raise ForbiddenError(
            f"{what} would reach further than you may yourself: {', '.join(sorted(beyond))}",
            remedy="ask somebody who has these permissions",
        )


def require_models(caller: Principal, models: Iterable[str] | None) -> None:
    """`ForbiddenError` when a key for certain models would give away others; None is all."""
    if caller.models is not None and (models is None or not caller.models.issuperset(models)):
        raise ForbiddenError(
            "a key for certain models gives away those alone",
            remedy=f"name some of these models: {', '.join(sorted(caller.models))}",
        )


def checked_roles(roles: Iterable[str]) -> list[str]:
    """Roles as they are kept, sorted, each once; `InvalidRequestError` names one that is none."""
    found = sorted(set(roles))
    for role in found:
        if role not in ROLES:
            raise InvalidRequestError(f"no role {role!r}, allowed: {', '.join(ROLES)}", param="roles")
    if SERVICE in found and len(found) > 1:
        raise InvalidRequestError(
            f"{SERVICE} stands beside {', '.join(set(found) - {SERVICE})}, allowed: {SERVICE} alone",
            param="roles",
        )
    if not found:
        raise InvalidRequestError(f"no role is named, allowed: {', '.join(ROLES)}", param="roles")
    return found


def checked_scopes(scopes: Iterable[str] | None, roles: Iterable[str]) -> list[str] | None:
    """A key's scopes as they are kept; `InvalidRequestError` for one that its owner's roles do not have."""
    if scopes is None:
        return None
    held, found = _allowed(frozenset(roles), None), sorted(set(scopes))
    for scope in found:
        if scope not in held:
            raise InvalidRequestError(
                f"the scope {scope!r} is none that the owner has, allowed: {', '.join(sorted(held))}",
                param="scopes",
            )
    return found


def roles_with(permission: Permission) -> list[str]:
    """The roles that have a permission."""
    return [role for role, held in ROLES.items() if permission in held]
