"""From an artifact to a provider, guarded: what does not fit together is refused, not served.

The parity guard: every id of the tokenizer has a row in the embedding, the chat template parses and renders,
and the token with which it ends a reply is among those the engine stops at. End tokens
are the union of what generation_config.json, the tokenizer and the template say.
"""

from typing import Any

from cairn.core.chat import SamplingParams
from cairn.core.errors import CairnError, InvalidRequestError, UnsupportedModelError
from cairn.core.progress import Progress
from cairn.data import Tokenizer, check_fits, end_of_turn_id
from cairn.engine import AsyncEngine, Engine, EngineConfig, ModelRunner
from cairn.models import DecoderConfig, GenerationDefaults, read_generation_defaults
from cairn.models.generation import read_json
from cairn.providers.grammars import grammars_of
from cairn.providers.local import LocalProvider
from cairn.providers.measuring import size_of_model
from cairn.providers.receipt_writer import ReceiptWriter
from cairn.providers.residency import Loadable
from cairn.providers.runners import make_runner
from cairn.providers.sizes import Size
from cairn.registry import Artifact, Registry

ADAPTER = "adapter"
"""Kind of an artifact that is a low-rank adapter; its parent is its base."""
_SAMPLING_NAMES = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def load_local_provider(
    registry: Registry,
    ref: str,
    *,
    name: str | None = None,
    config: EngineConfig | None = None,
    cache_bytes: int | None = None,
    progress: Progress | None = None,
) -> LocalProvider:
    """Load the model or adapter that `ref` names onto a started engine; `provider.close()` ends it.

    `cache_bytes` is what its key-value cache may take where `config` leaves that open; it gets no more than
    is free once the weights are in.
    """
    artifact = registry.get(ref)
    if artifact.kind == ADAPTER:
        base = load_local_provider(
            registry, artifact.parents[0], config=config, cache_bytes=cache_bytes, progress=progress
        )
        try:
            base.engine.engine.adapters.load(artifact.digest, artifact.folder)
        except CairnError:
            base.close()
            raise
        return base.adapted(name or ref, artifact.digest)
    folder = artifact.folder
    defaults = read_generation_defaults(folder)
    tokenizer = Tokenizer.load(folder)
    vocab_size = DecoderConfig.from_hf(read_json(folder / "config.json")).vocab_size
    eos_token_ids = check_parity(tokenizer, defaults, vocab_size=vocab_size, name=name or ref)
    config = config or EngineConfig()
    runner, description = make_runner(registry, artifact, config.weights, progress)
    grammars = grammars_of(tokenizer, vocab_size=vocab_size, eos_token_ids=eos_token_ids)
    draft = None
    if config.draft_model is not None:
        draft = _draft_runner(registry, config.draft_model, tokenizer, vocab_size, config)
    if cache_bytes is not None and config.kv_cache_bytes is None:
        measured = max(1, min(cache_bytes, runner.free_bytes()))
        config = config.model_copy(update={"kv_cache_bytes": measured})
    engine = AsyncEngine(Engine(runner, config, grammars=grammars, draft=draft))
    engine.start()
    return LocalProvider(
        engine=engine,
        tokenizer=tokenizer,
        name=name or ref,
        artifact_digest=artifact.digest,
        eos_token_ids=eos_token_ids,
        save_receipt=ReceiptWriter(registry.save_receipts).save,
        sampling_defaults=_sampling_defaults(defaults),
        runner=description,
    )


def loadable_model(
    registry: Registry, artifact: Artifact, *, name: str, config: EngineConfig
) -> Loadable[LocalProvider]:
    """A model for a `Residency`."""

    def load(cache_bytes: int, progress: Progress) -> LocalProvider:
        return load_local_provider(
            registry, artifact.digest, name=name, config=config, cache_bytes=cache_bytes, progress=progress
        )

    def measure() -> Size:
        draft = registry.get(config.draft_model) if config.draft_model is not None else None
        return size_of_model(artifact, config, draft)

    return Loadable(name, measure, load)


