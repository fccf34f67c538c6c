"""Memory as it is told before a load, as it is after it, and that it comes back."""

from pathlib import Path

import pytest

from cairn.compute.device import anonymous_memory, available_memory
from cairn.core.chat import SamplingParams
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
    provider.close()
    assert provider.resident_bytes == pytest.approx(size.weights + size.most_cache, rel=0.02)


@pytest.mark.parametrize("packed_from", [0, 1 << 40])
async def test_memory_comes_back(
    packed_from: int, registry: Registry, stone: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "_PACKED_FROM_BYTES", packed_from)
    config = EngineConfig(weights="bfloat16" if packed_from == 0 else "float32")
    loadable = loadable_model(registry, stone, name="stone", config=config)
    residency: Residency[LocalProvider] = Residency(lambda: 2_000_000_000, idle_seconds=3600)
    before = []
    for _ in range(3):
        before.append((anonymous_memory(), _mapped(registry)))
        async with residency.use("stone", loadable) as provider:
            events = [event async for event in provider.complete(ASK)]
            assert len(events) > 1
            del provider, events
            if packed_from:
                assert anonymous_memory() - before[-1][0] > 40_000_000
            else:
                assert _mapped(registry) > 20_000_000
        assert await residency.unload("stone")
        assert residency.held_bytes == 0
    # The first time, what is only imported or cached once came too.
    assert anonymous_memory() - before[1][0] < 5_000_000
    assert _mapped(registry) == 0


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
