"""Usage in OpenAI's shape, read by the official client."""

import time
from typing import Any

import openai
import pytest

from tests.server.conftest import PATIENCE, Running, Script, Serve
from tests.server.usage.conftest import entry

DAY = 86400


@pytest.fixture
def filled(serve: Serve, script: Script) -> Running:
    """Three days of use by two people, a refusal, and an embedding that is no completion."""
    server = serve(script(), usage_days=100_000)  # nothing is summed up by day
    ledger = server.state.metering.ledger
    for number, (day, user, model, endpoint, outcome) in enumerate(
        (
            (0, "ada", "m", "/v1/chat/completions", "ok"),
            (0, "ada", "n", "/v1/messages", "aborted"),
            (0, "bob", "m", "/v1/completions", "ok"),
            (2, "ada", "m", "/v1/responses", "refused"),
            (2, "bob", "m", "/v1/responses", "ok"),
            (2, "bob", "m", "/v1/embeddings", "ok"),
        )
    ):
        values: dict[str, Any] = {"prompt_tokens": 10**number, "cached_tokens": 1, "completion_tokens": 2}
        values |= {"user_id": user, "model": model, "endpoint": endpoint, "outcome": outcome}
        ledger.put(
            entry(f"req_{number}", at=100 * DAY + day * DAY + 7200.0, key_id=f"k{number % 2}", **values)
        )
    ledger.flush()
    return server


def ask(server: Running, key: str = "", **values: Any) -> Any:
    client = openai.OpenAI(
        base_url=f"{server.url}/v1", admin_api_key=key or server.key, api_key="", timeout=PATIENCE
    )
    server.clients.append(client)
    known = {"start_time": 100 * DAY, "end_time": 103 * DAY}
    return client.admin.organization.usage.completions(**known | values)


def told(page: Any, *names: str) -> list[list[tuple[Any, ...]]]:
    fields = (*names, "input_tokens", "output_tokens", "num_model_requests")
    return [
        [tuple(getattr(each, name) for name in fields) for each in bucket.results] for bucket in page.data
    ]


def test_by_the_official_client(filled: Running) -> None:
    page = ask(filled)
    assert (page.object, page.has_more, page.next_page) == ("page", False, None)
    assert [(each.start_time // DAY, each.end_time // DAY) for each in page.data] == [
        (100, 101),
        (101, 102),
        (102, 103),
    ]
    assert told(page) == [[(111, 6, 3)], [], [(11_000, 4, 1)]]
    assert page.data[0].results[0].input_cached_tokens == 3
    by_model = told(ask(filled, group_by=["model"]), "model", "user_id")
    assert by_model[0] == [("m", None, 101, 4, 2), ("n", None, 10, 2, 1)]
    both = told(ask(filled, group_by=["user_id", "api_key_id"], models=["m"]), "user_id", "api_key_id")
    assert both[0] == [("ada", "k0", 1, 2, 1), ("bob", "k0", 100, 2, 1)]
    assert told(ask(filled, user_ids=["bob"], api_key_ids=["k0"])) == [[(100, 2, 1)], [], [(10_000, 2, 1)]]


def test_pages_and_hours(filled: Running) -> None:
    page = ask(filled, limit=2)
    assert (len(page.data), page.has_more) == (2, True)
    page = ask(filled, limit=2, page=page.next_page)
    assert ([each.start_time for each in page.data], page.has_more) == ([102 * DAY], False)
    hours = ask(filled, bucket_width="1h", limit=3)
    assert [len(each.results) for each in hours.data] == [0, 0, 1]
    assert hours.next_page == str(100 * DAY + 3 * 3600)
    http = filled.http()
    path = "/v1/organization/usage/completions"
    for wrong in ({"limit": "32"}, {"page": "x"}, {"bucket_width": "1m"}, {"group_by[]": "colour"}):
        assert http.get(path, params={"start_time": "0"} | wrong).status_code == 400
    recent = http.get(path, params={"start_time": str(int(time.time()) - DAY)}).json()
    assert recent["has_more"] is False


def test_everybody_sees_their_own(filled: Running) -> None:
    ada = filled.state.identity.create_key("ada")
    assert told(ask(filled, ada))[0] == [(11, 4, 2)]
    assert told(ask(filled, ada, user_ids=["ada"]))[0] == [(11, 4, 2)]
    with pytest.raises(openai.PermissionDeniedError):
        ask(filled, ada, user_ids=["bob"])
