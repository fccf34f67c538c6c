"""Learning-rate schedules: pure functions of the step, as a share of the peak learning rate.

Linear warm-up, then cosine (Loshchilov & Hutter 2017), warm-up/stable/decay with the 1 - sqrt
decay (Hägele et al. 2024), or constant. Step 0 already trains: warm-up gives it 1/warm-up.
"""

import math

from cairn.training.config import TrainConfig


def learning_rate(step: int, num_steps: int, config: TrainConfig) -> float:
    """Learning rate of `step` (from 0) in a run of `num_steps`."""
    return config.learning_rate * schedule_share(step, num_steps, config)


def schedule_share(step: int, num_steps: int, config: TrainConfig) -> float:
    """Share of the peak at `step`, between 0 and 1; beyond the end it stays at the final value."""
    warmup = warmup_steps(num_steps, config)
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule == "constant":
        return 1.0
    final = config.final_learning_rate
    if config.schedule == "cosine":
        progress = _progress(step, warmup, num_steps)
        return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2
    decay_start = max(warmup, num_steps - math.ceil(config.decay_share * num_steps))
    if step < decay_start:
        return 1.0
    return final + (1 - final) * (1 - math.sqrt(_progress(step, decay_start, num_steps)))


def warmup_steps(num_steps: int, config: TrainConfig) -> int:
    """Steps of warm-up: as configured (at most the whole run), or 2 % of the run."""
    wanted = config.warmup_steps if config.warmup_steps is not None else math.ceil(num_steps / 50)
    return min(wanted, num_steps)


def _progress(step: int, start: int, end: int) -> float:
    return min(1.0, (step - start) / max(1, end - 1 - start))
