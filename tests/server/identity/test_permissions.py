"""The table of permissions: every route has a rule, and holds to it for every role."""

from collections.abc import Iterator

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts
from hypothesis import given
from hypothesis import strategies as st

from cairn.core.chat import Principal
from cairn.core.errors import ForbiddenError, InvalidRequestError
from cairn.server.app import create_api
from cairn.server.auth import Rule, may_read_metrics, public
from cairn.server.identity.permissions import (
    MEANING,
    ROLES,
    Permission,
    checked_roles,
    permissions_of,
    require,
    require_grant,
)
from cairn.server.knowledge.own_docs import OwnDocs
from tests.server.conftest import Running

Route = tuple[str, str]

# Asked for by rooms of their own as these come.
NOT_YET = {
    Permission.SHARE_PROMPTS,
    Permission.READ_USAGE,
    Permission.READ_ALL_USAGE,
    Permission.READ_ALL_TRACES,
    Permission.MANAGE_LIMITS,
    Permission.MANAGE_SERVER,
}


def routes() -> Iterator[tuple[Route, RouteContext]]:
    for context in iter_route_contexts(create_api().routes):
        for method in sorted(context.methods or ()):
            if method != "HEAD":
                yield (method, str(context.path_format)), context


def calls(dependant: Dependant) -> Iterator[object]:
    for each in dependant.dependencies:
        yield each.call
        yield from calls(each)


def permission_of(context: RouteContext) -> Permission | None:
    """The permission that a route asks for; None: it is open, and says so."""
    rules = set(calls(context.dependant))
    asked = {each.permission for each in rules if isinstance(each, Rule)}
    if not asked:
        assert rules & {public, may_read_metrics}, f"{context.path}: no rule; see cairn.server.auth"
        return None
    assert len(asked) == 1, f"{context.path} asks for {asked}: one is enough to tell what it is"
    return asked.pop()


def test_every_route_has_a_rule() -> None:
    found = {route: permission_of(context) for route, context in routes()}
    assert len(found) > 90
    assert {route for route, permission in found.items() if permission is None} == {
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/sign-in"),
        ("GET", "/sign-in/oidc"),
        ("GET", "/sign-in/oidc/callback"),
        ("GET", "/api/sign-in"),
        ("POST", "/api/sign-in"),
        ("POST", "/api/sign-in/password"),
        ("POST", "/api/sign-out"),
        ("GET", "/api/public/{token}"),
    }
    assert set(Permission) - {permission for permission in found.values() if permission} <= NOT_YET


@pytest.mark.parametrize("role", ROLES)
def test_every_route_refuses_who_lacks_its_permission(
    server: Running, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    monkeypatch.setattr(OwnDocs, "bring", lambda _self: None)
    client = server.http(server.state.identity.create_key(f"the-{role}", roles=(role,)))
    for (method, path), context in routes():
        permission = permission_of(context)
        if permission is None:
            continue
        asked = path.format_map(dict.fromkeys(context.param_convertors, "nothing"))
        answer = client.request(method, asked, json=None if method == "GET" else {})
        is_refused = answer.status_code == 403
        assert is_refused == (permission not in ROLES[role]), (method, path, role, answer.text)
        if is_refused:
            error = answer.json()["error"]
            code = error["details"]["error_code"] if path.startswith("/v1/messages") else error["code"]
            assert (error["type"], code) == ("permission_error", "auth.forbidden")
            assert error["message"].startswith(f"the-{role} ({role}) may not {MEANING[permission]}")
        else:
            assert answer.status_code not in (401, 405, 500), (method, path, answer.text)


def test_the_table_is_whole() -> None:
    assert set(MEANING) == set(Permission)
    assert ROLES["admin"] == set(Permission)
    assert ROLES["viewer"] < ROLES["member"] < ROLES["builder"] < ROLES["admin"]
    assert Permission.OWN_KEYS not in ROLES["service"]


principals = st.builds(
    Principal,
    st.just("ada"),
    roles=st.frozensets(st.sampled_from([*ROLES, "unheard-of"])),
    scopes=st.none() | st.frozensets(st.sampled_from([*Permission, "unheard-of"])),
)


@given(principals)
def test_scopes_and_roles_only_narrow(caller: Principal) -> None:
    allowed = permissions_of(caller)
    assert all(any(each in ROLES.get(role, ()) for role in caller.roles) for each in allowed)
    assert caller.scopes is None or allowed <= caller.scopes
    for permission in Permission:
        if permission in allowed:
            require(caller, permission)
        else:
            with pytest.raises(ForbiddenError):
                require(caller, permission)


@given(principals, st.frozensets(st.sampled_from(list(ROLES))))
def test_nobody_gives_more_than_they_have(caller: Principal, roles: frozenset[str]) -> None:
    given_away = permissions_of(Principal("bob", roles=roles))
    if given_away <= permissions_of(caller):
        require_grant(caller, roles, "this")
    else:
        with pytest.raises(ForbiddenError, match="further than you"):
            require_grant(caller, roles, "this")


def test_roles_are_checked() -> None:
    assert checked_roles(["member", "admin", "member"]) == ["admin", "member"]
    for wrong, said in (
        (["boss"], "no role 'boss'"),
        (["service", "admin"], "service alone"),
        ([], "allowed"),
    ):
        with pytest.raises(InvalidRequestError, match=said):
            checked_roles(wrong)
