"""Engines that guess ahead: draft models of every quality, and costs that do not depend on the clock."""

from cairn.engine import Engine, EngineConfig, GrammarCompiler, ModelRunner
from cairn.engine.costs import Costs
from cairn.engine.runner import FloatArray
from tests.engine.fake_runner import FakeRunner, logits_of


class SetCosts(Costs):
    """A step of n tokens takes `fixed + n * per_token` seconds, whatever is observed."""

    def __init__(self, fixed: float, per_token: float) -> None:
        super().__init__()
        self._fixed, self._per_token = fixed, per_token

    @property
    def is_known(self) -> bool:
        return True

    @property
    def per_token(self) -> float:
        return self._per_token

    def observe(self, num_tokens: int, seconds: float) -> None:
        pass

    def seconds(self, num_tokens: int) -> float:
        return self._fixed + self._per_token * num_tokens


def speculating(
    runner: ModelRunner,
    config: EngineConfig,
    *,
    draft: ModelRunner | None = None,
    grammars: GrammarCompiler | None = None,
    fixed: float = 15.0,
) -> Engine:
    """An engine for which a step costs `fixed` and its tokens, a draft model nothing."""
    engine = Engine(runner, config, draft=draft, grammars=grammars)
    engine.speculation.costs = SetCosts(fixed, 1.0)
    if engine.speculation.model is not None:
        engine.speculation.model.costs = SetCosts(0.0, 0.0)
    return engine


def num_guessed(engine: Engine) -> tuple[int, int]:
    """Tokens that were guessed, whoever guessed them, and how many were right."""
    stats = engine.stats()
    return sum(stats.num_drafted_tokens.values()), sum(stats.num_accepted_tokens.values())


class UnsureRunner(FakeRunner):
    """Says what the fake runner says, but for one in `misses` cache entries, where it says something else."""

    def __init__(self, misses: int) -> None:
        super().__init__()
        self.misses = misses

    def scores(self, kv: int) -> FloatArray:
        return -logits_of(kv) if kv % self.misses == 0 else logits_of(kv)
