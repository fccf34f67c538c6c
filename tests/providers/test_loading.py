"""From artifact to answer with a real network: parity guard, determinism, replay."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cairn.core.chat import ChatRequest, SamplingParams, TextDelta, text_message
from cairn.core.errors import IntegrityError, UnsupportedModelError
from cairn.data import ChatTemplate, Tokenizer
from cairn.engine import EngineConfig
from cairn.models import GenerationDefaults
from cairn.providers import LocalProvider, load_local_provider
from cairn.providers.importing import import_checkpoint
from cairn.providers.loading import check_parity
from cairn.registry import Registry
from tests.providers.scripted import tiny_tokenizer
from tests.providers.tiny_model import tiny_artifact

SAMPLED = SamplingParams(temperature=1.0, max_tokens=24, n=2)


def ask(text: str, sampling: SamplingParams = SAMPLED) -> ChatRequest:
    return ChatRequest(model="tiny", messages=(text_message("user", text),), sampling=sampling)


async def reply(provider: LocalProvider, request: ChatRequest) -> str:
    return "".join([e.text async for e in provider.stream(request) if isinstance(e, TextDelta)])


async def test_every_answer_replays_whatever_else_is_in_the_batch(registry: Registry) -> None:
    artifact = tiny_artifact(registry)
    provider = load_local_provider(registry, "tiny")
    try:
        await asyncio.gather(*(reply(provider, ask(f"stone {i}")) for i in range(6)))
        receipts = registry.receipts(10)
        assert len(receipts) == 6
        for receipt in receipts:
            assert receipt.artifact == artifact.digest
            assert receipt.runner["dtype"] == "float32"
            replayed = await provider.replay(receipt)
            assert replayed.is_same, replayed.difference
            assert replayed.outputs == receipt.outputs
    finally:
        provider.engine.stop()


async def test_equal_seeds_give_equal_answers(registry: Registry) -> None:
    tiny_artifact(registry)
    provider = load_local_provider(registry, "tiny")
    try:
        seeded = SamplingParams(temperature=1.0, max_tokens=24, seed=7)
        first = await reply(provider, ask("stone", seeded))
        assert first == await reply(provider, ask("stone", seeded))
        others = {await reply(provider, ask("stone", SAMPLED)) for _ in range(3)}
        assert others != {first}
    finally:
        provider.engine.stop()


def test_a_model_that_would_not_stop_is_not_served(registry: Registry) -> None:
    tokenizer = tiny_tokenizer()
    tiny_artifact(registry, generation={"eos_token_id": tokenizer.eos_token_id})
    with pytest.raises(UnsupportedModelError, match="chat template ends a reply with"):
        load_local_provider(registry, "tiny")


@pytest.mark.parametrize(
    ("vocab_size", "eos", "message"),
    [
        (100, (), "does not fit"),
        (300, (299999,), "stops at token 299999"),
        (300, (5,), "tokenizer's end token"),
    ],
)
def test_what_does_not_agree_is_refused(vocab_size: int, eos: tuple[int, ...], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        check_parity(tiny_tokenizer(), GenerationDefaults(eos_token_ids=eos), vocab_size=vocab_size, name="m")


def test_sampling_that_no_request_may_ask_for_is_no_default() -> None:
    with pytest.raises(UnsupportedModelError, match="temperature is -1"):
        check_parity(tiny_tokenizer(), GenerationDefaults(temperature=-1), vocab_size=300, name="m")


def test_weights_that_do_not_fit_are_not_imported(registry: Registry, tmp_path: Path) -> None:
    artifact = tiny_artifact(registry)
    for entry in artifact.files:
        (tmp_path / entry.path).write_bytes((artifact.folder / entry.path).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 20}))
    with pytest.raises(IntegrityError, match="do not fit"):
        import_checkpoint(registry, tmp_path, name="other")
    assert registry.artifacts() == [artifact]


def test_end_tokens_are_those_of_all_three() -> None:
    tokenizer = tiny_tokenizer()
    end, document_end = tokenizer.token_id("<|im_end|>"), tokenizer.eos_token_id
    assert end is not None
    assert document_end is not None
    defaults = GenerationDefaults(eos_token_ids=(end, document_end))
    assert check_parity(tokenizer, defaults, vocab_size=300, name="m") == tuple(sorted({end, document_end}))
    untemplated = tokenizer.with_chat_template(None)
    assert check_parity(untemplated, GenerationDefaults(), vocab_size=300, name="m") == (document_end,)
    # A template that ends turns with nothing at all cannot be checked, and is not.
    endless = tokenizer.with_chat_template(ChatTemplate("{{ messages | length }}"))
    assert check_parity(endless, GenerationDefaults(), vocab_size=300, name="m") == (document_end,)


def test_recommended_sampling_is_kept(registry: Registry) -> None:
    tokenizer = tiny_tokenizer()
    ends = [tokenizer.token_id("<|im_end|>"), tokenizer.eos_token_id]
    generation: dict[str, Any] = {"eos_token_id": ends, "temperature": 0.3, "top_p": 0.8}
    tiny_artifact(registry, generation=generation)
    provider = load_local_provider(registry, "tiny")
    provider.engine.stop()
    assert provider.sampling_defaults == {"temperature": 0.3, "top_p": 0.8}


def test_importing_the_room_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, cairn.providers.local, cairn.server.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_a_draft_model_guesses_ahead_and_changes_nothing(registry: Registry) -> None:
    artifact = tiny_artifact(registry)
    seeded = SamplingParams(temperature=1.0, max_tokens=24, seed=7, ignore_eos=True)
    replies = []
    for draft_model in (None, artifact.digest):
        provider = load_local_provider(registry, "tiny", config=EngineConfig(draft_model=draft_model))
        try:
            replies.append(await reply(provider, ask("stone", seeded)))
            load = provider.load()
        finally:
            provider.engine.stop()
    assert replies[0] == replies[1]
    assert load.tokens_guessed["model"] == load.tokens_guessed_right["model"] > 0


def test_a_draft_model_of_another_vocabulary_is_refused(registry: Registry) -> None:
    artifact = tiny_artifact(registry)
    with registry.create("model") as writer:
        shutil.copytree(artifact.folder, writer.folder, dirs_exist_ok=True)
        (writer.folder / "manifest.json").unlink(missing_ok=True)
        Tokenizer.train(["pebbles and boulders"] * 9, vocab_size=300).save(writer.folder)
    registry.set_alias("other", writer.artifact.digest)
    with pytest.raises(UnsupportedModelError, match="draft model other: its vocabulary is not the model's"):
        load_local_provider(registry, "tiny", config=EngineConfig(draft_model="other"))
