"""Postgres goes away under load and comes back: refusals say so, and what was told is counted exactly."""

import signal
from pathlib import Path

import pytest

from cairn.core import Settings
from tests.conftest import Postgres
from tests.providers.remote.upstream import FakeUpstream
from tests.server.faults.conftest import Load, Start, assert_counted, write_route

pytestmark = pytest.mark.postgres
HI = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_it_goes_away_under_load_and_comes_back(
    own_postgres: Postgres, up: Start, home: Path, upstream: FakeUpstream, how: signal.Signals
) -> None:
    write_route(home, upstream)
    server = up(CAIRN_DATABASE_URL=own_postgres.url)
    bodies = [{"model": "way", "messages": HI, "stream": number % 2 == 0} for number in range(6)]
    load = Load(server, bodies)
    try:
        for _ in range(2):
            load.wait_for(20)
            own_postgres.end(how)
            load.wait_for(5, status=503)
            own_postgres.start()
        load.wait_for(20)
    finally:
        answers = load.stop()
    server.stop()
    refused = [each for each in answers if each.status != 200]
    # Not one blames the upstream, which was well: its breaker stays closed.
    assert {(each.status, each.code) for each in refused} == {(503, "storage.unavailable")}
    assert all(each.retry_after for each in refused)
    # Receipts do not wait for the disk: a crash of the database may take the last ones along.
    assert_counted(settings_of(home, own_postgres), answers, with_receipts=how == signal.SIGINT)


def settings_of(home: Path, postgres: Postgres) -> Settings:
    return Settings(home=home, database_url=postgres.url)


def test_a_server_starts_when_it_is_there_again(own_postgres: Postgres, up: Start, home: Path) -> None:
    """Without its database a server says so and ends; it does not begin an empty one elsewhere."""
    server = up(CAIRN_DATABASE_URL=own_postgres.url)
    answers = [server.ask()]
    server.stop()
    own_postgres.end()
    with pytest.raises(AssertionError, match="check that the database server runs"):
        server.start()
    assert not (home / "cairn.db").exists()
    own_postgres.start()
    answers.append(server.start().ask())
    server.stop()
    assert [each.status for each in answers] == [200, 200]
    assert_counted(settings_of(home, own_postgres), answers)
