"""training: one Trainer, and the objectives it trains for.

`Trainer(model, dataset, config, run_folder=...).fit()` trains, measures, keeps checkpoints and
resumes by itself from the last one, bit for bit. `TrainConfig` and `TrainResult` import without
torch; the rest is loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cairn.training.config import TrainConfig, TrainResult

if TYPE_CHECKING:
    from cairn.training.curve import draw_loss_curve
    from cairn.training.errors import TrainingDivergedError
    from cairn.training.objectives import NextToken, Objective, SupervisedFineTuning
    from cairn.training.trainer import Trainer

__all__ = [
    "NextToken",
    "Objective",
    "SupervisedFineTuning",
    "TrainConfig",
    "TrainResult",
    "Trainer",
    "TrainingDivergedError",
    "draw_loss_curve",
]

_HOMES = {
    "NextToken": "objectives",
    "Objective": "objectives",
    "SupervisedFineTuning": "objectives",
    "Trainer": "trainer",
    "TrainingDivergedError": "errors",
    "draw_loss_curve": "curve",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