def check_parity(
    tokenizer: Tokenizer, defaults: GenerationDefaults, *, vocab_size: int, name: str
) -> tuple[int, ...]:
    """The end tokens to stop at; `UnsupportedModelError` when tokenizer, template and model do not agree."""
    check_fits(tokenizer, vocab_size)
    try:
        SamplingParams(**_sampling_defaults(defaults))
    except InvalidRequestError as error:
        raise UnsupportedModelError(
            f"{name}: generation_config.json recommends what no request may ask for: {error.message}",
            remedy="mend or remove that value there",
        ) from None
    declared = set(defaults.eos_token_ids)
    beyond = sorted(token_id for token_id in declared if token_id >= vocab_size)
    if beyond:
        raise UnsupportedModelError(
            f"{name}: generation_config.json stops at token {beyond[0]}, the vocabulary has {vocab_size}",
            remedy="set eos_token_id there to the model's own end tokens",
        )
    own = tokenizer.eos_token_id
    if declared and own is not None and own not in declared:
        raise UnsupportedModelError(
            f"{name}: the tokenizer's end token is {tokenizer.eos_token!r} ({own}), "
            f"generation_config.json stops at {_shown(tokenizer, declared)}",
            remedy=f"add {own} to eos_token_id in generation_config.json, or correct tokenizer_config.json",
        )
    stops = declared | ({own} if own is not None else set())
    ends_with = _template_end(tokenizer)
    if ends_with is not None and ends_with not in stops:
        raise UnsupportedModelError(
            f"{name}: its chat template ends a reply with {_shown(tokenizer, {ends_with})}, "
            f"but the model stops at {_shown(tokenizer, stops) or 'nothing'}: replies would not end",
            remedy=f"add {ends_with} to eos_token_id in generation_config.json, "
            "or remove a chat template that the model was not trained with",
        )
    return tuple(sorted(stops))


def _draft_runner(
    registry: Registry, ref: str, tokenizer: Tokenizer, vocab_size: int, config: EngineConfig
) -> ModelRunner:
    """The network of a draft model; `UnsupportedModelError` where its tokens are not the model's."""
    artifact = registry.get(ref)
    num_rows = DecoderConfig.from_hf(read_json(artifact.folder / "config.json")).vocab_size
    difference = _difference(Tokenizer.load(artifact.folder), tokenizer)
    if num_rows != vocab_size:
        difference = f"{num_rows} rows of the embedding against {vocab_size}"
    if difference:
        raise UnsupportedModelError(
            f"draft model {ref}: its vocabulary is not the model's: {difference}",
            remedy="choose a smaller model with the same tokenizer, or leave draft_model out",
        )
    return make_runner(registry, artifact, config.weights)[0]


def _difference(one: Tokenizer, other: Tokenizer) -> str:
    """The first thing in which two vocabularies differ; empty where they are equal."""
    if one.vocab_size != other.vocab_size:
        return f"{one.vocab_size} tokens against {other.vocab_size}"
    for token_id in range(one.vocab_size):
        mine, theirs = one.token_bytes(token_id), other.token_bytes(token_id)
        if mine != theirs:
            return f"token {token_id} is {mine!r} against {theirs!r}"
    return ""


def _template_end(tokenizer: Tokenizer) -> int | None:
    """The token with which the chat template ends a reply; None where it cannot be told."""
    if tokenizer.chat_template is None:
        return None
    try:
        return end_of_turn_id(tokenizer)
    except CairnError:
        return None


def _shown(tokenizer: Tokenizer, token_ids: set[int]) -> str:
    return ", ".join(
        f"{tokenizer.token_bytes(token_id).decode(errors='replace')!r} ({token_id})"
        if token_id < tokenizer.vocab_size
        else str(token_id)
        for token_id in sorted(token_ids)
    )


def _sampling_defaults(defaults: GenerationDefaults) -> dict[str, Any]:
    named = {name: getattr(defaults, name) for name in _SAMPLING_NAMES}
    return {name: value for name, value in named.items() if value is not None}
