"""Costs of steps against independent counts; speeds that agree with them."""

import pytest

from cairn.compute.flops import forward_flops
from cairn.engine import NativeRunner
from cairn.engine.measurement import (
    BLOCK,
    CHUNK,
    WORKS,
    Work,
    decode_cost,
    decode_steps,
    measure,
    prompt_cost,
    prompt_steps,
)
from tests.engine.native_tiny import checkpoint, needs_native
from tests.engine.tiny_decoders import tiny_decoder

pytestmark = needs_native


def runner_of(family: str) -> NativeRunner:
    return NativeRunner(checkpoint(tiny_decoder(family)), weights="float32", num_threads=1)


def key_value_bytes(runner: NativeRunner) -> int:
    """Of a token in one layer, in float32."""
    return 2 * 4 * runner.config.num_kv_heads * runner.config.head_dim


def test_a_decoded_token_reads_every_weight_and_its_context_once() -> None:
    runner = runner_of("llama")
    cost = decode_cost(runner, 3, 40)
    padding = runner.bytes_per_block(BLOCK) / BLOCK / runner.config.num_layers / key_value_bytes(runner)
    context = 3 * 40 * runner.config.num_layers * key_value_bytes(runner)
    assert cost.num_bytes == pytest.approx(runner.num_weight_bytes + padding * context)
    shape = runner.config.shape()
    attended = 4 * 40 * shape.num_layers * shape.num_heads * shape.head_dim
    assert cost.operations == pytest.approx(3 * (2 * shape.matmul_params + attended))


def test_a_window_bounds_what_is_read() -> None:
    runner = runner_of("mistral")
    assert decode_cost(runner, 1, 20).num_bytes == decode_cost(runner, 1, 200).num_bytes
    assert decode_cost(runner, 1, 20).num_bytes > decode_cost(runner, 1, 19).num_bytes


def test_an_embedding_that_is_no_head_and_experts_that_are_not_met_are_not_read() -> None:
    runner = runner_of("mixtral")
    shape = runner.config.shape()
    one, many = decode_cost(runner, 1, 1), decode_cost(runner, 64, 1)
    context = decode_cost(runner, 1, 2).num_bytes - one.num_bytes
    experts = shape.num_layers * 2 * shape.expert_params  # two of four are met by one token
    unread = runner.num_weight_bytes * (shape.embedding_params + experts) / shape.num_params
    assert one.num_bytes - context == pytest.approx(runner.num_weight_bytes - unread)
    read_by_many = runner.num_weight_bytes * (1 - shape.embedding_params / shape.num_params)
    assert many.num_bytes - 64 * context == pytest.approx(read_by_many)


def test_a_prompt_costs_what_the_planner_counts_less_the_logits_nobody_wants() -> None:
    runner = runner_of("llama")
    shape, num = runner.config.shape(), CHUNK + 50
    expected = num * forward_flops(shape, num) - 2 * (num - 1) * shape.embedding_params
    assert prompt_cost(runner, num).operations == pytest.approx(expected)


def test_steps_cover_what_they_say() -> None:
    prompt = list(prompt_steps(CHUNK + 50))
    assert [step.num_tokens for step in prompt] == [CHUNK, 50]
    assert [len(step.logit_rows) for step in prompt] == [0, 1]
    slots = [slot for step in decode_steps(4, 0, 40) for slot in step.slot_mapping.tolist()]
    assert len(slots) == len(set(slots)) == 160


@pytest.mark.parametrize("work", WORKS)
def test_speeds_are_of_one_measurement(work: Work) -> None:
    runner = runner_of("llama")
    speed = measure(runner, work, num_steps=2, prompt_tokens=40)
    tokens, cost = (40, prompt_cost(runner, 40)) if work == "prompt" else (1, decode_cost(runner, 1, 130))
    if work == "32 streams":
        tokens, cost = 32, decode_cost(runner, 32, 130)
    assert speed.intensity == pytest.approx(cost.operations / cost.num_bytes)
    assert speed.operations_per_second / speed.tokens_per_second == pytest.approx(cost.operations / tokens)


def test_a_short_context_is_not_left() -> None:
    runner = runner_of("llama")
    assert measure(runner, "prompt", num_steps=1, prompt_tokens=10_000).tokens_per_second > 0
    assert measure(runner, "32 streams", num_steps=runner.max_position).tokens_per_second > 0
