"""Fixtures every room shares: settings and a registry in a temporary home, and a real Postgres server."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cairn.core import Settings
from cairn.registry import Registry


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
    binaries = _postgres_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server: install the package `postgresql`")
    with _running_postgres(binaries) as url:
        yield url


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
            capture_output=True,
        )
        found = _find_postgres()
    return found


def _find_postgres() -> Path | None:
    folders = [Path(f) for f in os.environ.get("PATH", "").split(":")]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


@contextmanager
def _running_postgres(binaries: Path) -> Iterator[str]:
    # Postgres refuses to run as root, and the socket's path must be short: hence /tmp and another user.
    folder = Path(tempfile.mkdtemp(prefix="cairn-pg-", dir="/tmp"))
    user = _postgres_user() if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)
    data = str(folder / "data")
    make = f"-D {data} -U postgres -A trust -E UTF8 --no-sync --locale=C"
    serve = (
        f"-D {data} -k {folder} -c listen_addresses= -c fsync=off -c autovacuum=off -c shared_buffers=16MB"
    )
    try:
        subprocess.run(
            [binaries / "initdb", *make.split()], check=True, capture_output=True, user=user, cwd=folder
        )
        with subprocess.Popen(
            [binaries / "postgres", *serve.split()],
            stderr=subprocess.PIPE,
            text=True,
            user=user,
            cwd=folder,
        ) as server:
            try:
                _wait_until_ready(server)
                # Nobody reads its log from here on, but a full pipe would stop it.
                drain = threading.Thread(target=deque, args=(server.stderr, 0))
                drain.start()
                yield f"postgresql://postgres@/postgres?host={folder}"
            finally:
                server.send_signal(signal.SIGQUIT)
            drain.join()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(server: subprocess.Popen[str]) -> None:
    assert server.stderr is not None
    said = []
    for line in server.stderr:
        said.append(line)
        if "ready to accept connections" in line:
            return
    raise RuntimeError("PostgreSQL did not start:\n" + "".join(said))


def _postgres_user() -> str:
    import pwd

    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
