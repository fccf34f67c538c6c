"""Scheduler x block manager x engine against the naive reference, whatever happens in between."""

from functools import cache
from itertools import count
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cairn.core.chat import SamplingParams
from cairn.engine import Engine, EngineConfig, ModelRunner, NativeRunner, Request, TorchRunner
from cairn.engine.ahead import Ahead
from cairn.engine.scheduler import ScheduledSequence
from tests.engine.fake_runner import MAX_POSITION, VOCAB, FakeRunner
from tests.engine.naive import Choices, Collector, check_accounts, naive_generate, run_all
from tests.engine.native_tiny import checkpoint, needs_native
from tests.engine.speculating import UnsureRunner, speculating
from tests.engine.tiny_adapters import SPLIT, save_adapter
from tests.engine.tiny_decoders import tiny_decoder

# Few beginnings, so that prefixes are shared often, whole blocks and parts of blocks alike.
_STEMS = [tuple((7 * i + stem) % VOCAB for i in range(40)) for stem in range(2)]


_ADAPTERS = ("a", "b")


@st.composite
def prompts(draw: st.DrawFn) -> tuple[int, ...]:
    stem = draw(st.sampled_from(_STEMS))[: draw(st.integers(0, 36))]
    tail = draw(st.lists(st.integers(0, VOCAB - 1), min_size=0 if stem else 1, max_size=5))
    return (*stem, *tail)


@st.composite
def samplings(draw: st.DrawFn) -> SamplingParams:
    return SamplingParams(
        max_tokens=draw(st.none() | st.integers(0, 24)),
        temperature=draw(st.sampled_from([0.0, 1.0])),
        top_p=draw(st.sampled_from([1.0, 0.8])),
        repetition_penalty=draw(st.sampled_from([1.0, 1.3])),
        seed=draw(st.integers(0, 3)),
        n=draw(st.sampled_from([1, 1, 1, 2, 3])),
        stop_token_ids=draw(st.sampled_from([(), (3,)])),
        prompt_logprobs=draw(st.sampled_from([None, None, None, 2])),
    )


@st.composite
def configs(draw: st.DrawFn) -> EngineConfig:
    max_num_seqs = draw(st.integers(1, 5))
    return EngineConfig(
        block_size=draw(st.sampled_from([1, 2, 4, 5, 16])),
        # 16 blocks of 4 hold one full context: preemption is the rule, not the exception.
        num_blocks=draw(st.integers(12, 40)),
        max_num_seqs=max_num_seqs,
        token_budget=draw(st.integers(max_num_seqs, 48)),
        prefix_cache=draw(st.sampled_from([True, True, True, False])),
        lookup_tokens=draw(st.sampled_from([0, 3, 16])),
        fair_credit=draw(st.sampled_from([0, 20, 16384])),
        fair_chunk=draw(st.sampled_from([1, 32])),
    )


