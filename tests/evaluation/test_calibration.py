"""What tells cases apart and makes probabilities of scores, beside scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cairn.evaluation.calibration import calibration_error, fit_logistic, roc_auc


def test_the_area_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        yes, no = rng.integers(0, 9, 15).tolist(), rng.integers(0, 7, 22).tolist()
        expected = roc_auc_score([1] * 15 + [0] * 22, yes + no)
        assert roc_auc(yes, no) == pytest.approx(expected)
    assert roc_auc([], [1.0]) == 0.5


def test_the_regression_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 2))
    y = rng.random(300) < 1 / (1 + np.exp(-(x @ [2.0, -1.0] + 0.5)))
    theirs = LogisticRegression(C=1e6, tol=1e-10, max_iter=1000).fit(x, y)
    np.testing.assert_allclose(
        fit_logistic(x, y, ridge=1e-6), [*theirs.coef_[0], *theirs.intercept_], atol=1e-4
    )
    # Cases that come apart by themselves still give finite weights.
    assert np.isfinite(fit_logistic([[0.0], [1.0]], [False, True])).all()


def test_who_claims_what_holds_is_calibrated() -> None:
    assert calibration_error([0.8] * 10, [True] * 8 + [False] * 2) == pytest.approx(0)
    assert calibration_error([0.9] * 10, [False] * 10) == pytest.approx(0.9)
    assert calibration_error([1.0], [True]) == 0
