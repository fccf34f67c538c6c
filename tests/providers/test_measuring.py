"""Memory as it is told before a load, as it is after it, and that it comes back."""

import asyncio
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from cairn.compute.device import anonymous_memory, available_memory
from cairn.core.chat import SamplingParams
from cairn.core.config import Settings
from cairn.core.progress import Silent
from cairn.engine import EngineConfig
from cairn.engine.config import Weights
from cairn.models import Decoder, DecoderConfig, save_decoder
from cairn.providers import CompletionRequest, measuring, runners
from cairn.providers.loading import loadable_model
from cairn.providers.local import LocalProvider
from cairn.providers.measuring import memory_for_models, size_of_model
from cairn.providers.residency import Residency
from cairn.registry import Artifact, Registry
from tests.engine.native_tiny import needs_native
from tests.providers.scripted import tiny_tokenizer

pytestmark = needs_native

ASK = CompletionRequest(model="stone", prompt="stones", sampling=SamplingParams(max_tokens=2, temperature=0))
LAYERS, HIDDEN, INNER, CONTEXT = 4, 512, 1536, 4096


@pytest.fixture
def stone(registry: Registry) -> Artifact:
    """A model of 13 M random weights."""
    tokenizer = tiny_tokenizer()
    config = DecoderConfig.from_hf(
        {
            "model_type": "llama",
            "vocab_size": tokenizer.vocab_size,
            "hidden_size": HIDDEN,
            "intermediate_size": INNER,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "max_position_embeddings": CONTEXT,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
        }
    )
    with registry.create("model") as writer:
        tokenizer.save(writer.folder)
        save_decoder(Decoder(config), writer.folder)
        end = tokenizer.token_id("<|im_end|>")
        (writer.folder / "generation_config.json").write_text(
            f'{{"eos_token_id": [{end}, {tokenizer.eos_token_id}]}}'
        )
    return writer.artifact


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8", "int4"])
def test_what_is_told_is_what_it_takes(weights: Weights, registry: Registry, stone: Artifact) -> None:
    config = EngineConfig(weights=weights, max_num_seqs=2)
    size = size_of_model(stone, config)
    loadable = loadable_model(registry, stone, name="stone", config=config)
    provider = loadable.load(size.most_cache, Silent())
    try:
        assert provider.resident_bytes == pytest.approx(size.weights + size.most_cache, rel=0.02)
        assert provider.engine.engine.max_model_len == CONTEXT
    finally:
        provider.close()
    per_token = 2 * LAYERS * 4 * (HIDDEN // 8) * (4 if weights == "float32" else 2)
    assert (size.least_cache, size.full_cache) == (2048 * per_token, CONTEXT * per_token)
    assert size.most_cache == 2 * size.full_cache


def test_a_draft_model_counts(registry: Registry, stone: Artifact) -> None:
    registry.set_alias("stone", stone.digest)
    config = EngineConfig(weights="int8", max_num_seqs=2, draft_model="stone")
    alone = size_of_model(stone, config)
    loadable = loadable_model(registry, stone, name="stone", config=config)
    size = loadable.measure()
    assert (size.weights, size.most_cache) == (2 * alone.weights, 2 * alone.most_cache)
    provider = loadable.load(size.most_cache, Silent())
    assert provider.resident_bytes == pytest.approx(size.weights + size.most_cache, rel=0.02)
    provider.close()


@pytest.mark.parametrize("packed_from", [0, 1 << 40])
def test_memory_comes_back(packed_from: int, registry: Registry, stone: Artifact) -> None:
    # In a process of its own: in this one other tests' threads and caches come and go.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        work = processes.submit(_loaded_and_left, registry.settings, stone.digest, packed_from)
        loaded, left = work.result(timeout=300)
    for anonymous, mapped in loaded:
        assert mapped > 20_000_000 if packed_from == 0 else anonymous - left[0][0] > 30_000_000
    assert [mapped for _, mapped in left] == [0] * len(left)
    # What stays after the first time is imported or cached once. A copy of the weights that stayed each time
    # would make 100 MB and more.
    assert left[-1][0] - left[0][0] < 25_000_000


def _loaded_and_left(
    settings: Settings, digest: str, packed_from: int
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(anonymous, mapped) memory with a model loaded and after it left, four times over."""
    runners._PACKED_FROM_BYTES = packed_from
    config = EngineConfig(weights="bfloat16" if packed_from == 0 else "float32")
    loaded, left = [], []

    async def load_and_leave(registry: Registry) -> None:
        loadable = loadable_model(registry, registry.get(digest), name="stone", config=config)
        residency: Residency[LocalProvider] = Residency(lambda: 2_000_000_000, idle_seconds=3600)
        for _ in range(4):
            async with residency.use("stone", loadable) as provider:
                events = [event async for event in provider.complete(ASK)]
                assert len(events) > 1
                del provider, events
                loaded.append((anonymous_memory(), _mapped(registry)))
            assert await residency.unload("stone")
            assert residency.held_bytes == 0
            left.append((anonymous_memory(), _mapped(registry)))

    with Registry.open(settings) as registry:
        asyncio.run(load_and_leave(registry))
    return loaded, left


def test_the_memory_for_models_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "available_memory", lambda: 9_000)
    monkeypatch.setattr(measuring, "anonymous_memory", lambda: 1_000)
    assert memory_for_models() == 8_000
    assert memory_for_models(5_000) == 5_000
    assert memory_for_models(50_000) == 10_000  # what is not there cannot be given


def test_available_memory_knows_its_container(tmp_path: Path) -> None:
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    proc.mkdir()
    cgroup.mkdir()
    (proc / "meminfo").write_text("MemTotal: 64000 kB\nMemAvailable:   32000 kB\n")
    assert available_memory(proc, cgroup) == 32_000 * 1024
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "memory.current").write_text("6000000\n")
    assert available_memory(proc, cgroup) == 32_000 * 1024
    (cgroup / "memory.max").write_text("10000000\n")
    (cgroup / "memory.stat").write_text("anon 4000000\nactive_file 500000\ninactive_file 1000000\n")
    assert available_memory(proc, cgroup) == 10_000_000 - 6_000_000 + 1_500_000


def _mapped(registry: Registry) -> int:
    """Bytes of artifacts' packed weights mapped into this process."""
    total = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith("packed.bin") and str(registry.settings.home) in line:
            first, last = (int(part, 16) for part in line.split()[0].split("-"))
            total += last - first
    return total