class EngineMachine(RuleBasedStateMachine):
    """Requests come, with adapters or none, the engine steps, requests are aborted, adapters are unloaded and
    loaded again; outputs always equal the reference's."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: dict[str, Request] = {}
        self.collector = Collector()
        self.request_ids = (f"r{i}" for i in count())

    @initialize(config=configs())
    def start(self, config: EngineConfig) -> None:
        self.engine = self.make_ready(config)

    def make_engine(self, config: EngineConfig) -> Engine:
        return speculating(FakeRunner(), config)

    def adapter_folder(self, name: str) -> Path:
        return Path(name)

    def make_ready(self, config: EngineConfig) -> Engine:
        engine = self.make_engine(config)
        for name in _ADAPTERS:
            engine.adapters.load(name, self.adapter_folder(name))
        return engine

    def expected(self, request: Request) -> tuple[Choices, dict[int, str]]:
        return naive_generate(request, self.engine.max_model_len)

    @rule(
        prompt=prompts(),
        sampling=samplings(),
        priority=st.sampled_from([0, 0, 0, 1]),
        adapter=st.sampled_from(["", *_ADAPTERS]),
        tenant=st.sampled_from(["", "", "a", "b"]),
    )
    def add(
        self, prompt: tuple[int, ...], sampling: SamplingParams, priority: int, adapter: str, tenant: str
    ) -> None:
        if len(prompt) + (sampling.max_tokens != 0) > self.engine.max_model_len:
            return
        request = Request(
            next(self.request_ids),
            prompt,
            sampling,
            eos_token_ids=(5,),
            priority=priority,
            adapter=adapter,
            tenant=tenant,
        )
        self.requests[request.request_id] = request
        self.engine.add_request(request)

    @rule(name=st.sampled_from(_ADAPTERS))
    def load_again(self, name: str) -> None:
        self.engine.adapters.unload(name)
        self.engine.adapters.load(name, self.adapter_folder(name))

    @rule(num=st.integers(1, 6))
    def step(self, num: int) -> None:
        for _ in range(num):
            self.collector.take(self.engine.step())
            check_accounts(self.engine)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.requests)))
        self.engine.abort(request_id)
        del self.requests[request_id]

    @invariant()
    def accounts_balance(self) -> None:
        if hasattr(self, "engine"):
            check_accounts(self.engine)

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        while self.engine.has_unfinished:
            self.collector.take(self.engine.step())
            check_accounts(self.engine)
        assert self.engine.block_manager.num_used_blocks == 0
        for name in _ADAPTERS:
            self.engine.adapters.unload(name)
        assert self.engine.adapters.num_bytes == 0, "an ended request still holds its adapter"
        for request_id, request in self.requests.items():
            tokens, reasons = self.expected(request)
            assert self.collector.tokens[request_id] == tokens
            assert self.collector.reasons[request_id] == reasons


EngineMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, derandomize=True
)
TestEngineMachine = EngineMachine.TestCase


@cache
def _gemma2_adapter(name: str) -> Path:
    return save_adapter(tiny_decoder("gemma2"), SPLIT, seed=ord(name))


class NetworkMachine(EngineMachine):
    """The same with a real network of short windows; each request alone is the reference."""

    def make_engine(self, config: EngineConfig) -> Engine:
        config = config.model_copy(update={"max_model_len": config.max_model_len or MAX_POSITION})
        return speculating(self.make_runner(), config)

    def make_runner(self) -> ModelRunner:
        return TorchRunner(tiny_decoder("gemma2"))

    def adapter_folder(self, name: str) -> Path:
        return _gemma2_adapter(name)

    def expected(self, request: Request) -> tuple[Choices, dict[int, str]]:
        config = EngineConfig(num_blocks=64, prefix_cache=False, max_model_len=self.engine.max_model_len)
        alone = run_all(self.make_ready(config), [request])
        return alone.tokens[request.request_id], alone.reasons[request.request_id]


NetworkMachine.TestCase.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, derandomize=True
)
TestNetworkMachine = NetworkMachine.TestCase


class TiledMachine(NetworkMachine):
    """The same as a GPU computes it: in tiles, with decode steps over static buffers."""

    def make_runner(self) -> ModelRunner:
        return TorchRunner(tiny_decoder("gemma2"), tiled=True)


TiledMachine.TestCase.settings = NetworkMachine.TestCase.settings
TestTiledMachine = TiledMachine.TestCase


class AheadMachine(TiledMachine):
    """The same with steps launched before the tokens of the one before are known; alone nothing is."""

    def make_engine(self, config: EngineConfig) -> Engine:
        config = config.model_copy(
            update={"max_model_len": config.max_model_len or MAX_POSITION, "lookup_tokens": 0}
        )
        return Engine(self.make_runner(), config)

    def expected(self, request: Request) -> tuple[Choices, dict[int, str]]:
        config = EngineConfig(num_blocks=64, lookup_tokens=0, max_model_len=self.engine.max_model_len)
        engine = self.make_ready(config)
        engine.ahead = Ahead(FakeRunner(), engine.block_manager, engine.speculation, config.block_size)
        alone = run_all(engine, [request])
        return alone.tokens[request.request_id], alone.reasons[request.request_id]


AheadMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, derandomize=True
)
TestAheadMachine = AheadMachine.TestCase


class NativeMachine(NetworkMachine):
    """The same on the native core, several threads, quantised."""

    def make_runner(self) -> ModelRunner:
        folder = checkpoint(tiny_decoder("gemma2"))
        return NativeRunner(folder, weights="int4", num_threads=2, pin=False)


NativeMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, derandomize=True
)
TestNativeMachine = needs_native(NativeMachine.TestCase)


class DraftMachine(EngineMachine):
    """With a draft model that says what the target says: every guess is right, or its books are wrong.

    But for sequences with an adapter, of which the draft model knows nothing.
    """

    def make_engine(self, config: EngineConfig) -> Engine:
        config = config.model_copy(update={"lookup_tokens": 0})
        engine = speculating(FakeRunner(), config, draft=FakeRunner())
        learn = engine.speculation.learn

        def checked(item: ScheduledSequence, num_accepted: int) -> None:
            assert num_accepted == len(item.draft) or item.seq.adapter is not None
            learn(item, num_accepted)

        engine.speculation.learn = checked  # type: ignore[method-assign]
        return engine


class UnsureDraftMachine(EngineMachine):
    """With one that is wrong every third time, beside look-up."""

    def make_engine(self, config: EngineConfig) -> Engine:
        return speculating(FakeRunner(), config, draft=UnsureRunner(misses=3))


DraftMachine.TestCase.settings = EngineMachine.TestCase.settings
UnsureDraftMachine.TestCase.settings = EngineMachine.TestCase.settings
TestDraftMachine = DraftMachine.TestCase
TestUnsureDraftMachine = UnsureDraftMachine.TestCase


class NetworkDraftMachine(NetworkMachine):
    """Two real networks that agree now and then; the target alone is the reference."""

    def make_engine(self, config: EngineConfig) -> Engine:
        config = config.model_copy(update={"max_model_len": config.max_model_len or MAX_POSITION})
        return speculating(self.make_runner(), config, draft=self.make_draft())

    def make_draft(self) -> ModelRunner:
        return TorchRunner(tiny_decoder("llama"))

    def expected(self, request: Request) -> tuple[Choices, dict[int, str]]:
        config = EngineConfig(num_blocks=64, lookup_tokens=0, max_model_len=self.engine.max_model_len)
        engine = Engine(self.make_runner(), config)
        for name in _ADAPTERS:
            engine.adapters.load(name, self.adapter_folder(name))
        alone = run_all(engine, [request])
        return alone.tokens[request.request_id], alone.reasons[request.request_id]


class NativeDraftMachine(NetworkDraftMachine):
    """The same on the native core, the target as its own draft in another format."""

    def make_runner(self) -> ModelRunner:
        return NativeRunner(checkpoint(tiny_decoder("gemma2")), weights="int4", num_threads=2, pin=False)

    def make_draft(self) -> ModelRunner:
        return NativeRunner(checkpoint(tiny_decoder("gemma2")), weights="int8", num_threads=1, pin=False)


NetworkDraftMachine.TestCase.settings = settings(
    max_examples=5, stateful_step_count=15, deadline=None, derandomize=True
)
NativeDraftMachine.TestCase.settings = NetworkDraftMachine.TestCase.settings
TestNetworkDraftMachine = NetworkDraftMachine.TestCase
TestNativeDraftMachine = needs_native(NativeDraftMachine.TestCase)


@given(st.lists(st.tuples(prompts(), samplings()), min_size=1, max_size=6), configs(), configs())
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_output_does_not_depend_on_the_configuration(
    given: list[tuple[tuple[int, ...], SamplingParams]], one: EngineConfig, other: EngineConfig
) -> None:
    """Budget, block size, pool and batch size decide how fast, never what."""
    max_len = min(MAX_POSITION, *(c.block_size * (c.num_blocks or 1) for c in (one, other)))
    requests = [
        Request(f"r{i}", prompt, sampling)
        for i, (prompt, sampling) in enumerate(given)
        if len(prompt) + 1 <= max_len
    ]
    outputs = [
        run_all(Engine(FakeRunner(), config.model_copy(update={"max_model_len": max_len})), requests).tokens
        for config in (one, other)
    ]
    assert outputs[0] == outputs[1]
