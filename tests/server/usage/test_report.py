"""Use summed up by anything: as a plain sum over the entries says, and nobody sees what is another's."""

import csv
import io
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cairn.core.errors import InvalidRequestError
from cairn.registry import Registry
from cairn.server.usage.ledger import Entry, Ledger
from cairn.server.usage.report import Question, as_csv, dimensions, report
from tests.server.conftest import Running
from tests.server.usage.conftest import entry

HOUR = 3600.0
_batches = iter(range(10**6))


def ask(registry: Registry, by: str = "", since: float = 0.0, until: float = 1e9, **only: str) -> Any:
    return report(registry.database, Question(since, until, dimensions(by), only), "USD")


entries = st.builds(
    lambda number, **values: entry(f"e{next(_batches)}-{number}", **values),
    number=st.integers(0, 5),
    at=st.floats(0, 50 * HOUR),
    user_id=st.sampled_from(["ada", "bob"]),
    key_id=st.sampled_from(["", "k1"]),
    groups=st.frozensets(st.sampled_from(["x", "y", "%_"])),
    model=st.sampled_from(["m", "n"]),
    prompt_tokens=st.integers(0, 10**10),
    cost=st.integers(0, 10**12),
    outcome=st.sampled_from(["ok", "failed", "aborted"]),
)


@given(made=st.lists(entries, max_size=30), since=st.floats(0, 50 * HOUR))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sums_are_those_of_the_entries(registry: Registry, made: list[Entry], since: float) -> None:
    with registry.database.writing() as session:
        session.connection().exec_driver_sql("DELETE FROM usage")
    ledger = Ledger(registry.database)
    for each in made:
        ledger.put(each)
    ledger.close()
    meant = [each for each in made if each.at >= since]
    found = ask(registry, "user,model", since)
    expected = Counter((each.user_id, each.model) for each in meant)
    assert {(line.user, line.model): line.requests for line in found.lines} == expected
    assert found.total.cost == sum(each.cost for each in meant)
    assert found.total.prompt_tokens == sum(each.prompt_tokens for each in meant)
    assert found.total.failed == sum(each.outcome == "failed" for each in meant)
    by_group = {line.group: line.cost for line in ask(registry, "group", since).lines}
    for group in ("x", "%_"):
        cost = sum(each.cost for each in meant if group in each.groups)
        assert by_group.get(group, 0) == cost == ask(registry, "", since, group=group).total.cost
    assert sum(line.requests for line in ask(registry, "hour", since).lines) == len(meant)


def test_times_and_percentiles(registry: Registry, ledger: Ledger) -> None:
    for number in range(100):
        at = number * HOUR
        ledger.put(entry(f"{number}", at=at, seconds=(number + 1) / 100, first_token_seconds=0.5))
    ledger.put(entry("refused", outcome="refused", num_requests=7, code="rate_limit_exceeded"))
    ledger.flush()
    found = ask(registry, "day")
    assert [line.day for line in found.lines][:2] == ["1970-01-01", "1970-01-02"]
    assert [line.requests for line in found.lines] == [31, 24, 24, 24, 4]
    assert (found.total.requests, found.total.refused) == (107, 7)
    assert found.total.seconds_p50 == pytest.approx(0.5, rel=0.1)
    assert found.total.seconds_p95 == pytest.approx(0.95, rel=0.1)
    assert found.total.first_token_seconds == pytest.approx(0.5)
    (hour,) = ask(registry, "hour", 5 * HOUR, 6 * HOUR).lines
    assert hour.hour == "1970-01-01T05:00Z"


def test_nothing_at_all(registry: Registry) -> None:
    found = ask(registry, "day,model")
    assert (found.lines, found.total.requests, found.total.seconds_p50) == ([], 0, None)
    assert as_csv(found).count("\n") == 1  # the names of the columns
    assert as_csv(ask(registry, "")).count("\n") == 2  # and what it is in all


