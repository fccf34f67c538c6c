"""The Trainer: one loop for every objective.

`fit` trains to the end of the config, writing metrics and checkpoints; started again after a kill at any
moment it goes on from the newest intact checkpoint and ends with the same bits (given the same machine
and thread count). It owns the model while it runs and leaves it in float32 with the trained weights.

Not covered: several devices (the data's `rank` and `world` are there for it).
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch

from cairn.core import ConfigError, Progress, Silent, Task, digest_json
from cairn.data import Batch
from cairn.data.examples import ExampleBatch
from cairn.training.checkpoints import Checkpoint, load_latest_checkpoint, save_checkpoint
from cairn.training.config import TrainConfig, TrainResult
from cairn.training.errors import TrainingDivergedError
from cairn.training.interrupts import Interrupts
from cairn.training.ledger import Ledger
from cairn.training.objectives import AnyObjective, Data, Network, NextToken
from cairn.training.optimizers import (
    load_optimizer_tensors,
    make_optimizers,
    optimizer_tensors,
    set_learning_rate,
)
from cairn.training.precision import DTYPES, Weights, product_dtype, resolve_dtype
from cairn.training.schedules import learning_rate
from cairn.training.state import RunState, random_state, set_random_state
from cairn.training.throughput import batch_flops
from cairn.training.validation import validate


class Trainer:
    """Trains `model` on `dataset` as `config` says; everything it writes is under `run_folder`."""

    def __init__(
        self,
        model: Network,
        dataset: Data,
        config: TrainConfig,
        *,
        run_folder: Path,
        validation: Data | None = None,
        objective: AnyObjective | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.model = model
        self.dataset = dataset
        self.config = config
        self.run_folder = run_folder
        self.validation = validation
        self.objective = cast("AnyObjective", objective or NextToken())
        self.progress = progress or Silent()
        self.num_steps = config.num_steps(dataset.num_tokens)
        self.device = next(model.parameters()).device
        self.dtype = resolve_dtype(config.dtype, self.device)
        self.max_document = min(config.max_document or model.config.max_position, model.config.max_position)
        self._shape = model.config.shape()
        self._weights = Weights(model, self.dtype)
        self._optimizers = make_optimizers(
            model, self._weights.masters, config, product_dtype(DTYPES[self.dtype], self.device)
        )
        self._ledger = Ledger(run_folder / "metrics.jsonl", DTYPES[self.dtype], self.device)
        self._stop = Interrupts()
        self._saved_step = -1
        self._saved_at = 0.0
        self.objective.check(dataset)

    @property
    def state(self) -> RunState:
        """Counters of the run."""
        return self._ledger.state

    def fit(self) -> TrainResult:
        """Train to the end, resuming by itself. SIGINT and SIGTERM: checkpoint, then KeyboardInterrupt."""
        with self._session(), self.progress.task("train", total=self.num_steps) as task:
            if not self.resume():
                self._begin()
            task.resume(self.state.step)
            while True:
                self._between_steps(task)
                if self.state.step >= self.num_steps:
                    break
                if not self.train_step():
                    self._leave()
                task.advance()
            self.save()
            self.draw_curve()
            return self._ledger.result()

    def resume(self) -> bool:
        """Go back to the newest intact checkpoint; False when there is none."""
        checkpoint = load_latest_checkpoint(self.run_folder / "checkpoints", self.progress.say)
        if checkpoint is None:
            return False
        self._check_fits(checkpoint.state)
        self._weights.load(checkpoint.model)
        load_optimizer_tensors(self._optimizers, self._weights.masters, checkpoint.optimizer)
        set_random_state(checkpoint.state["random"], self.device)
        self._ledger.open(RunState.from_json(checkpoint.state["run"]))
        self._saved_step, self._saved_at = self.state.step, time.monotonic()
        if self.state.step:
            self.progress.say(f"resumed at step {self.state.step} of {self.num_steps}")
        if checkpoint.state["threads"] != torch.get_num_threads():
            self.progress.say(
                "another number of threads than before: close to, but not bit for bit, the same run"
            )
        return True

    def save(self) -> None:
        """Write a checkpoint of the start of the next step, unless that is the last one written."""
        if self._saved_step == self.state.step:
            return
        weights = self._weights.tensors()
        if bad := [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]:
            raise self._diverged(f"the weights of {', '.join(bad[:3])} are not finite")
        checkpoint = Checkpoint(
            model=weights,
            optimizer=optimizer_tensors(self._optimizers, self._weights.masters),
            state={
                "run": self._ledger.close().to_json(),
                "random": random_state(self.device),
                "config": self.config.model_dump(mode="json"),
                "identity": self._identity(),
                "threads": torch.get_num_threads(),
            },
        )
        folder = self.run_folder / "checkpoints"
        save_checkpoint(folder, self.state.step, checkpoint, keep=self.config.keep_checkpoints)
        self._saved_step, self._saved_at = self.state.step, time.monotonic()

    def train_step(self) -> bool:
        """One optimizer step, or a skipped one; False (and nothing changed) when a signal asks to stop."""
        started = time.perf_counter()
        batches = [self._micro_batch(index) for index in range(self.config.num_micro_batches)]
        targets = sum(self.objective.num_targets(batch) for batch in batches)
        nats = 0.0
        for batch in batches:
            if self._stop.requested:
                self._weights.clear_gradients()
                return False
            loss = self.objective.loss(self.model, batch, self.config)
            (loss.total / max(1, targets)).backward()
            self._weights.collect_gradients()
            nats += loss.nats.item()
        problem = self._update(nats, targets)
        work: dict[str, Any] = {
            "tokens": sum(len(batch.input_ids) for batch in batches),
            "flops": sum(batch_flops(self._shape, batch.cu_seqlens.tolist()) for batch in batches),
            "seconds": time.perf_counter() - started,
        }
        if problem:
            self._ledger.add_skipped_step(**work)
            self._skipped(problem)
        else:
            self._ledger.add_step(nats=nats, targets=targets, **work)
        return True

    def validate(self) -> None:
        """Measure held-out loss and note it in state and metrics; nothing when a signal asks to stop."""
        if self.validation is None:
            return
        found = validate(
            self.model,
            self.validation,
            self.objective,
            self.config,
            max_document=self.max_document,
            stop=lambda: self._stop.requested is not None,
        )
        if found is not None:
            self._ledger.write_validation(self._last_learning_rate(), found.loss, found.bits_per_byte)

    def draw_curve(self) -> None:
        """loss.png from what metrics.jsonl holds."""
        # matplotlib takes time and memory that a run need not carry from its start.
        from cairn.training.curve import draw_loss_curve  # noqa: PLC0415

        draw_loss_curve(self._ledger.metrics.path, self.run_folder / "loss.png")

    @contextmanager
    def _session(self) -> Iterator[None]:
        """Threads, precision and signal handlers for as long as the run lasts."""
        threads = torch.get_num_threads()
        torch.set_num_threads(self.config.threads or threads)
        self.model.checkpoint_activations = self.config.checkpoint_activations
        try:
            self._weights.attach()
            with Interrupts() as self._stop:
                yield
        finally:
            self._weights.detach()
            self.model.checkpoint_activations = False
            torch.set_num_threads(threads)

    def _begin(self) -> None:
        torch.manual_seed(self.config.seed)
        self._ledger.open(RunState())
        self._saved_step = -1
        # A disk that cannot hold a checkpoint is found out now, not after an hour.
        self.save()

    def _between_steps(self, task: Task) -> None:
        """Metrics, validation and checkpoint, where they are due."""
        step, config = self.state.step, self.config
        is_last = step >= self.num_steps
        if is_last or step % config.log_every == 0:
            self._ledger.write_training(self._last_learning_rate())
            task.note(f"loss {self.state.loss:.3f}")
        due = is_last or (config.eval_every is not None and step % config.eval_every == 0)
        if due and step > self.state.validated_step:
            self.validate()
        seconds = time.monotonic() - self._saved_at
        by_time = config.checkpoint_every_seconds is not None and seconds >= config.checkpoint_every_seconds
        by_step = config.checkpoint_every_steps is not None and step % config.checkpoint_every_steps == 0
        if by_time or by_step:
            self.save()
        if self._stop.requested:
            self._leave()

    def _leave(self) -> None:
        """Checkpoint and stop, as a signal asked."""
        self.save()
        raise KeyboardInterrupt(
            f"{self._stop.requested} at step {self.state.step} of {self.num_steps}; a checkpoint is written"
        )

    def _micro_batch(self, index: int) -> Batch | ExampleBatch:
        return self.dataset.batch(
            self.state.step,
            tokens=self.config.micro_tokens,
            seed=self.config.seed,
            micro=index,
            num_micro=self.config.num_micro_batches,
            max_document=self.max_document,
        )

    def _update(self, nats: float, targets: int) -> str:
        """Clip and apply the gradients, and forget them; returns why the step was skipped, or ""."""
        gradients = self._weights.gradients()
        norm = torch.nn.utils.get_total_norm(gradients)
        grad_norm = norm.item()
        if not targets:
            problem = "the batch has no token to train on"
        elif not math.isfinite(nats):
            problem = "the loss is not finite"
        elif not math.isfinite(grad_norm):
            problem = "the gradient is not finite"
        else:
            problem = ""
            self.state.grad_norm = grad_norm
            if self.config.grad_clip is not None:
                weights = self._weights.masters.values()
                torch.nn.utils.clip_grads_with_norm_(weights, self.config.grad_clip, norm)
            set_learning_rate(self._optimizers, learning_rate(self.state.step, self.num_steps, self.config))
            for optimizer in self._optimizers:
                optimizer.step()
            self._weights.publish()
        self._weights.clear_gradients()
        self.state.skipped_in_a_row = self.state.skipped_in_a_row + 1 if problem else 0
        return problem

    def _skipped(self, problem: str) -> None:
        step = self.state.step - 1
        self.progress.say(f"step {step} skipped: {problem}")
        if self.state.skipped_in_a_row >= self.config.max_skipped_steps:
            raise self._diverged(
                f"{self.state.skipped_in_a_row} steps in a row were skipped, the last because {problem}"
            )

    def _diverged(self, what: str) -> TrainingDivergedError:
        kept = (
            f"the last good checkpoint, of step {self._saved_step}, is in {self.run_folder / 'checkpoints'}"
        )
        return TrainingDivergedError(
            f"training stopped at step {self.state.step} of {self.num_steps}: {what}",
            remedy=f"lower learning_rate, lengthen warmup_steps or look at the data of that step; {kept}",
        )

    def _last_learning_rate(self) -> float:
        return learning_rate(max(0, self.state.step - 1), self.num_steps, self.config)

    def _identity(self) -> dict[str, Any]:
        """What besides the config must be equal for one run to continue another."""
        shapes = {name: list(weight.shape) for name, weight in self._weights.tensors().items()}
        return {
            "model": digest_json(shapes),
            "data": self.dataset.digest,
            "objective": self.objective.name,
            "dtype": self.dtype,
            "max_document": self.max_document,
        }

    def _check_fits(self, state: dict[str, Any]) -> None:
        ours, theirs = self._identity(), state["identity"]
        changed = self.config.differences(state["config"])
        changed += [
            f"{name}: {theirs.get(name)} -> {ours[name]}" for name in ours if ours[name] != theirs.get(name)
        ]
        if changed:
            raise ConfigError(
                f"{self.run_folder} holds checkpoints of another run ({'; '.join(changed)})",
                remedy="use a new run folder, or the settings and data that run was started with",
            )
