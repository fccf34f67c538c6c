"""Who is asked first: shares, stickiness, balance; and how little moves when targets change."""

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.core.chat import ChatRequest, ToolDefinition, text_message
from cairn.server.routing.choice import beginning_of, by_draw, draw, is_in_share, order
from cairn.server.routing.config import CanaryConfig, RouteConfig, TargetConfig
from cairn.server.routing.difficulty import difficulty

A, B, C = (TargetConfig(model=name) for name in "abc")
NAMES = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True)


def _route(**values: object) -> RouteConfig:
    return RouteConfig.model_validate({"targets": (A, B, C)} | values)


def _order(
    route: RouteConfig, key: str = "k", user: str = "ann", busy: Mapping[str, int] | None = None
) -> list[str]:
    under_way = {f"local/{name}": num for name, num in (busy or {}).items()}
    return [each.model for each in order(route, "r", key=key, user=user, outstanding=under_way)]


@given(NAMES, st.text(), st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 9)), st.booleans())
def test_every_target_is_asked_once_whatever_the_strategy(
    names: list[str], key: str, outstanding: dict[str, int], has_affinity: bool
) -> None:
    targets = tuple(TargetConfig(model=name) for name in names)
    for strategy in ("ordered", "weighted", "least_outstanding"):
        route = RouteConfig(
            targets=targets, strategy=strategy, affinity=has_affinity and strategy != "ordered"
        )
        assert sorted(_order(route, key, busy=outstanding)) == sorted(names)


def test_in_order_as_the_file_says() -> None:
    assert _order(_route(), busy={"a": 100}) == ["a", "b", "c"]


def test_weights_are_shares() -> None:
    route = _route(targets=(A, TargetConfig(model="b", weight=3)), strategy="weighted")
    first = Counter(_order(route, str(number))[0] for number in range(4000))
    assert first["b"] / 4000 == pytest.approx(0.75, abs=0.03)


@given(st.text(), st.sampled_from("abc"))
def test_when_a_target_goes_only_its_own_conversations_move(key: str, gone: str) -> None:
    before = by_draw([A, B, C], key)
    after = by_draw([target for target in (A, B, C) if target.model != gone], key)
    assert after == [target for target in before if target.model != gone]


def test_the_least_busy_for_its_weight() -> None:
    assert _order(_route(strategy="least_outstanding"), busy={"a": 2, "b": 0, "c": 1}) == ["b", "c", "a"]
    heavy = _route(targets=(A, TargetConfig(model="b", weight=4)), strategy="least_outstanding")
    assert _order(heavy, busy={"a": 1, "b": 3})[0] == "b"


def test_a_conversation_stays_until_its_target_has_too_much() -> None:
    route = _route(strategy="least_outstanding", affinity=True)
    own = _order(route)[0]
    assert _order(route, busy={own: 1})[0] == own
    assert _order(route, busy={own: 9})[0] != own
    assert _order(route, busy=dict.fromkeys("abc", 9))[0] == own  # all are as busy: it stays


def test_the_beginning_of_a_conversation_does_not_change_as_it_grows() -> None:
    first = (text_message("system", "be short"), text_message("user", "hello"))
    later = (*first, text_message("assistant", "hi"), text_message("user", "and now?"))
    assert beginning_of(first) == beginning_of(later)
    assert beginning_of(first) != beginning_of((text_message("user", "hello"),))
    assert beginning_of((text_message("system", "x"),))


def test_a_canary_s_users_stay_in_it_as_it_grows() -> None:
    users = [f"user-{number}" for number in range(1000)]

    def inside(percent: float) -> set[str]:
        canary = CanaryConfig(target=TargetConfig(model="new"), percent=percent)
        route = _route(canary=canary)
        return {user for user in users if _order(route, user=user)[0] == "new"}

    assert inside(0) == set()
    assert inside(5) < inside(30) < inside(100) == set(users)
    assert len(inside(30)) == pytest.approx(300, abs=60)


def test_the_targets_are_a_canary_s_fallbacks() -> None:
    canary = CanaryConfig(target=B, percent=100)
    assert _order(_route(canary=canary)) == ["b", "a", "c"]


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_draws_lie_between_and_texts_do_not_run_together(one: list[str], other: list[str]) -> None:
    assert 0 < draw(*one) < 1
    assert (draw(*one) == draw(*other)) == (one == other)
    assert is_in_share(100, *one)
    assert not is_in_share(0, *one)


def _asked(text: str, **values: object) -> float:
    return difficulty(ChatRequest(model="r", messages=(text_message("user", text),), **values))  # type: ignore[arg-type]


def test_what_looks_hard_scores_higher() -> None:
    easy = _asked("hello there")
    assert easy < 0.1
    assert _asked("Explain why, and compare: which one? how many? when?") > easy + 0.2
    assert _asked("mend this:\n```python\ndef f():\n    return 1\n```") > easy + 0.15
    assert _asked("x " * 3000) > easy + 0.3
    assert _asked("hello there", tools=(ToolDefinition("a"),)) > easy


@given(st.text(max_size=500))
def test_a_score_is_a_share(text: str) -> None:
    assert 0 <= _asked(text) <= 1
