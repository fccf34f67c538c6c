"""Scores and probabilities: how well scores tell cases apart, and what makes probabilities of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

_STEPS = 100
_ENOUGH = 1e-10


def roc_auc(yes: Sequence[float], no: Sequence[float]) -> float:
    """Share of pairs in which the `yes` has the greater score, ties as half."""
    if not yes or not no:
        return 0.5
    scores = np.concatenate([np.asarray(yes, np.float64), np.asarray(no, np.float64)])
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    above = ranks[: len(yes)].sum() - len(yes) * (len(yes) + 1) / 2
    return float(above / (len(yes) * len(no)))


def calibration_error(confidences: Sequence[float], is_right: Sequence[bool], bins: int = 10) -> float:
    """Mean gap between what was claimed and what held, over bins of equal width (Naeini et al. 2015)."""
    said, held = np.asarray(confidences, np.float64), np.asarray(is_right, np.float64)
    places = np.minimum((said * bins).astype(int), bins - 1)
    gaps = [abs(said[places == each].sum() - held[places == each].sum()) for each in range(bins)]
    return float(sum(gaps) / max(1, len(said)))


def fit_logistic(features: ArrayLike, is_true: ArrayLike, *, ridge: float = 1e-3) -> NDArray[np.float64]:
    """Weights of the features and, last, the offset: sigmoid(features @ weights + offset) is the probability.

    By Newton's method on the likelihood; `ridge` keeps weights finite where the cases come apart.
    """
    values = np.asarray(features, np.float64)
    x = np.column_stack([values, np.ones(len(values))])
    y = np.asarray(is_true, np.float64)
    weights = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        said = 0.5 + 0.5 * np.tanh(x @ weights / 2)
        slope = x.T @ (said - y) + ridge * weights
        bend = (x * (said * (1 - said))[:, None]).T @ x + ridge * np.eye(len(weights))
        step = np.linalg.solve(bend, slope)
        weights -= step
        if np.abs(step).max() < _ENOUGH:
            break
    return weights
