"""The audit log over HTTP: by pages and filters, as a file, verified; for administrators alone."""

import csv
import io
import json
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from cairn.registry import AuditHead
from cairn.registry.tables import AuditRow
from tests.server.conftest import Running, Serve


@pytest.fixture
def server(serve: Serve) -> Running:
    server = serve()
    log = server.state.registry.audit
    for i in range(5):
        log.append("test.write", "ann", f"subject {i}", {"i": i})
    log.append("test.read", "bob", "subject 1", {"text": "ü"})
    return server


def asked(client: httpx2.Client, **params: Any) -> list[str]:
    found = client.get("/api/audit", params={"action": "test.*"} | params).json()
    return [f"{each['actor']} {each['subject']}" for each in found["entries"]]


def test_pages_and_filters(server: Running) -> None:
    client = server.http()
    assert asked(client, limit=2) == ["bob subject 1", "ann subject 4"]
    assert asked(client, limit=2, offset=4) == ["ann subject 1", "ann subject 0"]
    assert asked(client, subject="subject 1") == ["bob subject 1", "ann subject 1"]
    assert asked(client, text="SUBJECT 4") == ["ann subject 4"]
    at = client.get("/api/audit", params={"limit": 1}).json()["entries"][0]["at"]
    assert asked(client, since=at) == ["bob subject 1"]
    assert client.get("/api/audit", params={"action": "test.*", "limit": 1}).json()["total"] == 6
    names = client.get("/api/audit/names").json()
    assert {"ann", "bob"} < set(names["actors"])
    assert {"test.read", "test.write", "key.create"} <= set(names["actions"])
    for wrong in ({"since": "nan"}, {"until": -1}, {"limit": 0}, {"limit": 1001}, {"offset": -1}):
        assert client.get("/api/audit", params=wrong).status_code == 400, wrong


def test_files(server: Running) -> None:
    client = server.http()
    answer = client.get("/api/audit/export", params={"actor": "ann"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["content-disposition"] == 'attachment; filename="audit.jsonl"'
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["details"]["i"] for line in lines] == [0, 1, 2, 3, 4]
    answer = client.get("/api/audit/export", params={"action": "test.read", "format": "csv"})
    [row] = csv.DictReader(io.StringIO(answer.text))
    assert (row["actor"], json.loads(row["details"])) == ("bob", {"text": "ü"})
    assert client.get("/api/audit/export", params={"format": "xml"}).status_code == 400


def test_the_chain_is_verified(server: Running) -> None:
    client, log = server.http(), server.state.registry.audit
    found = client.get("/api/audit/verify").json()
    assert (found["holds"], found["problem"], found["broken"]) == (True, "", None)
    assert AuditHead.parse(found["head"]) == log.head()
    assert client.get("/api/audit/verify", params={"head": found["head"]}).json()["holds"]
    assert client.get("/api/audit/verify", params={"head": "nonsense"}).status_code == 400
    forged = f"{found['count']}:{'0' * 64}"
    told = client.get("/api/audit/verify", params={"head": forged}).json()
    assert (told["holds"], "since the head was noted" in told["problem"]) == (False, True)
    third = log.entries()[2]
    with server.state.registry.database.writing() as session:
        session.execute(update(AuditRow).where(AuditRow.seq == 3).values(actor="eve"))
    told = client.get("/api/audit/verify").json()
    assert (told["holds"], told["count"], told["broken"]) == (False, 2, 3)
    assert (told["problem"], told["broken_at"]) == ("audit entry 3 is changed", third.at)
    assert "backup" in told["remedy"]


@pytest.mark.parametrize("role", ["builder", "member", "viewer", "service"])
def test_it_is_for_administrators(server: Running, role: str) -> None:
    client = server.http(server.state.identity.create_key("ada", roles=(role,)))
    for path in ("", "/names", "/verify", "/export"):
        assert client.get(f"/api/audit{path}").status_code == 403
