"""What is refused and what breaks off: identity, limits, deadlines, tenants, encryption, the end."""

import datetime
import ipaddress
import threading
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import select

from cairn.registry import Registry
from cairn.server.grpc import api_pb2 as api
from cairn.server.usage.rules import Rule, set_rules
from cairn.server.usage.tables import UsageRow
from tests.engine.native_tiny import needs_native
from tests.server import test_file_search
from tests.server.conftest import PATIENCE, REPLY, Running, Script, Serve
from tests.server.grpc.conftest import Client, Connect, asking, details, refusal
from tests.server.test_file_search import embedder, library

__all__ = ["embedder", "library"]
Code = grpc.StatusCode


def stored(server: Running, registry: Registry) -> list[UsageRow]:
    server.state.metering.ledger.flush()
    with registry.database.session(read_only=True) as session:
        return list(session.scalars(select(UsageRow).order_by(UsageRow.at)))


def test_who_has_no_key_or_a_wrong_one(server: Running, connect: Connect) -> None:
    for key in ("", "cairn_0_no"):
        client = connect(server, key)
        for call in (
            lambda client=client: client.ask(client.chat.Complete, asking()),
            lambda client=client: list(client.ask(client.chat.Stream, asking())),
            lambda client=client: client.ask(client.models.List, api.ListModelsRequest()),
        ):
            error = refusal(call)
            assert error.code() is Code.UNAUTHENTICATED
            info, _ = details(error)
            assert (info.reason, info.domain) == ("auth.required", "cairn")
            assert info.metadata["remedy"]
            assert info.metadata["request_id"].startswith("req_")


def test_a_key_for_other_models_and_scopes(server: Running, connect: Connect) -> None:
    identity = server.state.identity
    narrow = connect(server, identity.create_key("admin", models=["other"]))
    assert refusal(lambda: narrow.ask(narrow.chat.Complete, asking())).code() is Code.PERMISSION_DENIED
    assert list(narrow.ask(narrow.models.List, api.ListModelsRequest()).data) == []
    reader = connect(server, identity.create_key("admin", scopes=["read_models"]))
    error = refusal(lambda: reader.ask(reader.chat.Complete, asking()))
    assert (error.code(), details(error)[0].reason) == (Code.PERMISSION_DENIED, "auth.forbidden")


def test_what_makes_no_sense_names_its_field(server: Running, connect: Connect) -> None:
    client = connect(server)
    unknown = asking()
    unknown.model = "none"
    for request, code, param in (
        (asking(temperature=-1), Code.INVALID_ARGUMENT, "temperature"),
        (api.ChatRequest(model="scripted"), Code.INVALID_ARGUMENT, "messages"),
        (asking(tool_choice="weather"), Code.INVALID_ARGUMENT, "tool_choice"),
        (unknown, Code.NOT_FOUND, None),
    ):
        for call in (
            partial(client.ask, client.chat.Complete, request),
            partial(lambda asked: list(client.ask(client.chat.Stream, asked)), request),
        ):
            error = refusal(call)
            assert error.code() is code, error
            assert details(error)[0].metadata.get("param") == param


def test_over_a_limit(server: Running, registry: Registry, connect: Connect) -> None:
    rule = Rule(kind="user", name="admin", metric="requests", window="minute", amount=2)
    set_rules(registry, [rule], "admin")
    server.state.metering.outdate()
    client = connect(server)
    _, call = client.chat.Complete.with_call(asking(), metadata=client.metadata)
    assert dict(call.initial_metadata())["x-ratelimit-remaining-requests"] == "1"
    # Both ways in count together.
    assert server.http().post("/v1/chat/completions", json=ASKED).status_code == 200
    error = refusal(lambda: list(client.ask(client.chat.Stream, asking())))
    info, wait = details(error)
    assert (error.code(), info.reason) == (Code.RESOURCE_EXHAUSTED, "rate_limit_exceeded")
    assert info.metadata["remedy"]
    assert wait is not None
    assert 0 < wait.retry_delay.seconds <= 60
    assert [row.outcome for row in stored(server, registry)] == ["ok", "ok", "refused"]


ASKED: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_who_leaves_ends_the_engines_work(
    serve: Serve, script: Script, registry: Registry, connect: Connect, stream: bool, how: str
) -> None:
    scripted = script("stones " * 60)
    scripted.runner.is_gated = True
    server = serve(scripted, grpc_port=0)
    client = connect(server)
    timeout = 5.0 if how == "deadline" else None
    if stream:
        call = client.ask(client.chat.Stream, asking(), timeout=timeout)
    else:
        call = client.chat.Complete.future(asking(), metadata=client.metadata, timeout=timeout)
    scripted.runner.gate.release(4)
    server.wait_until(lambda: scripted.runner.num_steps == 4)
    if how == "cancel":
        call.cancel()
    server.wait_until(lambda: server.state.in_flight.num == 0)
    scripted.runner.gate.release(2)
    server.wait_until(scripted.engine._idle.is_set)
    server.wait_until(lambda: len(registry.receipts(1)) == 1)
    assert scripted.runner.num_steps <= 6
    assert registry.receipts(1)[0].finish_reasons == ["abort"]
    assert call.code() is (Code.CANCELLED if how == "cancel" else Code.DEADLINE_EXCEEDED)
    (row,) = stored(server, registry)
    assert row.outcome == "aborted"
    assert 0 < row.completion_tokens <= 6
    assert row.receipt_id == registry.receipts(1)[0].receipt_id