def test_csv(registry: Registry, ledger: Ledger) -> None:
    ledger.put(entry("a", model='a "model", with\nall', cost=1_500_000_000, prompt_tokens=3))
    ledger.put(entry("b", model="=1+1"))
    ledger.flush()
    lines = list(csv.DictReader(io.StringIO(as_csv(ask(registry, "model")))))
    assert [line["model"] for line in lines] == ["'=1+1", 'a "model", with\nall']
    assert (lines[1]["cost"], lines[1]["currency"], lines[1]["prompt_tokens"]) == ("1500.00", "USD", "3")


def test_what_it_is_not_kept_by() -> None:
    with pytest.raises(InvalidRequestError, match="usage is not kept by 'colour'"):
        dimensions("day,colour")


@pytest.fixture
def ada(server: Running, registry: Registry) -> str:
    """A key of somebody who is no administrator; she and the administrator have asked something."""
    key = server.state.identity.create_key("ada")
    body = {"model": "scripted", "messages": [{"role": "user", "content": "which way?"}]}
    for each in (server.key, key, key):
        assert server.http(each).post("/v1/chat/completions", json=body).status_code == 200
    return key


def test_everybody_sees_their_own(server: Running, ada: str) -> None:
    mine = server.http(ada).get("/api/usage", params={"by": "user,model"}).json()
    assert [(line["user"], line["requests"]) for line in mine["lines"]] == [("ada", 2)]
    assert mine["total"]["requests"] == 2
    refused = server.http(ada).get("/api/usage", params={"user": "admin"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "auth.forbidden")
    all_of_them = server.http().get("/api/usage", params={"by": "user"}).json()
    assert [(line["user"], line["requests"]) for line in all_of_them["lines"]] == [("ada", 2), ("admin", 1)]
    filtered = server.http().get("/api/usage", params={"user": "ada", "by": "key", "format": "csv"})
    assert filtered.headers["content-type"].startswith("text/csv")
    assert ada.split("_")[1] in filtered.text


@pytest.mark.parametrize("params", [{"by": "colour"}, {"since": "9", "until": "5"}, {"since": "nan"}])
def test_questions_that_make_no_sense(server: Running, params: dict[str, str]) -> None:
    assert server.http().get("/api/usage", params=params).status_code == 400


def test_limits_are_seen_by_those_they_hold_for(server: Running, ada: str) -> None:
    admin, http = server.http(), server.http(ada)
    made = []
    for kind, name in (("user", "*"), ("user", "bob"), ("all", "")):
        body = {"kind": kind, "name": name, "metric": "money", "window": "day", "amount": 5_000_000}
        assert http.put("/api/limits", json=body).status_code == 403
        made.append(admin.put("/api/limits", json=body).json()["id"])
    seen = {each["id"]: each for each in http.get("/api/limits").json()["data"]}
    assert set(seen) == {made[0], made[2]}
    assert seen[made[0]]["standing"]["subject"] == "ada"
    assert len(admin.get("/api/limits").json()["data"]) == 3
    assert http.delete(f"/api/limits/{made[0]}").status_code == 403
    assert admin.delete(f"/api/limits/{made[0]}").status_code == 204
    assert admin.delete(f"/api/limits/{made[0]}").status_code == 404
    assert len(http.get("/api/limits").json()["data"]) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": "month"}, "requests has no window 'month'"),
        ({"amount": -1}, "amount: "),
        ({"name": ""}, "name the user, or * for each"),
        ({"colour": "red"}, "unknown field 'colour'"),
    ],
)
def test_limits_that_make_no_sense(server: Running, change: dict[str, Any], message: str) -> None:
    body = {"kind": "user", "name": "ada", "metric": "requests", "window": "day", "amount": 5} | change
    refused = server.http().put("/api/limits", json=body)
    assert refused.status_code == 400
    assert message in refused.json()["error"]["message"]
