"""How far a score, read as a probability, can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsim.evaluation.bootstrap import Resampling
from mmsim.evaluation.metrics import over_seeds
from mmsim.evaluation.summary import Figures, summarize_means

if TYPE_CHECKING:
    import pandas as pd

BINS = 10


def probabilities(
    valid: NDArray[np.floating], labels: NDArray[np.integer], test: NDArray[np.floating]
) -> tuple[NDArray[np.float64], float]:
    """Fit p = sigmoid(score / temperature + offset) on validation; return p of test, temperature.

    A cosine has no zero point of its own, so an offset is fitted beside the temperature (Platt
    1999; temperature alone: Guo et al. 2017). Computed by scikit-learn, without penalty.
    """
    from scipy.special import expit
    from sklearn.linear_model import LogisticRegression

    known = valid.astype(np.float64)
    # Scores may lie close together far from zero, where the fit would not find its way.
    centre, spread = known.mean(), max(float(known.std()), 1e-12)
    fitted = LogisticRegression(C=1e6, max_iter=1000).fit(
        (known[:, None] - centre) / spread, labels
    )
    slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    temperature = spread / slope if abs(slope) > 1e-9 else 1e9
    of_test = (test.astype(np.float64) - centre) / spread
    return np.asarray(expit(of_test * slope + offset), dtype=np.float64), temperature


def expected_calibration_error(chances: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return the mean distance of chance and truth over ten bins of equal width.

    Source: Naeini et al. 2015; Guo et al. 2017, equation 3, for the chance of a match.
    """
    bins = np.minimum((chances * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    gaps = np.bincount(bins, weights=labels - chances, minlength=BINS)
    return float(np.abs(gaps).sum() / counts.sum())


def calibration_figures(
    chances: NDArray[np.float64],
    temperatures: list[float],
    labels: NDArray[np.int64],
    resampling: Resampling,
) -> Figures:
    """Return Brier score with interval, expected calibration error and temperature.

    Parameters
    ----------
    chances : ndarray of float64, shape (seeds, pairs)
        Fitted chances of a match.
    """
    rest = [
        {"ece": expected_calibration_error(p, labels), "temperature": t}
        for p, t in zip(chances, temperatures, strict=True)
    ]
    return summarize_means({"brier": (chances - labels) ** 2}, resampling) | over_seeds(rest)


def reliability_points(chances: NDArray[np.float64], labels: NDArray[np.int64]) -> pd.DataFrame:
    """Return predicted and observed share of matches and pairs of each bin, over all seeds."""
    import pandas as pd

    rows = pd.DataFrame({"predicted": chances.ravel(), "observed": np.tile(labels, len(chances))})
    bins = np.minimum((rows["predicted"] * BINS).astype(int), BINS - 1)
    points = rows.groupby(bins).agg(
        predicted=("predicted", "mean"), observed=("observed", "mean"), pairs=("observed", "size")
    )
    return points.reset_index(drop=True)
