"""The disk fills: a file system of some megabytes under the home, filled while clients ask, and freed."""

import asyncio
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from cairn.core import Settings
from cairn.registry import Registry
from tests.providers.remote.upstream import Asked, FakeUpstream, speak
from tests.server.batches.test_batches import ENDED, begin, line, told, upload
from tests.server.batches.test_killed import num_done
from tests.server.conftest import PATIENCE
from tests.server.faults.conftest import Load, Start, Up, assert_counted, wait_until, write_route

HI = [{"role": "user", "content": "hi"}]
_MEGABYTES = 120


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home on a small file system of its own."""
    folder = tmp_path / "home"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_MEGABYTES}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def up(home: Path, up: Start) -> Start:
    """Servers that are stopped before their home is unmounted."""
    assert home.is_mount()
    return up


def fill(home: Path) -> Path:
    """Leave not one byte."""
    filler = home / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                pass
    return filler


def client_of(server: Up) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=PATIENCE)


def test_it_fills_under_load_and_is_freed(up: Start, home: Path, upstream: FakeUpstream) -> None:
    write_route(home, upstream)
    server = up()
    bodies = [
        {"model": model, "messages": HI, "max_tokens": 4, "stream": is_streamed}
        for model in ("way", "starter")
        for is_streamed in (False, True)
    ]
    load = Load(server, bodies)
    try:
        load.wait_for(20)
        for _ in range(2):
            filler = fill(home)
            wait_until(lambda: load.told[-1].code == "storage.failed")
            assert server.is_alive()
            filler.unlink()
            load.wait_for(20)
    finally:
        answers = load.stop()
    server.stop()
    refused = [each for each in answers if each.code]
    assert {each.code for each in refused} == {"storage.failed"}
    assert all("free disk space" in each.text for each in refused), {each.text for each in refused}
    assert_counted(Settings(home=home), answers)
    assert_sound(home)


def test_an_upload_that_does_not_fit(up: Start, home: Path) -> None:
    server = up()
    before = {path for path in home.rglob("*") if "artifacts" in path.parts}
    with client_of(server) as client, pytest.raises(openai.APIStatusError) as caught:
        client.files.create(file=("big.txt", b"stone " * (_MEGABYTES * 200_000)), purpose="assistants")
    assert caught.value.status_code == 507, caught.value
    assert "free space" in caught.value.message
    assert {path for path in home.rglob("*") if "artifacts" in path.parts} == before, "nothing is left of it"
    assert server.ask().status == 200
    with client_of(server) as client:
        kept = client.files.create(file=("small.txt", b"stone"), purpose="assistants")
        assert client.files.content(kept.id).content == b"stone"
    server.stop()
    assert_sound(home)


def test_a_batch_waits_for_room(up: Start, home: Path, upstream: FakeUpstream) -> None:
    """Lines that cannot be stored are asked again when there is room; every answer is there once."""
    write_route(home, upstream)
    is_full = threading.Event()

    async def after_twenty(asked: Asked, writer: asyncio.StreamWriter) -> None:
        while len(upstream.asked) > 20 and not is_full.is_set():
            await asyncio.sleep(0.01)
        await speak(asked, writer)

    upstream.behave = after_twenty
    server = up()
    with client_of(server) as client:
        lines = [line(f"ask-{n}", {"model": "way", "messages": HI, "seed": n}) for n in range(60)]
        batch = begin(client, upload(client, *lines))
        wait_until(lambda: num_done(client, batch.id) > 3)
        filler = fill(home)
        is_full.set()
        wait_until(lambda: "free disk space" in server.log)
        assert server.is_alive()
        filler.unlink()
        wait_until(lambda: client.batches.retrieve(batch.id).status in ENDED)
        done = client.batches.retrieve(batch.id)
        answers = told(client, done.output_file_id)
    assert done.status == "completed"
    assert [each["custom_id"] for each in answers] == [f"ask-{number}" for number in range(60)]
    assert {each["response"]["status_code"] for each in answers} == {200}
    server.stop()
    assert_sound(home)


def test_a_full_disk_at_the_start_is_said(up: Start, home: Path) -> None:
    """In a home that is new, and in one that was used."""
    for _ in range(2):
        filler = fill(home)
        with pytest.raises(
            AssertionError, match=r"the server did not start: (.|\n)*free (disk )?space"
        ) as caught:
            up()
        assert "Traceback" not in str(caught.value)
        filler.unlink()
        server = up()
        assert server.ask().status == 200
        server.stop()
    assert_sound(home)


def assert_sound(home: Path) -> None:
    with Registry.open(Settings(home=home)) as registry:
        registry.audit.verify()
        with registry.database.session(read_only=True) as session:
            assert session.connection().exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
