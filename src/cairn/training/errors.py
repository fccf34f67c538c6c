"""Failures of training that a person can mend."""

from cairn.core import CairnError


class TrainingDivergedError(CairnError):
    """Loss, gradients or weights stopped being numbers; nothing of that is kept in a checkpoint."""

    code = "training.diverged"
