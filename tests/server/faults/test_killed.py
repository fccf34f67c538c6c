"""kill -9 under load, and two servers over one home: what was told stays and is counted once."""

import itertools
import json
import threading
from pathlib import Path

import openai

from cairn.core import Settings
from cairn.registry import Registry
from tests.providers.remote.upstream import FakeUpstream
from tests.server.batches.test_batches import ENDED, begin, line, told, upload
from tests.server.conftest import PATIENCE
from tests.server.faults.conftest import (
    Load,
    Start,
    Up,
    assert_counted,
    wait_until,
    write_route,
)

HI = [{"role": "user", "content": "hi"}]
CHAT = {"model": "starter", "messages": HI, "max_tokens": 4}


def bodies(num: int, model: str = "way") -> list[dict[str, object]]:
    return [{"model": model, "messages": HI, "max_tokens": 4, "stream": each % 2 == 0} for each in range(num)]


def test_kill_9_under_load(up: Start, home: Path, upstream: FakeUpstream) -> None:
    """What a client was told whole has its receipt and its row, once."""
    write_route(home, upstream)
    answers, server = [], up()
    for turn in range(3):
        if turn:
            server.start()
        load = Load(server, bodies(4) + bodies(2, "starter"))
        load.wait_for(60)
        server.kill()
        answers.append(load.stop())
    server.start()
    after = server.ask()
    server.stop()
    settings = Settings(home=home)
    assert_counted(settings, [*itertools.chain(*answers), after])
    with Registry.open(settings) as registry:
        assert registry.audit.verify() > 0
        with registry.database.session(read_only=True) as session:
            assert session.connection().exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def client_of(server: Up) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=PATIENCE)


def test_two_servers_over_one_home(up: Start, home: Path, upstream: FakeUpstream) -> None:
    """Both answer, count into one ledger and share a batch; a key revoked at one is soon none for both."""
    write_route(home, upstream)
    one, other = up(), up()
    loads = [Load(server, bodies(3) + bodies(1, "starter")) for server in (one, other)]
    try:
        with client_of(one) as first, client_of(other) as second:
            lines = [line(f"ask-{number}", CHAT | {"seed": number}) for number in range(30)]
            batch = begin(first, upload(first, *lines))
            wait_until(lambda: second.batches.retrieve(batch.id).status in ENDED)
            done = second.batches.retrieve(batch.id)
            answered = told(second, done.output_file_id)
        for load in loads:
            load.wait_for(30)
    finally:
        answers = [each for load in loads for each in load.stop()]
    assert {each.status for each in answers} == {200}
    assert done.status == "completed"
    assert [each["custom_id"] for each in answered] == [f"ask-{number}" for number in range(30)]
    assert len({json.dumps(each["id"]) for each in answered}) == 30

    with one.http() as client:
        made = client.post("/api/keys", json={"name": "soon gone"})
        assert made.status_code == 201, made.text
        secret, key_id = made.json()["key"], made.json()["key_id"]
        assert other.ask("way", key=secret).status == 200
        assert client.delete(f"/api/keys/{key_id}").status_code in (200, 204)
    wait_until(lambda: other.ask("way", key=secret).status == 401)

    one.kill()
    answers.append(other.ask())
    other.stop()
    assert answers[-1].status == 200
    up().stop()  # stores what the killed one had noted
    assert_counted(Settings(home=home), [each for each in answers if each.receipt])


def test_starting_at_the_same_moment(up: Start, home: Path) -> None:
    """Four servers that begin a new home at once make it once."""
    started: list[Up] = []
    threads = [threading.Thread(target=lambda: started.append(up())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert [server.ask().status for server in started] == [200] * 4
