"""`cairn up` in a process of its own, which is harmed while clients ask, and what must be true afterwards."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from cairn.core import Settings
from cairn.registry import Registry
from cairn.server.usage.tables import UsageRow
from tests.providers.remote.upstream import FakeUpstream
from tests.server.conftest import PATIENCE
from tests.server.faults.up import SHIFT_FILE

ROOT = Path(__file__).resolve().parents[3]
TURN = 0.05
"""Seconds between two looks at what is waited for."""


@dataclass
class Told:
    """What a client was told of one request."""

    status: int
    text: str = ""
    code: str = ""
    receipt: str = ""
    tokens: tuple[int, int] | None = None
    """Of a whole answer: of its prompt, and of it."""
    retry_after: str = ""


class Up:
    """A server over a home; `start` may be called again after `kill` or `stop`."""

    def __init__(self, home: Path, **env: str) -> None:
        self.home = home
        self.clock = home.parent / f"{home.name}.clock"
        self._log = home.parent / f"{home.name}.log"
        self._env = {**os.environ, "CAIRN_HOME": str(home), "PYTHONUNBUFFERED": "1", **env}
        self._env |= {SHIFT_FILE: str(self.clock), "STONE_KEY": "sk-stone"}
        self.process: subprocess.Popen[str] | None = None
        self.url = self.key = self.link = ""

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    @property
    def log(self) -> str:
        """What it has said on stderr, of all its starts."""
        return self._log.read_text()

    def start(self, *arguments: str) -> "Up":
        command = [sys.executable, "-m", "tests.server.faults.up", "--port", "0", "--new-key", *arguments]
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self._env, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            if found := re.search(r"(https?://[^/\s]+)/sign-in\?token=\S+", line):
                self.url, self.link = found[1], found[0]
            if found := re.search(r"\b(ck_\S+|cairn_\S+|sk-\S+)", line):
                self.key = found[1]
            if line.startswith("Next"):
                break
        else:
            self._drain = threading.Thread(target=lambda: None)
            self._drain.start()
            self._ended()
            raise AssertionError(f"the server did not start: {said}{self.log}")
        # Somebody must read on, or a full pipe would stop it.
        self._drain = threading.Thread(target=self.process.stdout.read, daemon=True)
        self._drain.start()
        wait_until(lambda: httpx2.get(f"{self.url}/readyz").status_code == 200)
        return self

    def http(self, key: str | None = None, **options: Any) -> httpx2.Client:
        headers = {"authorization": f"Bearer {self.key if key is None else key}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=PATIENCE, **options)

    def ask(self, model: str = "starter", *, key: str | None = None, **values: Any) -> Told:
        """One chat: what the client was told; status 0 where the connection broke."""
        body = {"model": model, "messages": [{"role": "user", "content": "Tell me of a stone."}]}
        body |= {"max_tokens": 4} | values
        with self.http(key) as client:
            return told(client, body)

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """As a power cut does it."""
        assert self.process is not None
        self.process.kill()
        self._ended()

    def stop(self) -> None:
        """As an operator does it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            finally:
                self.process.kill()
                self._ended()

    def _ended(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.wait(PATIENCE)
        self._drain.join(PATIENCE)
        self.process.stdout.close()
        self.process = None


def told(client: httpx2.Client, body: dict[str, Any]) -> Told:
    try:
        if body.get("stream"):
            body = body | {"stream_options": {"include_usage": True}}
        answer = client.post("/v1/chat/completions", json=body)
    except httpx2.HTTPError:
        return Told(0)
    found = Told(
        answer.status_code,
        receipt=answer.headers.get("x-cairn-receipt", ""),
        retry_after=answer.headers.get("retry-after", ""),
    )
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    else:
        events = [answer.json()]
    usage = None
    for event in events:
        if "error" in event:
            found.code, found.text = event["error"]["code"], event["error"]["message"]
            return found
        usage = event.get("usage") or usage
        found.receipt = event.get("cairn", {}).get("receipt", found.receipt)
        for choice in event["choices"]:
            found.text += (choice.get("delta") or choice.get("message") or {}).get("content") or ""
    is_whole = not body.get("stream") or answer.text.endswith("data: [DONE]\n\n")
    if usage and is_whole:
        found.tokens = (usage["prompt_tokens"], usage["completion_tokens"])
    return found


@dataclass
class Load:
    """Clients that ask without a pause until `stop`."""

    server: Up
    bodies: list[dict[str, Any]]
    told: list[Told] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(body,)) for body in self.bodies]
        for thread in self._threads:
            thread.start()

    def _ask(self, body: dict[str, Any]) -> None:
        with self.server.http() as client:
            while not self._is_over.is_set():
                self.told.append(found := told(client, body))
                if found.status != 200:
                    self._is_over.wait(TURN)  # as a client that backs off

    def wait_for(self, num: int, status: int = 200) -> None:
        """Until so many more were answered with a status."""
        before = self.statuses()[status]
        wait_until(lambda: self.statuses()[status] >= before + num)

    def statuses(self) -> Counter[int]:
        return Counter(each.status for each in list(self.told))

    def stop(self) -> list[Told]:
        self._is_over.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a client still waits for its answer"
        return self.told


