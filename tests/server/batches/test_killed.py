"""A server that is killed in the midst of a batch: the next one goes on, and every answer is there once."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai

from cairn.core import Settings
from cairn.registry import Registry
from cairn.server.identity import Identity
from tests.conftest import killed_when_late
from tests.server.batches.test_batches import BODY, ENDED, begin, line, told, upload
from tests.server.conftest import PATIENCE, REPLY

ROOT = Path(__file__).resolve().parents[3]
NUM_LINES = 60


@contextmanager
def running(home: Path, key: str) -> Iterator[tuple["subprocess.Popen[str]", openai.OpenAI]]:
    command = [sys.executable, "-m", "tests.server.batches.server_process", str(home)]
    with (
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process,
        killed_when_late(process),
    ):
        assert process.stdout is not None
        port = int(process.stdout.readline())
        url = f"http://127.0.0.1:{port}/v1"
        with openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=PATIENCE) as client:
            yield process, client
        process.kill()


def num_done(client: openai.OpenAI, batch_id: str) -> int:
    counts = client.batches.retrieve(batch_id).request_counts
    return counts.completed if counts else 0


def test_every_answer_is_there_once(settings: Settings) -> None:
    with Registry.open(settings) as registry:
        key = Identity(registry.database).ensure_admin()
    assert key is not None
    batch_id = ""
    before = 0
    for kill_at in (3, 20, 40):
        with running(settings.home, key) as (process, client):
            if not batch_id:
                bodies = [BODY | {"seed": number} for number in range(NUM_LINES)]
                file_id = upload(client, *(line(f"ask-{n}", body) for n, body in enumerate(bodies)))
                batch_id = begin(client, file_id).id
            while (done := num_done(client, batch_id)) < kill_at:
                assert done >= before, "what is answered stays so"
            os.kill(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)
            before = done
    with running(settings.home, key) as (_, client):
        while client.batches.retrieve(batch_id).status not in ENDED:
            pass
        batch = client.batches.retrieve(batch_id)
        answers = told(client, batch.output_file_id)
        outputs = [file for file in client.files.list() if file.purpose == "batch_output"]
    assert batch.status == "completed"
    assert [each["custom_id"] for each in answers] == [f"ask-{number}" for number in range(NUM_LINES)]
    assert all(each["response"]["body"]["choices"][0]["message"]["content"] == REPLY * 5 for each in answers)
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": NUM_LINES, "completed": NUM_LINES, "failed": 0}
    assert len(outputs) == 1
    assert len({json.dumps(each["id"]) for each in answers}) == NUM_LINES