def test_what_would_begin_after_its_deadline_is_refused_at_once(
    serve: Serve, script: Script, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(script(), grpc_port=0)
    monkeypatch.setattr("cairn.server.usage.promise.expected_wait", lambda _load, _tenant: 900.0)
    client = connect(server)
    error = refusal(lambda: client.ask(client.chat.Complete, asking(), timeout=500.0))
    info, wait = details(error)
    assert (error.code(), info.reason) == (Code.DEADLINE_EXCEEDED, "deadline_unreachable")
    assert wait is not None
    assert client.ask(client.chat.Complete, asking()).cairn.receipt  # who can wait is served
    error = refusal(lambda: client.ask(client.chat.Complete, asking(), x_cairn_deadline_ms="1000"))
    assert error.code() is Code.DEADLINE_EXCEEDED


def test_a_revoked_key_ends_its_stream(serve: Serve, script: Script, connect: Connect) -> None:
    scripted = script("stones " * 60)
    scripted.runner.is_gated = True
    server = serve(scripted, grpc_port=0, recheck_seconds=0.05)
    identity = server.state.identity
    key = identity.create_key("admin")
    client = connect(server, key)
    call = client.ask(client.chat.Stream, asking())
    scripted.runner.gate.release(6)
    next(call)
    identity.revoke_key(key.split("_")[1], actor="admin")
    error = refusal(lambda: list(call))
    assert (error.code(), details(error)[0].reason) == (Code.UNAUTHENTICATED, "auth.required")
    server.wait_until(lambda: server.state.in_flight.num == 0)


def test_tenants_are_apart(serve: Serve, script: Script, registry: Registry, connect: Connect) -> None:
    scripted = script()
    server = serve(scripted, grpc_port=0, answer_cache_bytes=100_000)
    identity = server.state.identity
    ann, bob = (connect(server, identity.create_key(name)) for name in ("ann", "bob"))
    request = asking("what is in the diary?", temperature=0)
    receipt = ann.ask(ann.chat.Complete, request).cairn.receipt
    num = scripted.runner.num_steps
    bob.ask(bob.chat.Complete, request)
    assert scripted.runner.num_steps > num  # what Ann was answered is not given to Bob
    keys = {
        name: dict(client.metadata)["authorization"].split()[1]
        for name, client in (("ann", ann), ("bob", bob))
    }
    assert server.http(keys["ann"]).get(f"/api/receipts/{receipt}").status_code == 200
    assert server.http(keys["bob"]).get(f"/api/receipts/{receipt}").status_code == 404
    rows = stored(server, registry)
    assert [row.user_id for row in rows] == ["ann", "bob"]
    assert len({row.key_id for row in rows}) == 2
    for name in ("ann", "bob"):
        assert server.http(keys[name]).get("/api/usage").json()["total"]["requests"] == 1


@needs_native
def test_collections_of_others_are_not_there(
    serve: Serve, script: Script, library: Any, connect: Connect
) -> None:
    assert test_file_search.TEXTS
    server = serve(script("Ann mends the roof [1]."), grpc_port=0, weights="float32")
    identity = server.state.identity

    def search(client: Client) -> Any:
        request = asking("what does Ann mend?")
        request.tools.add(type="file_search", vector_store_ids=["diary"], max_num_results=3)
        return client.ask(client.chat.Complete, request)

    reply = search(connect(server, identity.create_key("ann"))).choices[0].message
    assert reply.annotations[0].filename == "monday.md"
    assert reply.sentences
    error = refusal(lambda: search(connect(server, identity.create_key("bob"))))
    assert error.code() is Code.NOT_FOUND


def test_over_tls(serve: Serve, script: Script, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    server = serve(script(), grpc_port=0, tls_certificate=certificate, tls_key=key)
    server.wait_until(lambda: server.server.grpc_port > 0)
    address = f"127.0.0.1:{server.server.grpc_port}"
    trusting = grpc.ssl_channel_credentials(certificate.read_bytes())
    with grpc.secure_channel(address, trusting) as channel:
        client = Client(channel, server.key)
        assert client.ask(client.chat.Complete, asking()).choices[0].message.content == REPLY
    with grpc.insecure_channel(address) as channel:
        plain = Client(channel, server.key)
        assert refusal(lambda: plain.ask(plain.chat.Complete, asking())).code() is Code.UNAVAILABLE


def test_the_end_lets_running_calls_finish(serve: Serve, script: Script, connect: Connect) -> None:
    scripted = script()
    scripted.runner.is_gated = True
    server = serve(scripted, grpc_port=0, drain_seconds=PATIENCE)
    client = connect(server)
    running = client.chat.Complete.future(asking(), metadata=client.metadata)
    server.wait_until(lambda: server.state.in_flight.num == 1)
    server.server.should_exit = True
    server.wait_until(lambda: server.state.in_flight.is_draining)
    error = refusal(lambda: client.ask(client.chat.Complete, asking()))
    assert (error.code(), details(error)[0].reason) == (Code.UNAVAILABLE, "unavailable")
    scripted.runner.is_gated = False
    scripted.runner.gate.release(1000)
    assert running.result(PATIENCE).choices[0].message.content == REPLY
    server.thread.join(PATIENCE)
    assert not server.thread.is_alive()


def test_many_at_once(server: Running, connect: Connect) -> None:
    client = connect(server)
    said: list[str] = []

    def ask() -> None:
        said.append(
            "".join(
                c.delta.content for each in client.ask(client.chat.Stream, asking()) for c in each.choices
            )
        )

    threads = [threading.Thread(target=ask) for _ in range(24)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE)
    assert said == [REPLY] * 24


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate of this machine, and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    here = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(1))
        .not_valid_after(now + datetime.timedelta(1))
        .add_extension(here, critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate, secret
