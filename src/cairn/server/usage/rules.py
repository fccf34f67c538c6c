"""Rules about how much may be used: what they say, where they are kept, which of them hold for a request.

They live in the database and not in a file: the page and `cairn limit` change them while servers run, several
servers share one database, and each change is in the audit log. A server sees one made elsewhere
within a second.
"""

import hashlib
import time
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator
from sqlalchemy import delete, select

from cairn.core import Config
from cairn.core.bounded_cache import BoundedCache
from cairn.core.chat import Principal
from cairn.core.errors import NotFoundError
from cairn.registry import MARKED_SECONDS, Mark, Registry
from cairn.server.usage.tables import LimitRow

Kind = Literal["all", "user", "group", "key"]
Metric = Literal["requests", "tokens", "concurrent", "money"]
Window = Literal["minute", "hour", "day", "month", "total", ""]

RULES = "limits"
"""The mark of changes to rules."""
EACH = "*"
_WINDOWS: dict[str, tuple[Window, ...]] = {
    "requests": ("minute", "hour", "day"),
    "tokens": ("minute", "hour", "day"),
    "concurrent": ("",),
    "money": ("day", "month", "total"),
}


class Rule(Config):
    """How much of something may be used by somebody."""

    kind: Kind = Field(description="whose use counts: all, user, group or key")
    name: str = Field(
        default="",
        max_length=200,
        description="the user, group or key id; `*`: each of them by itself, who has no rule of their own",
    )
    model: str = Field(default="", max_length=200, description="only requests for this model; empty: any")
    metric: Metric = Field(description="what is counted: requests, tokens, concurrent (requests) or money")
    window: Window = Field(
        default="",
        description="requests and tokens: minute, hour or day; money: day, month or total; else empty",
    )
    amount: int = Field(ge=0, le=10**15, description="how much; money in millionths of the currency's unit")
    action: Literal["stop", "warn"] = Field(
        default="stop", description="stop: requests beyond it are refused; warn (money): they are told of it"
    )

    @model_validator(mode="after")
    def _check(self) -> "Rule":
        allowed = _WINDOWS[self.metric]
        if self.window not in allowed:
            windows = ", ".join(allowed) if allowed[0] else "none"
            raise ValueError(f"{self.metric} has no window {self.window!r}, allowed: {windows}")
        if (self.kind == "all") != (not self.name):
            raise ValueError("kind all has no name" if self.name else f"name the {self.kind}, or * for each")
        if self.action == "warn" and self.metric != "money":
            raise ValueError(f"only money may warn, {self.metric} stop")
        return self

    @property
    def place(self) -> tuple[str, ...]:
        """What the rule is about; another one of the same place takes its place."""
        return (self.kind, self.name, self.model, self.metric, self.window, self.action)

    @property
    def limit_id(self) -> str:
        """The rule's id; follows from its place."""
        return "lim_" + hashlib.sha256("\0".join(self.place).encode()).hexdigest()[:12]

    @property
    def subject_text(self) -> str:
        """Whose use it is about, as `cairn limit` writes it: `user:ada`, `all`."""
        return f"{self.kind}:{self.name}" if self.name else self.kind


class Applied:
    """A rule that holds for a request, and whose use counts: of a rule for each, one of them."""

    __slots__ = ("rule", "subject", "subject_name")

    def __init__(self, rule: Rule, subject_name: str) -> None:
        self.rule, self.subject_name = rule, subject_name
        self.subject = f"{rule.limit_id}/{subject_name}"

    @property
    def who(self) -> str:
        """For messages."""
        rule = self.rule
        named = "everybody" if rule.kind == "all" else f"{rule.kind} {self.subject_name}"
        return f"{named} on {rule.model}" if rule.model else named


_MOST_CACHED = 10_000


