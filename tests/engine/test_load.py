"""Sixty-four clients at once: every reply is, bit for bit, what the same request gets alone.

Beginnings are shared, the pool is too small, some leave half-way, some have a grammar, a draft model guesses
ahead; alone there is one thread, no prefix cache and nothing guessed.
"""

import asyncio
import json
import random
from contextlib import aclosing
from typing import Any

import pytest

from cairn.core.chat import SamplingParams
from cairn.core.grammar import Grammar
from cairn.engine import AsyncEngine, Engine, EngineConfig, NativeRunner, Request, TokenOutput
from cairn.engine.weight_reader import WeightFormat
from tests.engine.native_tiny import checkpoint, needs_native
from tests.engine.speculating import num_guessed, speculating
from tests.engine.test_constraint import CITY
from tests.engine.tiny_decoders import VOCAB, tiny_decoder
from tests.engine.tiny_vocabulary import END, tiny_compiler

pytestmark = needs_native
NUM_CLIENTS = 64
Reply = list[tuple[Any, ...]]


def runner(weights: WeightFormat, num_threads: int) -> NativeRunner:
    folder = checkpoint(tiny_decoder("llama"))
    return NativeRunner(folder, weights=weights, num_threads=num_threads, pin=False)


def random_request(rng: random.Random, i: int) -> Request:
    stem = tuple((7 * j + rng.randrange(3)) % VOCAB for j in range(3)) * 16
    prompt = stem[: rng.randrange(0, 40)] + tuple(rng.randrange(END - 2) for _ in range(rng.randrange(1, 30)))
    sampling = SamplingParams(
        max_tokens=rng.randrange(1, 48),
        temperature=rng.choice([0.0, 0.0, 0.7, 1.0]),
        top_p=rng.choice([1.0, 0.9]),
        top_k=rng.choice([0, 20]),
        repetition_penalty=rng.choice([1.0, 1.1]),
        seed=rng.randrange(1000),
        logprobs=rng.choice([None, 0, 3]),
        n=rng.choice([1, 1, 1, 2]),
        grammar=Grammar("json_schema", json.dumps(CITY)) if rng.random() < 0.15 else None,
    )
    return Request(f"r{i}", prompt, sampling, eos_token_ids=(END,), priority=rng.choice([0, 0, 1]))


def told(output: TokenOutput) -> tuple[Any, ...]:
    return output.index, output.token_id, output.logprob, output.top_logprobs, output.finish_reason


async def client(engine: AsyncEngine, request: Request, num_read: int | None) -> Reply:
    """What was read: all, or `num_read` tokens before it leaves."""
    reply: Reply = []
    async with aclosing(engine.generate(request)) as stream:
        async for output in stream:
            assert isinstance(output, TokenOutput)
            reply.append(told(output))
            if len(reply) == num_read:
                break
    return reply


def alone(weights: WeightFormat, request: Request) -> Reply:
    config = EngineConfig(num_blocks=16, max_model_len=128, prefix_cache=False, lookup_tokens=0)
    engine = Engine(runner(weights, 1), config, grammars=tiny_compiler())
    engine.add_request(request)
    reply = []
    while engine.has_unfinished:
        reply += [told(output) for output in engine.step() if isinstance(output, TokenOutput)]
    return reply


def by_choice(reply: Reply) -> list[Reply]:
    return [[token for token in reply if token[0] == index] for index in range(2)]


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8", "int4"])
async def test_sixty_four_clients_get_what_each_gets_alone(weights: WeightFormat) -> None:
    rng = random.Random(f"load {weights}")
    requests = [random_request(rng, i) for i in range(NUM_CLIENTS)]
    reads = [rng.randrange(1, 12) if rng.random() < 0.2 else None for _ in requests]
    config = EngineConfig(block_size=8, num_blocks=48, max_model_len=128, max_num_seqs=12, token_budget=64)
    draft = runner("int8" if weights == "int4" else "int4", 1)
    engine = speculating(runner(weights, 2), config, grammars=tiny_compiler(), draft=draft)
    with AsyncEngine(engine) as running:
        replies = await asyncio.gather(*map(client, [running] * NUM_CLIENTS, requests, reads))
    stats = engine.stats()
    assert stats.num_preemptions > 0
    assert stats.num_cached_tokens > 0
    assert num_guessed(engine)[1] > 0
    assert num_guessed(engine)[1] < num_guessed(engine)[0]
    for request, read, reply in zip(requests, reads, replies, strict=True):
        expected = by_choice(alone(weights, request))
        for got, full in zip(by_choice(reply), expected, strict=True):
            assert got == (full if read is None else full[: len(got)])
