"""A server that is killed under load: what its clients got is in the ledger of the next one."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from cairn.core import Settings
from cairn.registry import Registry
from cairn.registry.journal import FOLDER
from cairn.server.identity import Identity
from cairn.server.usage.ledger import Ledger
from tests.conftest import killed_when_late
from tests.server.conftest import PATIENCE
from tests.server.usage.conftest import rows

ROOT = Path(__file__).resolve().parents[3]
NUM_CLIENTS = 8
ASK = {"model": "scripted", "messages": [{"role": "user", "content": "where to?"}], "max_tokens": 12}


@contextmanager
def running(home: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    command = [sys.executable, "-m", "tests.server.batches.server_process", str(home)]
    with (
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process,
        killed_when_late(process),
    ):
        assert process.stdout is not None
        yield process, f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


class Load:
    """Clients that ask until the server is gone, whole and streamed in turn; what each answer took."""

    def __init__(self, url: str, key: str) -> None:
        self._url, self._key = url, key
        self.got: dict[str, tuple[int, int]] = {}
        self.num_asked = 0
        self._lock = threading.Lock()
        self.threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(NUM_CLIENTS)]

    def _ask(self, number: int) -> None:
        headers = {"authorization": f"Bearer {self._key}"}
        with httpx2.Client(base_url=self._url, headers=headers, timeout=PATIENCE) as http:
            while True:
                with self._lock:
                    self.num_asked += 1
                try:
                    receipt, used = self._stream(http) if number % 2 else self._whole(http)
                except httpx2.TransportError:
                    return
                with self._lock:
                    self.got[receipt] = used

    @staticmethod
    def _whole(http: httpx2.Client) -> tuple[str, tuple[int, int]]:
        answer = http.post("/v1/chat/completions", json=ASK).json()
        usage = answer["usage"]
        return answer["cairn"]["receipt"], (usage["prompt_tokens"], usage["completion_tokens"])

    @staticmethod
    def _stream(http: httpx2.Client) -> tuple[str, tuple[int, int]]:
        body = ASK | {"stream": True, "stream_options": {"include_usage": True}}
        with http.stream("POST", "/v1/chat/completions", json=body) as response:
            for line in response.iter_lines():
                # The client has all there is; the connection may break before it is told that this was all.
                if line.startswith("data: {") and (last := json.loads(line[6:])).get("cairn"):
                    usage = last["usage"]
                    return last["cairn"]["receipt"], (usage["prompt_tokens"], usage["completion_tokens"])
        raise httpx2.ReadError("the stream ended early")


def test_what_clients_got_is_counted(settings: Settings) -> None:
    with Registry.open(settings) as registry:
        key = Identity(registry.database).ensure_admin()
    assert key is not None
    got: dict[str, tuple[int, int]] = {}
    num_asked = 0
    for kill_at in (40, 25, 60):
        with running(settings.home) as (process, url):
            load = Load(url, key)
            for each in load.threads:
                each.start()
            tick = threading.Event()
            while len(load.got) < kill_at:
                assert process.poll() is None
                tick.wait(0.001)
            os.kill(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)
            for each in load.threads:
                each.join(PATIENCE)
            got |= load.got
            num_asked += load.num_asked
    with Registry.open(settings) as registry:
        ledger = Ledger(registry.database, journal=settings.home / FOLDER)
        ledger.recover()
        ledger.close()
        for receipt in got:
            assert registry.receipt(receipt).receipt_id == receipt
        counted = {row.receipt_id: row for row in rows(registry)}
        assert len(counted) == len(rows(registry))
    for receipt, used in got.items():
        row = counted[receipt]
        assert (row.prompt_tokens, row.completion_tokens, row.outcome) == (*used, "ok")
    # Beyond that there are at most the requests that were under way, one of each client at each kill.
    assert len(got) <= len(counted) <= len(got) + 3 * NUM_CLIENTS
    assert num_asked - len(got) <= 3 * NUM_CLIENTS
