"""The books of a run: counters, rates, and the lines of metrics.jsonl made from them."""

import time
from pathlib import Path

import torch

from cairn.training.config import TrainResult
from cairn.training.metrics import MetricsLog
from cairn.training.state import RunState, Window
from cairn.training.throughput import matmul_peak, peak_memory_bytes


class Ledger:
    """Counts steps and tokens, and turns them into metrics and the final result."""

    def __init__(self, path: Path, dtype: torch.dtype, device: torch.device) -> None:
        self.metrics = MetricsLog(path)
        self.state = RunState()
        self._dtype, self._device = dtype, device
        self._clock = time.monotonic()

    def open(self, state: RunState) -> None:
        """Begin or go on with a run; metrics after the state's place are forgotten."""
        self.state = state
        self._clock = time.monotonic()
        self.metrics.cut(state.metrics_bytes)

    def close(self) -> RunState:
        """The state as a checkpoint should keep it."""
        now = time.monotonic()
        self.state.seconds += now - self._clock
        self._clock = now
        self.state.metrics_bytes = self.metrics.size
        return self.state

    def add_step(self, *, nats: float, targets: int, tokens: int, flops: float, seconds: float) -> None:
        """Count a step that changed the weights."""
        self.state.loss = nats / targets
        self.state.window.nats += nats
        self.state.window.targets += targets
        self._add_work(tokens, flops, seconds)

    def add_skipped_step(self, *, tokens: int, flops: float, seconds: float) -> None:
        """Count a step that changed nothing."""
        self.state.skipped += 1
        self._add_work(tokens, flops, seconds)

    def write_training(self, learning_rate: float) -> None:
        """A line for the steps since the last one: their mean loss and rate; none if all were skipped."""
        window = self.state.window
        if not window.targets:
            return
        self.state.window = Window()
        loss = window.nats / window.targets
        self._write("train", loss, learning_rate, window.tokens, window.flops, window.seconds)

    def write_validation(self, learning_rate: float, loss: float, bits_per_byte: float | None) -> None:
        """A line with the held-out loss; the rates are the training's so far."""
        state = self.state
        state.validation_loss, state.bits_per_byte, state.validated_step = loss, bits_per_byte, state.step
        extra = {} if bits_per_byte is None else {"bits_per_byte": bits_per_byte}
        self._write(
            "validation", loss, learning_rate, state.tokens, state.flops, state.train_seconds, **extra
        )

    def result(self) -> TrainResult:
        """How the run stands."""
        state = self.close()
        return TrainResult(
            steps=state.step,
            tokens=state.tokens,
            final_loss=state.loss,
            validation_loss=state.validation_loss,
            bits_per_byte=state.bits_per_byte,
            tokens_per_second=_rate(state.tokens, state.train_seconds),
            utilisation=self._utilisation(state.flops, state.train_seconds),
            seconds=state.seconds,
            peak_memory_bytes=peak_memory_bytes(self._device),
            skipped_steps=state.skipped,
        )

    def _add_work(self, tokens: int, flops: float, seconds: float) -> None:
        self.state.step += 1
        self.state.tokens += tokens
        self.state.flops += flops
        self.state.train_seconds += seconds
        self.state.window.tokens += tokens
        self.state.window.flops += flops
        self.state.window.seconds += seconds

    def _write(
        self,
        split: str,
        loss: float,
        learning_rate: float,
        tokens: int,
        flops: float,
        seconds: float,
        **extra: float,
    ) -> None:
        self.metrics.write(
            step=self.state.step,
            time=round(time.time(), 3),
            split=split,
            loss=loss,
            learning_rate=learning_rate,
            grad_norm=self.state.grad_norm,
            tokens=self.state.tokens,
            tokens_per_second=round(_rate(tokens, seconds), 1),
            utilisation=self._utilisation(flops, seconds),
            **extra,
        )

    def _utilisation(self, flops: float, seconds: float) -> float | None:
        if seconds <= 0:
            return None
        peak = matmul_peak(self._dtype, self._device, torch.get_num_threads())
        return round(flops / seconds / peak, 4)


def _rate(tokens: int, seconds: float) -> float:
    return tokens / seconds if seconds > 0 else 0.0
