"""Sixty-four clients of a server at once: every reply is, to the last digit, what its request gets alone.

OpenAI's own client, chats and plain prompts, streamed and whole, with and without adapters, some given up
half-way; all are there before the first step, and the pool is too small for them. Alone there is no prefix
cache and nothing is guessed. Every receipt replays.
"""

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest
import torch

from cairn.engine import EngineConfig, NativeRunner
from cairn.engine.runner import Logits, ModelInput
from cairn.models.checkpoint import load_decoder
from cairn.providers import LocalProvider, load_local_provider
from cairn.providers.encoder_loading import AnyEncoder
from cairn.providers.importing import import_checkpoint
from cairn.providers.loading import loadable_model
from cairn.providers.residency import Loadable
from cairn.registry import Artifact, Receipt, Registry
from cairn.server.config import ServerConfig
from cairn.server.models import ModelPool
from tests.engine.native_tiny import needs_native
from tests.engine.tiny_adapters import SPLIT, save_adapter
from tests.providers.tiny_model import tiny_artifact
from tests.server.conftest import PATIENCE, Running, Serve

pytestmark = needs_native
NUM_CLIENTS = 64
CROWDED = EngineConfig(weights="int8", num_blocks=96, max_num_seqs=24, token_budget=128)
PLAIN = EngineConfig(weights="int8", num_blocks=64, prefix_cache=False, lookup_tokens=0)
MODELS = ("tiny", "tiny", "first", "second")


class Pool(ModelPool):
    """Models on engines of this config."""

    def __init__(self, registry: Registry, engine: EngineConfig) -> None:
        super().__init__(registry, ServerConfig())
        self.engine = engine

    def _loadable(self, artifact: Artifact, name: str) -> Loadable[LocalProvider | AnyEncoder]:
        return loadable_model(self._registry, artifact, name=name, config=self.engine)


@dataclass
class Reply:
    """What a client was told, by choice."""

    receipt_id: str = ""
    texts: dict[int, str] = field(default_factory=dict)
    logprobs: dict[int, list[tuple[str, float]]] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)

    def take(self, choice: Any, text: str | None) -> None:
        """A choice of a whole reply, or a piece of one."""
        self.texts[choice.index] = self.texts.get(choice.index, "") + (text or "")
        told = self.logprobs.setdefault(choice.index, [])
        if choice.logprobs is not None and hasattr(choice.logprobs, "content"):
            told += [(token.token, token.logprob) for token in choice.logprobs.content or ()]
        elif choice.logprobs is not None:
            told += zip(choice.logprobs.tokens, choice.logprobs.token_logprobs, strict=True)
        if choice.finish_reason:
            self.reasons[choice.index] = choice.finish_reason

    def is_beginning_of(self, other: "Reply") -> bool:
        return all(other.texts[index].startswith(text) for index, text in self.texts.items()) and all(
            other.logprobs[index][: len(told)] == told for index, told in self.logprobs.items()
        )


@dataclass(frozen=True)
class Ask:
    """A request, and after how many pieces its client leaves; None: it reads to the end."""

    is_chat: bool
    body: dict[str, Any]
    leaves_after: int | None


def random_ask(rng: random.Random) -> Ask:
    stem = "a cairn is a pile of stones " * 9
    text = stem[: rng.randrange(0, 250)] + "".join(rng.choices("abc étw🙂", k=rng.randrange(1, 60)))
    is_chat = rng.random() < 0.5
    body: dict[str, Any] = {
        "model": rng.choice(MODELS),
        "max_tokens": rng.randrange(1, 90),
        "temperature": rng.choice([0.0, 0.0, 0.7, 1.3]),
        "top_p": rng.choice([1.0, 0.9]),
        "frequency_penalty": rng.choice([0.0, 0.5]),
        "seed": rng.randrange(1000),
        "n": rng.choice([1, 1, 1, 2]),
        "stream": rng.random() < 0.6,
    }
    if is_chat:
        body |= {"messages": [{"role": "user", "content": text}], "logprobs": rng.random() < 0.5}
    else:
        body |= {"prompt": text, "logprobs": rng.choice([None, 1])}
    leaves = body["stream"] and rng.random() < 0.3
    return Ask(is_chat, body, rng.randrange(1, 12) if leaves else None)


