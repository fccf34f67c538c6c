"""Fixtures every room shares: settings and a registry in a temporary home, and a real Postgres server.

And the last resort against waiting for ever. pytest-timeout raises in a test that takes too long, but what
ends such a test (an event loop that waits for its threads, a fixture that stops a server) may wait for
the very same thing, and after a failure nobody watches any more. Then the process ends and says where
it was.
"""

import faulthandler
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cairn.core import Settings
from cairn.registry import Registry

PATIENCE = 300.0
"""Seconds after which what a test waits for is not coming any more."""
_LAST_RESORT = 1200.0
"""Seconds a test may take with its fixtures; above pytest's `timeout`, which says more."""
_LAST_WORDS = 60.0
"""Seconds the process may take to end after its last test."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    watchdog = threading.Timer(_LAST_RESORT, _give_up, (item.config, item.nodeid))
    watchdog.daemon = True
    watchdog.start()
    try:
        return (yield)
    finally:
        watchdog.cancel()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    # Python waits at its end for threads that a failed test may have left behind. One process of several
    # stays until the others have run their tests.
    seconds = _LAST_RESORT if hasattr(session.config, "workerinput") else _LAST_WORDS
    watchdog = threading.Timer(seconds, _give_up, (session.config, "the end"))
    watchdog.daemon = True
    watchdog.start()


def _give_up(config: pytest.Config, where: str) -> None:
    captured = config.pluginmanager.getplugin("capturemanager")
    if captured is not None:
        captured.suspend_global_capture()
    print(f"\n{where}: waited for too long; every thread stands at:", file=sys.__stderr__, flush=True)
    faulthandler.dump_traceback(file=sys.__stderr__ or 2)
    os._exit(1)


class Postgres:
    """A PostgreSQL server on a socket of a folder of its own, which can be ended and started again."""

    def __init__(self, binaries: Path) -> None:
        # Postgres refuses to run as root, and the socket's path must be short: hence /tmp and another user.
        self._binaries = binaries
        self._folder = Path(tempfile.mkdtemp(prefix="cairn-pg-", dir="/tmp"))
        self._user = _postgres_user() if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        make = f"-D {self._folder}/data -U postgres -A trust -E UTF8 --no-sync --locale=C"
        self._run([binaries / "initdb", *make.split()])
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self._folder}"

    def start(self) -> None:
        # A lock that some test's connection never gives back fails the statement that waits for it.
        serve = (
            f"-D {self._folder}/data -k {self._folder} -c listen_addresses= -c fsync=off -c autovacuum=off "
            "-c shared_buffers=16MB -c lock_timeout=60s"
        )
        self._process = subprocess.Popen(
            [self._binaries / "postgres", *serve.split()],
            stderr=subprocess.PIPE,
            text=True,
            user=self._user,
            cwd=self._folder,
        )
        _wait_until_ready(self._process)
        # Nobody reads its log from here on, but a full pipe would stop it.
        self._drain = threading.Thread(target=deque, args=(self._process.stderr, 0), daemon=True)
        self._drain.start()

    def end(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """SIGINT: connections are cut off, what is committed is written; SIGQUIT: at once, as in a crash."""
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()
        self._drain.join(PATIENCE)
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process = None

    def remove(self) -> None:
        self.end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, command: list[Any]) -> None:
        subprocess.run(command, check=True, capture_output=True, user=self._user, cwd=self._folder)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A fresh home with its own SQLite catalogue."""
    return Settings(home=tmp_path / "home")


@pytest.fixture
def registry(settings: Settings) -> Iterator[Registry]:
    """An empty registry."""
    with Registry.open(settings) as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL server of our own on a socket: the URL of its `postgres` database."""
    with _running_postgres() as server:
        yield server.url


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """Another one, for a test that ends it."""
    with _running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """The URL of an empty Postgres database: whatever an earlier test left in it is dropped."""
    import psycopg

    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return postgres_server


def _postgres_binaries() -> Path | None:
    """The folder of `initdb` and `postgres`; installs the Debian package when we may."""
    found = _find_postgres()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "postgresql"],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
        )
        found = _find_postgres()
    return found


def _find_postgres() -> Path | None:
    folders = [Path(f) for f in os.environ.get("PATH", "").split(":")]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


@contextmanager
def _running_postgres() -> Iterator[Postgres]:
    binaries = _postgres_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server: install the package `postgresql`")
    server = Postgres(binaries)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def _wait_until_ready(server: subprocess.Popen[str]) -> None:
    assert server.stderr is not None
    said = []
    with killed_when_late(server):
        for line in server.stderr:
            said.append(line)
            if "ready to accept connections" in line:
                return
    raise RuntimeError("PostgreSQL did not start:\n" + "".join(said))


@contextmanager
def killed_when_late(process: "subprocess.Popen[Any]", seconds: float = PATIENCE) -> Iterator[None]:
    """Kill a process that this block has waited for too long, so that its output ends and the wait too."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _postgres_user() -> str:
    import pwd

    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