class RuleBook:
    """The rules as a server knows them now."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._read: tuple[Mark | None, float] = None, 0.0
        self.rules: tuple[Rule, ...] = ()
        self._by_subject: dict[tuple[str, str], list[Rule]] = {}
        self._applied: BoundedCache[tuple[Principal, str], tuple[Applied, ...]] = BoundedCache(_MOST_CACHED)

    @property
    def is_current(self) -> bool:
        """Whether nobody has changed them since; False where only the database can tell."""
        mark, since = self._read
        is_recent = mark is not None and time.monotonic() < since + MARKED_SECONDS
        return is_recent and mark == self._registry.database.mark_of(RULES)

    def reload(self) -> None:
        """Read what the database says."""
        read = self._registry.database.mark_of(RULES), time.monotonic()
        rules = tuple(stored_rules(self._registry))
        self._read = read
        if rules == self.rules:
            return
        by_subject: dict[tuple[str, str], list[Rule]] = {}
        for rule in rules:
            by_subject.setdefault((rule.kind, rule.name), []).append(rule)
        # A new cache with the new rules, so that nothing found in the old ones is put there later.
        self._applied = BoundedCache(_MOST_CACHED)
        self.rules, self._by_subject = rules, by_subject

    def applied(self, caller: Principal, model: str) -> tuple[Applied, ...]:
        """What holds for a request of a caller."""
        if not self.rules:
            return ()
        cache = self._applied
        found = cache.get((caller, model))
        if found is None:
            found = tuple(self._find(caller, model))
            cache.put((caller, model), found, 1)
        return found

    def _find(self, caller: Principal, model: str) -> list[Applied]:
        subjects: list[tuple[str, str]] = [("all", ""), ("user", caller.user_id)]
        subjects += [("group", name) for name in sorted(caller.groups)]
        if caller.key_id:
            subjects.append(("key", caller.key_id))
        found = []
        for kind, name in subjects:
            own = self._by_subject.get((kind, name), [])
            known = {rule.place[2:] for rule in own}
            shared = self._by_subject.get((kind, EACH), []) if kind != "all" else []
            rules = own + [rule for rule in shared if rule.place[2:] not in known]
            found += [Applied(rule, name) for rule in rules if rule.model in ("", model)]
        return found


def stored_rules(registry: Registry) -> list[Rule]:
    """All rules, in a stable order."""
    query = select(LimitRow).order_by(
        LimitRow.kind, LimitRow.name, LimitRow.model, LimitRow.metric, LimitRow.window, LimitRow.action
    )
    with registry.database.session(read_only=True) as session:
        return [_rule(row) for row in session.scalars(query)]


def set_rules(registry: Registry, rules: Sequence[Rule], actor: str) -> None:
    """Make rules hold, in place of those about the same."""
    with registry.database.writing(marks=RULES) as session:
        for rule in rules:
            row = session.get(LimitRow, rule.limit_id)
            before = row.amount if row is not None else None
            if row is None:
                row = LimitRow(limit_id=rule.limit_id, **rule.model_dump())
                session.add(row)
            row.amount, row.updated_at, row.updated_by = rule.amount, time.time(), actor
            details = rule.model_dump() | {"before": before}
            registry.audit.append_in(session, "limit.set", actor, rule.limit_id, details)


def remove_rule(registry: Registry, limit_id: str, actor: str) -> Rule:
    """Let a rule go; `NotFoundError` when there is none of this id."""
    with registry.database.writing(marks=RULES) as session:
        row = session.get(LimitRow, limit_id)
        if row is None:
            raise NotFoundError(f"no limit {limit_id!r}", remedy="list them: cairn limit ls")
        rule = _rule(row)
        session.execute(delete(LimitRow).where(LimitRow.limit_id == limit_id))
        registry.audit.append_in(session, "limit.remove", actor, limit_id, rule.model_dump())
        return rule


def _rule(row: LimitRow) -> Rule:
    return Rule.model_validate({name: getattr(row, name) for name in Rule.model_fields})