def answer(client: openai.OpenAI, ask: Ask, *, leaves: bool = True) -> Reply:
    """What a client is told until it leaves or the reply ends."""
    create: Any = client.chat.completions.create if ask.is_chat else client.completions.create
    got = create(**ask.body)
    reply = Reply()
    if not ask.body["stream"]:
        reply.receipt_id = got.cairn["receipt"]
        for choice in got.choices:
            reply.take(choice, choice.message.content if ask.is_chat else choice.text)
        return reply
    reply.receipt_id = got.response.headers["x-cairn-receipt"]
    num_read = 0
    with got:
        for chunk in got:
            for choice in chunk.choices:
                reply.take(choice, choice.delta.content if ask.is_chat else choice.text)
            num_read += 1
            if leaves and num_read == ask.leaves_after:
                break
    return reply


def together(server: Running, asks: list[Ask], gate: threading.Event) -> list[Reply]:
    """All at once: no step is made before the last has arrived."""
    (provider,) = server.state.models.loaded()
    assert isinstance(provider, LocalProvider)
    client = server.client()
    gate.clear()
    with ThreadPoolExecutor(len(asks)) as clients:
        replies = clients.map(lambda ask: answer(client, ask), asks)
        server.wait_until(lambda: len(provider.engine._streams) == len(asks))
        gate.set()
        return list(replies)


def alone(server: Running, asks: list[Ask]) -> list[Reply]:
    """One after the other, to the end."""
    client = server.client()
    return [answer(client, ask, leaves=False) for ask in asks]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """While it is not set, no step is computed."""
    opened, run = threading.Event(), NativeRunner.run

    def gated(self: NativeRunner, model_input: ModelInput) -> Logits:
        assert opened.wait(PATIENCE), "nobody opened the gate"
        return run(self, model_input)

    monkeypatch.setattr(NativeRunner, "run", gated)
    opened.set()
    return opened


@pytest.fixture
def adapters(registry: Registry) -> dict[str, str]:
    """The model `tiny`, and two adapters of it, by name their digests; the model's own is empty."""
    base = load_decoder(tiny_artifact(registry).folder, dtype=torch.float32)
    digests = {"tiny": ""}
    for seed, name in enumerate(("first", "second")):
        folder = save_adapter(base, SPLIT, seed=seed, r=4, lora_alpha=64)
        digests[name] = import_checkpoint(registry, folder, name=name, base="tiny").digest
    return digests


def test_sixty_four_clients_are_told_what_each_is_told_alone(
    serve: Serve, registry: Registry, adapters: dict[str, str], gate: threading.Event
) -> None:
    rng = random.Random("load over HTTP")
    asks = [random_ask(rng) for _ in range(NUM_CLIENTS)]
    server = serve(models=Pool(registry, CROWDED))
    server.wait_until(lambda: len(server.state.models.loaded()) == 1)
    replies = together(server, asks, gate)
    (provider,) = server.state.models.loaded()
    assert isinstance(provider, LocalProvider)
    server.wait_until(lambda: not provider.engine._streams)
    stats = provider.engine.stats()
    assert stats.num_preemptions > 0
    assert stats.num_cached_tokens > 0
    assert stats.num_used_blocks == 0

    quiet = serve(models=Pool(registry, PLAIN))
    for ask, got, expected in zip(asks, replies, alone(quiet, asks), strict=True):
        if ask.leaves_after is None:
            assert (got.texts, got.logprobs, got.reasons) == (
                expected.texts,
                expected.logprobs,
                expected.reasons,
            )
        else:
            assert got.is_beginning_of(expected)
    receipt_ids = {reply.receipt_id for reply in replies}
    # Of a client that left it is written once the server has noticed.
    server.wait_until(lambda: receipt_ids <= stored(registry))
    assert asyncio.run(all_replay(registry, receipt_ids, adapters))


def stored(registry: Registry) -> set[str]:
    return {receipt.receipt_id for receipt in registry.receipts(limit=4 * NUM_CLIENTS)}


async def all_replay(registry: Registry, receipt_ids: set[str], adapters: dict[str, str]) -> bool:
    """Whether the answers of receipts are made again by an engine that was not there."""
    base = load_local_provider(registry, "tiny", config=PLAIN)
    try:
        for name in set(adapters) - {"tiny"}:
            base.engine.engine.adapters.load(adapters[name], registry.get(name).folder)
        receipts: list[Receipt] = [registry.receipt(receipt_id) for receipt_id in receipt_ids]
        assert {receipt.adapter for receipt in receipts} == set(adapters.values())
        replays = [
            await (base.adapted("", receipt.adapter) if receipt.adapter else base).replay(receipt)
            for receipt in receipts
        ]
        return all(replay.is_same for replay in replays)
    finally:
        base.close()
