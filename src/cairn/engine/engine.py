"""The engine: requests in, one synchronous step at a time, tokens out.

A step schedules, computes, samples, and hands out what is new. A request of `n` choices runs its
first choice to the end of the prompt; then the others join, find the prompt's blocks in the cache and
share them. Not thread-safe; `AsyncEngine` puts a thread around it.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from time import perf_counter, perf_counter_ns
from typing import ClassVar

from cairn.core import CairnError, InvalidRequestError
from cairn.core.chat import FinishReason
from cairn.core.errors import ContextLengthError
from cairn.core.ids import random_bits
from cairn.engine.adapters import AdapterSet
from cairn.engine.ahead import Ahead, Flight
from cairn.engine.block_manager import BlockManager
from cairn.engine.config import EngineConfig
from cairn.engine.constraint import Allowed, GrammarCompiler, Masks, Matcher
from cairn.engine.fair_queue import TenantStats
from cairn.engine.resources import context_length, draft_model, pool_size
from cairn.engine.runner import LogitRow, Logits, ModelInput, ModelRunner, prepare
from cairn.engine.sampler import Sampled, Sampler, token_logprobs
from cairn.engine.scheduler import ScheduledBatch, ScheduledSequence, Scheduler
from cairn.engine.sequence import (
    FailedOutput,
    PromptLogprob,
    PromptOutput,
    Request,
    Sequence,
    StepOutput,
    TokenOutput,
)
from cairn.engine.speculation import Speculation

_SCORED_ROWS = 64
"""Prompt rows whose logits are on the host at once."""


class EngineError(CairnError):
    """A step failed; `request_ids` were in it and are gone, the engine itself can go on."""

    code: ClassVar[str] = "engine.failed"

    def __init__(self, message: str, *, request_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message, remedy="try again; if it happens again, the log has the traceback")
        self.request_ids = request_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """Where the engine stands, and what it has done since it was made."""

    num_waiting: int
    num_running: int
    num_blocks: int
    num_used_blocks: int
    num_cached_blocks: int
    num_steps: int
    num_prompt_tokens: int
    """Tokens of prompts that were read, once a request, those from the cache included."""
    num_cached_tokens: int
    num_generated_tokens: int
    num_preemptions: int
    num_adapters: int
    adapter_bytes: int
    """Memory of the adapters that are loaded, or unloaded and still in use."""
    num_drafted_tokens: Mapping[str, int]
    """Tokens that were guessed, by who guessed them."""
    num_accepted_tokens: Mapping[str, int]
    """Guessed tokens that were the ones to come."""
    tenants: tuple[TenantStats, ...]


class Engine:
    """Continuous batching over one model.

    `grammars` compiles what constrained requests ask for, `draft` guesses ahead with the same vocabulary.
    """

    def __init__(
        self,
        runner: ModelRunner,
        config: EngineConfig | None = None,
        *,
        grammars: GrammarCompiler | None = None,
        draft: ModelRunner | None = None,
    ) -> None:
        self.config = config = config or EngineConfig()
        self.runner = runner
        self.grammars = grammars
        self._runners = [runner] if draft is None else [runner, draft]
        num_blocks = pool_size(self._runners, config)
        runner.allocate_kv_cache(num_blocks, config.block_size)
        self.block_manager = BlockManager(num_blocks, config.block_size, prefix_cache=config.prefix_cache)
        self.scheduler = Scheduler(
            self.block_manager,
            max_num_seqs=config.max_num_seqs,
            token_budget=config.token_budget,
            fair_credit=config.fair_credit,
            fair_chunk=config.fair_chunk,
        )
        self.speculation = Speculation(
            self.block_manager, config, draft_model(runner, draft, num_blocks, config)
        )
        self.ahead = Ahead(runner, self.block_manager, self.speculation, config.block_size)
        self.adapters = AdapterSet(runner.read_adapter, config.adapter_bytes)
        self.sampler = Sampler()
        self._masks = Masks(runner.vocab_size)
        self.max_model_len = min(context_length(runner, config), num_blocks * config.block_size)
        self._requests: dict[str, list[Sequence]] = {}
        self._arrivals = count()
        self._ended: list[StepOutput] = []
        self._num_steps = self._num_prompt_tokens = self._num_cached_tokens = 0
        self._num_generated_tokens = self._num_preemptions = 0

    @property
    def has_unfinished(self) -> bool:
        return bool(self._requests or self._ended)

    def validate(self, request: Request) -> None:
        """Raise what `add_request` would: an empty or too long prompt, an unknown token id, a bad grammar."""
        prompt = request.prompt_token_ids
        if not prompt:
            raise InvalidRequestError(
                "the prompt is empty, needed: at least one token",
                remedy="give a prompt, or the beginning-of-text token alone",
                param="prompt",
            )
        self._check_vocabulary(prompt, "prompt")
        self._check_vocabulary(request.sampling.logit_bias.keys(), "logit_bias")
        needs_room = request.sampling.max_tokens != 0
        if len(prompt) + needs_room > self.max_model_len:
            self._refuse_length(len(prompt))
        if request.adapter and request.adapter not in self.adapters:
            raise _not_loaded(request.adapter)
        self._matcher(request)

    def add_request(self, request: Request) -> None:
        """Queue a request; its outputs come from `step`."""
        self.validate(request)
        if request.request_id in self._requests:
            raise InvalidRequestError(
                f"request_id {request.request_id!r} is already running",
                remedy="give every request its own id",
            )
        seed = request.sampling.seed
        seed = random_bits(63) if seed is None else seed
        arrival = next(self._arrivals)
        matchers = [self._matcher(request) for _ in range(request.sampling.n)]
        adapter = self.adapters.hold(request.adapter) if request.adapter else None
        if request.adapter and adapter is None:
            raise _not_loaded(request.adapter)
        seqs = [
            Sequence(
                request,
                index=index,
                seed=seed,
                arrival=arrival,
                max_len=self.max_model_len,
                matcher=matcher,
                adapter=adapter,
            )
            for index, matcher in enumerate(matchers)
        ]
        self._requests[request.request_id] = seqs
        if seqs[0].max_new_tokens == 0 and request.sampling.prompt_logprobs is None:
            self._end_without_tokens(request, seqs)
        else:
            self.scheduler.add(seqs[0])

    def abort(self, request_id: str) -> bool:
        """Drop a request and free its blocks; False when there is none of that id, ended ones included."""
        if request_id not in self._requests:
            return False
        for seq in self._forget(request_id):
            if seq in self.scheduler:
                self.scheduler.finish(seq)
        return True

    def step(self) -> list[StepOutput]:
        """Compute one batch and tell what is new. `EngineError`: the batch failed, its requests are gone."""
        outputs, self._ended = self._ended, []
        if self.ahead.must_land:
            self._land(self.ahead.flight, outputs)
        if self.scheduler.has_unfinished:
            batch = self.scheduler.schedule()
            if batch.copies:
                with self._dropping(batch, outputs):
                    self.runner.copy_blocks(batch.copies)
            if self.ahead.can_launch(batch):
                self._launch(batch, outputs)
            else:
                self._land(self.ahead.flight, outputs)
                self._compute_batch(batch, outputs)
        return outputs

    def stats(self) -> EngineStats:
        """Numbers for metrics and pages."""
        return EngineStats(
            num_waiting=len(self.scheduler.waiting),
            num_running=len(self.scheduler.running),
            num_blocks=len(self.block_manager.blocks),
            num_used_blocks=self.block_manager.num_used_blocks,
            num_cached_blocks=self.block_manager.num_cached_blocks,
            num_steps=self._num_steps,
            num_prompt_tokens=self._num_prompt_tokens,
            num_cached_tokens=self._num_cached_tokens,
            num_generated_tokens=self._num_generated_tokens,
            num_preemptions=self._num_preemptions,
            num_adapters=len(self.adapters.loaded()),
            adapter_bytes=self.adapters.num_bytes,
            num_drafted_tokens=dict(self.speculation.num_drafted),
            num_accepted_tokens=dict(self.speculation.num_accepted),
            tenants=self.scheduler.queue.stats(),
        )

    @property
    def num_bytes(self) -> int:
        """Memory of the weights and of the KV pool once all its pages are written to."""
        block_bytes = sum(runner.bytes_per_block(self.config.block_size) for runner in self._runners)
        weight_bytes = sum(runner.num_weight_bytes for runner in self._runners)
        return weight_bytes + len(self.block_manager.blocks) * block_bytes

    def close(self) -> None:
        """Free the memory of the networks and their caches; there is no step afterwards."""
        for runner in self._runners:
            runner.close()

    def _launch(self, batch: ScheduledBatch, outputs: list[StepOutput]) -> None:
        """Start a batch, and hand out what the one before it brought."""
        with self._dropping(batch, outputs):
            last = self.ahead.launch(batch)
        self._num_preemptions += batch.num_preempted
        self._land(last, outputs)

    def _land(self, flight: Flight | None, outputs: list[StepOutput]) -> None:
        if flight is not None:
            with self._dropping(ScheduledBatch((), 0), outputs):
                outputs += self.ahead.land(flight, self._append)
            self._num_steps += 1

    def _compute_batch(self, batch: ScheduledBatch, outputs: list[StepOutput]) -> None:
        """Run a batch, less the sequences that have ended since it was scheduled."""
        batch = replace(batch, items=tuple(item for item in batch.items if not item.seq.is_finished))
        if batch.items:
            with self._dropping(batch, outputs):
                guessed = self.speculation.guess(batch)
                self.scheduler.charge_guesses(guessed)
                outputs += self._run(guessed)

    @contextmanager
    def _dropping(self, batch: ScheduledBatch, outputs: list[StepOutput]) -> Iterator[None]:
        """After a failure drop a batch and what is under way, and keep what was to be handed out."""
        try:
            yield
        except Exception as error:
            self._ended = outputs
            request_ids = self._drop([*self.ahead.drop(), *(item.seq for item in batch.items)])
            raise EngineError(f"a step failed: {error!r}", request_ids=request_ids) from error

    def _run(self, batch: ScheduledBatch) -> list[StepOutput]:
        started = perf_counter()
        model_input = prepare(batch, self.config.block_size)
        rows = model_input.logit_rows
        indices = [i for i, row in enumerate(rows) if row.is_sampled and row.seq.max_new_tokens > 0]
        seqs = [rows[i].seq for i in indices]
        logits, allowed = self._compute(model_input, seqs)
        failed = _dead_ends(seqs, allowed)
        if failed:
            going = [k for k, seq in enumerate(seqs) if seq.request.request_id not in failed]
            indices, seqs = [indices[k] for k in going], [seqs[k] for k in going]
            allowed = [allowed[k] for k in going]
        self._score_prompts(logits, rows)
        sampled = self.sampler.sample(logits, indices, seqs, allowed)
        # From here on nothing can fail: the batch counts as computed as a whole.
        self._num_steps += 1
        self._num_preemptions += batch.num_preempted
        for item in batch.items:
            item.seq.num_computed_tokens = item.stop
            self.block_manager.register(item.seq)
        outputs = self._finish_prompts(batch)
        outputs += [self._append(seq, token) for seq, token in zip(seqs, sampled, strict=True)]
        for request_id, error in failed.items():
            self.abort(request_id)
            outputs.append(FailedOutput(request_id, error))
        outputs += self._verify(logits, rows, [item for item in batch.items if item.draft])
        if not model_input.prompt_spans:
            self.speculation.costs.observe(model_input.num_tokens, perf_counter() - started)
        return outputs

    def _verify(
        self, logits: Logits, rows: tuple[LogitRow, ...], drafted: list[ScheduledSequence]
    ) -> list[StepOutput]:
        """Where the chosen token is the guessed one, choose the next: its logits are there already."""
        places = {(row.seq, row.position): i for i, row in enumerate(rows)}
        outputs: list[StepOutput] = []
        going = drafted
        while going := [item for item in going if _is_right(item)]:
            masks = self._masks.start([item.seq for item in going])()
            # Where a grammar has a dead end, the next step meets it.
            going = [item for item, mask in zip(going, masks, strict=True) if mask is None or mask.any()]
            allowed = [mask for mask in masks if mask is None or mask.any()]
            seqs = [item.seq for item in going]
            for seq in seqs:
                seq.num_computed_tokens += 1
            indices = [places[seq, seq.num_tokens - 1] for seq in seqs]
            sampled = self.sampler.sample(logits, indices, seqs, allowed)
            outputs += [self._append(seq, token) for seq, token in zip(seqs, sampled, strict=True)]
        for item in drafted:
            self.speculation.learn(item, max(item.seq.num_tokens - item.stop - 1, 0))
            if not item.seq.is_finished:
                self.block_manager.register(item.seq)
        return outputs

    def _compute(self, model_input: ModelInput, seqs: list[Sequence]) -> tuple[Logits, list[Allowed | None]]:
        """The step's logits and, computed meanwhile, what the grammars of `seqs` allow next."""
        masks = self._masks.start(seqs)
        try:
            logits = self.runner.run(model_input)
        finally:
            # Also after a failure: nobody else may touch a matcher that is still being asked.
            allowed = masks()
        return logits, allowed

    def _matcher(self, request: Request) -> Matcher | None:
        grammar = request.sampling.grammar
        if grammar is None:
            return None
        if self.grammars is None:
            raise InvalidRequestError(
                "this engine was made without a vocabulary and follows no grammar",
                remedy="leave the grammar out, or give Engine a GrammarCompiler",
                param=grammar.param,
            )
        return self.grammars.compile(grammar)

    def _drop(self, seqs: list[Sequence]) -> tuple[str, ...]:
        """Abort all requests of a failed batch; what it may have left in their blocks is wiped out."""
        written = {block_id for seq in seqs for block_id in seq.block_table[seq.num_registered_blocks :]}
        request_ids = tuple({seq.request.request_id: None for seq in seqs})
        for request_id in request_ids:
            self.abort(request_id)
        self.runner.clear_blocks(sorted(written))
        if self.speculation.model is not None:
            self.speculation.model.clear_blocks(sorted(written))
        return request_ids

    def _score_prompts(self, logits: Logits, rows: tuple[LogitRow, ...]) -> None:
        """Log-probabilities of the prompt tokens that follow the computed ones."""
        scored = [i for i, row in enumerate(rows) if row.position + 1 < row.seq.num_prompt_tokens]
        for first in range(0, len(scored), _SCORED_ROWS):
            part = scored[first : first + _SCORED_ROWS]
            for i, scores in zip(part, logits.select(part), strict=True):
                seq, position = rows[i].seq, rows[i].position + 1
                # A preempted prompt is computed again; what is scored already stays.
                if position == len(seq.prompt_logprobs):
                    num = seq.request.sampling.prompt_logprobs
                    assert num is not None
                    token_id = seq.token_ids[position]
                    found = PromptLogprob(token_id, *token_logprobs(scores, token_id, num))
                    seq.prompt_logprobs.append(found)

    def _finish_prompts(self, batch: ScheduledBatch) -> list[StepOutput]:
        """What the end of a prompt brings: its log-probabilities, the other choices, maybe the end."""
        outputs: list[StepOutput] = []
        for item in batch.items:
            seq = item.seq
            if item.stop < seq.num_prompt_tokens or seq.is_prompt_finished:
                continue
            seq.is_prompt_finished = True
            if seq.index > 0:
                continue
            request = seq.request
            self._num_prompt_tokens += seq.num_prompt_tokens
            self._num_cached_tokens += seq.num_cached_tokens or 0
            if seq.wants_prompt_logprobs:
                outputs.append(PromptOutput(request.request_id, tuple(seq.prompt_logprobs)))
            if seq.max_new_tokens == 0:
                self.scheduler.finish(seq)
                self._end_without_tokens(request, self._requests[request.request_id])
                continue
            for sibling in self._requests[request.request_id][1:]:
                self.scheduler.add(sibling)
        return outputs

    def _append(self, seq: Sequence, sampled: Sampled) -> TokenOutput:
        reason, stop_token_id = seq.append_token(sampled.token_id)
        self._num_generated_tokens += 1
        timing = seq.request.timing
        if timing is not None and not timing.first_token:
            timing.first_token = perf_counter_ns()
        if reason is not None:
            self._finish(seq)
        return TokenOutput(
            request_id=seq.request.request_id,
            index=seq.index,
            token_id=sampled.token_id,
            logprob=sampled.logprob,
            top_logprobs=sampled.top_logprobs,
            finish_reason=reason,
            stop_token_id=stop_token_id,
            num_cached_tokens=seq.num_cached_tokens or 0,
        )

    def _finish(self, seq: Sequence) -> None:
        self.scheduler.finish(seq)
        seqs = self._requests[seq.request.request_id]
        if all(choice.is_finished for choice in seqs):
            self._forget(seq.request.request_id)

    def _forget(self, request_id: str) -> list[Sequence]:
        """Let go of a request that has ended or will not go on."""
        seqs = self._requests.pop(request_id)
        if (timing := seqs[0].request.timing) is not None:
            timing.ended = perf_counter_ns()
        if seqs[0].adapter is not None:
            self.adapters.release(seqs[0].adapter)
        return seqs

    def _end_without_tokens(self, request: Request, seqs: list[Sequence]) -> None:
        """End choices that generate nothing; told by the next step, after the prompt's output."""
        self._forget(request.request_id)
        reason: FinishReason = "length"
        self._ended += [
            TokenOutput(
                request_id=request.request_id,
                index=seq.index,
                token_id=None,
                finish_reason=reason,
                num_cached_tokens=seqs[0].num_cached_tokens or 0,
            )
            for seq in seqs
        ]

    def _check_vocabulary(self, token_ids: Collection[int], param: str) -> None:
        size = self.runner.vocab_size
        lowest, highest = min(token_ids, default=0), max(token_ids, default=0)
        if lowest < 0 or highest >= size:
            raise InvalidRequestError(
                f"token id {lowest if lowest < 0 else highest} in {param}, allowed: 0 to {size - 1}",
                remedy="use the tokenizer of this model",
                param=param,
            )

    def _refuse_length(self, num_tokens: int) -> None:
        pool = len(self.block_manager.blocks) * self.config.block_size
        context = context_length(self.runner, self.config)
        allowed = self.max_model_len - 1
        if pool < context:
            message = f"the KV pool holds {pool}, of which {allowed} may be prompt"
            remedy = "shorten the prompt, or start the engine with a larger kv_cache_bytes"
        else:
            message = f"the context is {context}, of which {allowed} may be prompt"
            remedy = "shorten the prompt, or use a model of longer context"
        raise ContextLengthError(
            f"the prompt has {num_tokens} tokens, {message}", remedy=remedy, param="prompt"
        )


def _not_loaded(adapter_id: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"the adapter {adapter_id} is not loaded", remedy="load it first", param="model"
    )


def _is_right(item: ScheduledSequence) -> bool:
    """Whether the sequence goes on and its newest token is the one guessed for that place."""
    place = item.seq.num_tokens - item.stop - 1
    is_guessed = place < len(item.draft) and item.draft[place] == item.seq.token_ids[-1]
    return is_guessed and not item.seq.is_finished


def _dead_ends(seqs: list[Sequence], allowed: list[Allowed | None]) -> dict[str, CairnError]:
    """The requests whose grammar lets no token follow although the text is not whole, and why they fail."""
    failed: dict[str, CairnError] = {}
    for seq, mask in zip(seqs, allowed, strict=True):
        if mask is not None and not mask.any():
            assert seq.matcher is not None, "only a matcher makes a mask"
            grammar = seq.request.sampling.grammar
            failed[seq.request.request_id] = InvalidRequestError(
                f"after {seq.num_new_tokens} tokens nothing that the grammar allows can follow"
                f"{': ' * bool(seq.matcher.problem)}{seq.matcher.problem}",
                remedy="the grammar has a dead end or is too complex: simplify it",
                param=grammar.param if grammar else None,
            )
    return failed
