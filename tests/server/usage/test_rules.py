"""Which rules hold for whom, what a rule may say, and that every change is in the audit log."""

import pytest
from pydantic import ValidationError

from cairn.core.chat import Principal
from cairn.core.errors import NotFoundError
from cairn.registry import Registry
from cairn.server.usage.rules import RuleBook, remove_rule, set_rules, stored_rules
from tests.server.usage.conftest import ADA, rule


def held(registry: Registry, caller: Principal, model: str = "m") -> list[tuple[int, str]]:
    book = RuleBook(registry)
    book.reload()
    return [(each.rule.amount, each.subject_name) for each in book.applied(caller, model)]


def test_what_holds_for_a_request(registry: Registry) -> None:
    rules = [
        rule("all", "", "requests", "minute", 1),
        rule("user", "ada", "requests", "minute", 2),
        rule("user", "bob", "requests", "minute", 3),
        rule("group", "makers", "tokens", "day", 4),
        rule("group", "others", "tokens", "day", 5),
        rule("key", "k1", "concurrent", "", 6),
        rule("all", "", "requests", "minute", 7, model="big"),
    ]
    set_rules(registry, rules, "admin")
    assert held(registry, ADA) == [(1, ""), (2, "ada"), (4, "makers"), (6, "k1")]
    assert held(registry, ADA, "big") == [(1, ""), (7, ""), (2, "ada"), (4, "makers"), (6, "k1")]
    assert held(registry, Principal("eve")) == [(1, "")]


def test_a_rule_of_ones_own_replaces_that_for_each(registry: Registry) -> None:
    rules = [
        rule("user", "*", "requests", "minute", 10),
        rule("user", "ada", "requests", "minute", 99),
        rule("user", "*", "tokens", "minute", 20),
    ]
    set_rules(registry, rules, "admin")
    assert held(registry, ADA) == [(99, "ada"), (20, "ada")]
    assert held(registry, Principal("bob")) == [(10, "bob"), (20, "bob")]


def test_a_rule_about_the_same_takes_the_place(registry: Registry) -> None:
    set_rules(registry, [rule("user", "ada", "requests", "minute", 1)], "admin")
    set_rules(registry, [rule("user", "ada", "requests", "minute", 2)], "eve")
    assert [each.amount for each in stored_rules(registry)] == [2]
    limit_id = stored_rules(registry)[0].limit_id
    remove_rule(registry, limit_id, "eve")
    assert stored_rules(registry) == []
    with pytest.raises(NotFoundError, match="cairn limit ls"):
        remove_rule(registry, limit_id, "eve")
    entries = registry.audit.entries()
    assert [(each.action, each.actor, each.subject) for each in entries] == [
        ("limit.set", "admin", limit_id),
        ("limit.set", "eve", limit_id),
        ("limit.remove", "eve", limit_id),
    ]
    assert entries[1].details["before"] == 1


def test_a_book_forgets_what_held_before(registry: Registry) -> None:
    book = RuleBook(registry)
    book.reload()
    assert book.applied(ADA, "m") == ()
    set_rules(registry, [rule("all", "", "requests", "minute", 1)], "admin")
    book.reload()
    assert len(book.applied(ADA, "m")) == 1
    set_rules(registry, [rule("all", "", "requests", "minute", 2)], "admin")
    book.reload()
    assert [each.rule.amount for each in book.applied(ADA, "m")] == [2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            ("user", "ada", "requests", "month", 1),
            "no window 'month', allowed: minute, hour, day",
        ),
        (("user", "ada", "concurrent", "day", 1), "concurrent has no window 'day', allowed: none"),
        (("user", "", "requests", "day", 1), "name the user, or \\* for each"),
        (("all", "ada", "requests", "day", 1), "kind all has no name"),
        (("user", "ada", "requests", "day", -1), "greater than or equal to 0"),
    ],
)
def test_what_makes_no_sense_is_refused(values: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        rule(*values)  # type: ignore[arg-type]


def test_only_money_warns() -> None:
    with pytest.raises(ValidationError, match="only money may warn"):
        rule("all", "", "requests", "day", 1, action="warn")


def test_rules_are_current_until_any_process_changes_them(either_registry: Registry) -> None:
    with Registry.open(either_registry.settings) as elsewhere:
        book = RuleBook(either_registry)
        assert not book.is_current
        book.reload()
        assert book.is_current == either_registry.database.is_sqlite  # elsewhere only the database knows
        made = rule("user", "ada", "requests", "minute", 5)
        for change in (
            lambda: set_rules(elsewhere, [made], "b"),
            lambda: remove_rule(elsewhere, made.limit_id, "b"),
        ):
            change()
            assert not book.is_current
            book.reload()
            assert list(book.rules) == stored_rules(elsewhere)