def wait_until(holds: Callable[[], bool]) -> None:
    """Poll until something is so; fails loudly when it never is."""
    tick, deadline = threading.Event(), time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except httpx2.HTTPError:
            pass
        tick.wait(TURN)
    raise AssertionError("it did not happen")


def ledger(settings: Settings) -> list[UsageRow]:
    """All rows, as they are stored."""
    with Registry.open(settings) as registry, registry.database.session(read_only=True) as session:
        return list(session.scalars(select(UsageRow)))


def assert_counted(settings: Settings, answers: list[Told], *, with_receipts: bool = True) -> None:
    """Every whole answer has one row of the ledger, with the tokens that its client was told; a receipt."""
    whole = {each.receipt: each for each in answers if each.tokens is not None}
    rows = [row for row in ledger(settings) if row.outcome == "ok"]
    assert len({row.usage_id for row in rows}) == len(rows)
    by_receipt = {row.receipt_id: row for row in rows}
    for receipt, answer in whole.items():
        row = by_receipt[receipt]
        assert (row.num_requests, row.prompt_tokens, row.completion_tokens) == (1, *(answer.tokens or ()))
    if with_receipts:
        assert_receipts(settings, list(whole))


def assert_receipts(settings: Settings, receipt_ids: list[str]) -> None:
    """Every answer that was told whole has its receipt, once."""
    with Registry.open(settings) as registry:
        for receipt_id in receipt_ids:
            assert registry.receipt(receipt_id).receipt_id == receipt_id


Start = Callable[..., Up]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def up(home: Path) -> Iterator[Start]:
    """Start servers over one home: `up("--option", CAIRN_VARIABLE="value")`."""
    started: list[Up] = []

    def start(*arguments: str, **env: str) -> Up:
        home.mkdir(exist_ok=True)
        started.append(Up(home, **env))
        return started[-1].start(*arguments)

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    made = FakeUpstream()
    yield made
    made.stop()


def write_route(home: Path, *upstreams: FakeUpstream, more: str = "", seconds: float = 30) -> None:
    """The route `way` over these, in order, none of which is waited for any longer."""
    home.mkdir(exist_ok=True)
    providers = "\n".join(
        f'[providers.u{number}]\nbase_url = "{each.url}"\nkey_env = "STONE_KEY"\n'
        f"first_token_seconds = {seconds}\nbetween_tokens_seconds = {seconds}\nwhole_seconds = {seconds}"
        for number, each in enumerate(upstreams)
    )
    targets = ", ".join(f'{{ provider = "u{number}", model = "s" }}' for number in range(len(upstreams)))
    (home / "routes.toml").write_text(f"{providers}\n[routes.way]\ntargets = [{targets}]\n{more}")
