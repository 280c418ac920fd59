"""Paired statistics of two models on the same rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmsim.evaluation.bootstrap import LEVEL

POWER = 0.8


@dataclass(frozen=True)
class Difference:
    """How far B is from A in one figure.

    Attributes
    ----------
    a, b : float
        Means over seeds.
    a_std, b_std : float or None
        Deviation over seeds; None for one seed.
    difference, low, high : float
        b - a, and its 95 % interval.
    p : float
        Two-sided, of no difference.
    detectable : float
        Smallest difference that a test at level 0.05 with this error finds four times in five.
    """

    a: float
    b: float
    a_std: float | None
    b_std: float | None
    difference: float
    low: float
    high: float
    p: float
    detectable: float


def difference(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    a_draws: NDArray[np.float64],
    b_draws: NDArray[np.float64],
    clusters: int,
) -> Difference:
    """Compare a figure of two models, each trained with several seeds.

    Two things are left to chance: which entities the test set holds, and which seeds were taken.
    The first is measured by the paired cluster bootstrap of the difference of means; to its
    variance is added, for each model, the variance between seeds over their number. What seeds
    differ by on a finite test set is partly the test set's doing, which the bootstrap has counted
    already; that part is taken off. The interval and p are those of Student's t, with the degrees
    of freedom of Satterthwaite 1946, equation 17.

    With one seed the second part is unknown, and the result holds for these two models alone.

    Parameters
    ----------
    a, b : ndarray of float64, shape (seeds,)
        The figure by seed; the two may differ in number.
    a_draws, b_draws : ndarray of float64, shape (seeds, draws)
        The same in each draw, the same draws for both.
    clusters : int
        Number of clusters drawn.
    """
    from scipy import stats

    gap = b_draws.mean(axis=0) - a_draws.mean(axis=0)
    gap = gap[np.isfinite(gap)]
    of_entities = float(gap.var(ddof=1)) if len(gap) > 1 else 0.0
    variance, doubt = of_entities, of_entities**2 / max(clusters - 1, 1)
    for points, draws in ((a, a_draws), (b, b_draws)):
        if (count := len(points)) > 1:
            variance += _between_seeds(points, draws) / count
            # How sure that is, is a matter of the whole spread, before the part was taken off.
            doubt += (float(points.var(ddof=1)) / count) ** 2 / (count - 1)
    found = float(b.mean() - a.mean())
    if variance <= 0:
        same = found == 0
        return _difference(a, b, found, 0.0, 1.0 if same else 0.0, 0.0)
    freedom = max(variance**2 / doubt, 1.0)
    error = float(np.sqrt(variance))
    student = stats.t(freedom)
    width = float(student.ppf((1 + LEVEL) / 2)) * error
    p = 2 * float(student.sf(abs(found) / error))
    detectable = error * float(student.ppf((1 + LEVEL) / 2) + student.ppf(POWER))
    return _difference(a, b, found, width, p, detectable)


def _between_seeds(points: NDArray[np.float64], draws: NDArray[np.float64]) -> float:
    """Return the variance between seeds, less what the finite test set adds to it."""
    count = len(points)
    apart = draws - draws.mean(axis=0)
    of_the_test_set = np.nanvar(apart, axis=1, ddof=1).mean() * count / (count - 1)
    return max(0.0, float(points.var(ddof=1) - of_the_test_set))


def _difference(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    found: float,
    width: float,
    p: float,
    detectable: float,
) -> Difference:
    return Difference(
        float(a.mean()),
        float(b.mean()),
        float(a.std(ddof=1)) if len(a) > 1 else None,
        float(b.std(ddof=1)) if len(b) > 1 else None,
        found,
        found - width,
        found + width,
        p,
        detectable,
    )


def mcnemar(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_]) -> float:
    """Return the exact p of McNemar's test that both are right equally often.

    It takes the pairs as independent, which they are not. Computed by statsmodels.
    """
    from statsmodels.stats.contingency_tables import mcnemar as test

    table = [[int((a & b).sum()) for b in (correct_b, ~correct_b)] for a in (correct_a, ~correct_a)]
    return float(test(table, exact=True).pvalue)


def delong(
    scores_a: NDArray[np.floating], scores_b: NDArray[np.floating], labels: NDArray[np.integer]
) -> float:
    """Return the p of DeLong's test that two scores have the same AUC.

    It takes the pairs as independent, which they are not. Source: DeLong, DeLong and
    Clarke-Pearson 1988, equations 5 to 8, with placements by rank as in Sun and Xu 2014.
    """
    from scipy import stats

    positive = labels == 1
    right, wrong = [], []
    for scores in (scores_a, scores_b):
        of_all = stats.rankdata(scores)
        of_positives = stats.rankdata(scores[positive])
        of_negatives = stats.rankdata(scores[~positive])
        right.append((of_all[positive] - of_positives) / (~positive).sum())
        wrong.append(1 - (of_all[~positive] - of_negatives) / positive.sum())
    covariance = np.cov(right) / positive.sum() + np.cov(wrong) / (~positive).sum()
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    gap = np.mean(right[1]) - np.mean(right[0])
    if variance <= 1e-18:
        return 1.0 if abs(gap) < 1e-12 else 0.0
    return 2 * float(stats.norm.sf(abs(gap) / np.sqrt(variance)))


def randomisation(
    values_a: NDArray[np.floating],
    values_b: NDArray[np.floating],
    clusters: NDArray[np.int64],
    draws: int = 10_000,
) -> float:
    """Return the p of the paired randomisation test: the two are exchanged by cluster.

    Source: Smucker, Allan and Carterette 2007, section 3.3; by cluster, since queries of one
    entity are not independent. Computed by SciPy.
    """
    from scipy import stats

    gaps = np.bincount(np.unique(clusters, return_inverse=True)[1], weights=values_b - values_a)
    found = stats.permutation_test(
        (gaps,),
        lambda x, axis: x.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=draws,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)
