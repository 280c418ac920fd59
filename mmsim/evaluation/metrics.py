"""Figures of a binary decision by a score and a threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
Labels = NDArray[np.integer]
Weights = NDArray[np.floating]
"""Weight of each pair in each weighting, shape (weightings, pairs)."""

DECISION_FIGURES = ("accuracy", "precision", "recall", "f1")
FIGURES = (*DECISION_FIGURES, "auc", "average_precision")


def best_threshold(scores: Scores, labels: Labels) -> float:
    """Return the threshold with the highest accuracy; a score at or above it is a match.

    Chosen on validation pairs, applied to test pairs. Thresholds lie midway between neighbouring
    scores; of several that are equally good, the middle one is taken.

    Parameters
    ----------
    scores : ndarray of float, shape (pairs,)
    labels : ndarray of 0 and 1, shape (pairs,)
    """
    order = np.argsort(scores, kind="stable")
    ranked = np.asarray(scores, dtype=np.float64)[order]
    positives = np.asarray(labels)[order]
    # Correct decisions if the first k pairs in rising order of score are called negatives.
    correct = np.concatenate([[0], np.cumsum(1 - positives)]) + np.concatenate(
        [np.cumsum(positives[::-1])[::-1], [0]]
    )
    possible = np.concatenate([[True], ranked[1:] > ranked[:-1], [True]])
    best = np.flatnonzero(possible & (correct == correct[possible].max()))
    k = int(best[len(best) // 2])
    below = ranked[k - 1] if k else ranked[0] - 1
    above = ranked[k] if k < len(ranked) else ranked[-1] + 1
    return float((below + above) / 2)


class WeightedDecisions:
    """Figures of one model on pairs that are weighted in many ways at a time.

    Equal to scikit-learn's with ``sample_weight``, but for hundreds of weightings in one pass.

    Parameters
    ----------
    scores : ndarray of float, shape (pairs,)
    labels : ndarray of 0 and 1, shape (pairs,)
    called : ndarray of bool, shape (pairs,)
        Whether a pair is called a match.

    Raises
    ------
    ValueError
        If a score is not finite: it has no place in a ranking.
    """

    def __init__(self, scores: Scores, labels: Labels, called: NDArray[np.bool_]) -> None:
        if not np.isfinite(scores).all():
            raise ValueError("scores are not finite, so they cannot be ranked")
        self._called = np.asarray(called, dtype=np.float64)
        self._labels = np.asarray(labels, dtype=np.float64)
        # From the highest score down; a run of equal scores is entered and left as a whole.
        self._order = np.argsort(-np.asarray(scores), kind="stable")
        ranked = np.asarray(scores)[self._order]
        self._ranked_labels = self._labels[self._order]
        breaks = np.flatnonzero(ranked[1:] != ranked[:-1])
        self._ends = np.append(breaks, len(ranked) - 1)
        self._has_ties = len(self._ends) < len(ranked)

    def figures(
        self, weights: Weights, names: tuple[str, ...] = FIGURES
    ) -> dict[str, NDArray[np.floating]]:
        """Return the figures `names` under each weighting, nan where there is none.

        Parameters
        ----------
        weights : ndarray of float32 or float64, shape (weightings, pairs)

        Returns
        -------
        dict of str to ndarray of float64, shape (weightings,)
        """
        columns = np.stack([self._labels, self._called, self._called * self._labels], axis=1)
        sums = (weights @ columns.astype(weights.dtype)).astype(np.float64)
        positive, called, hits = sums.T
        total = weights.sum(axis=1, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = {
                "accuracy": (total - positive - called + 2 * hits) / total,
                "precision": np.where(called > 0, hits / called, 0.0),
                "recall": hits / positive,
                "f1": np.where(called + positive > 0, 2 * hits / (called + positive), 0.0),
            }
            if "auc" in names or "average_precision" in names:
                ranked = weights[:, self._order]
                steps = self._by_run(ranked * self._ranked_labels.astype(ranked.dtype))
                hits_above = np.cumsum(steps, axis=1)
                of_runs = self._by_run(ranked)
                if "auc" in names:
                    # A negative counts the positives above it, and half of those tied with it.
                    won = np.einsum("ij,ij->i", of_runs - steps, hits_above - steps / 2)
                    found["auc"] = won / (positive * (total - positive))
                if "average_precision" in names:
                    called_above = np.cumsum(of_runs, axis=1)
                    precision = np.where(called_above > 0, hits_above / called_above, 0.0)
                    won = np.einsum("ij,ij->i", steps, precision)
                    found["average_precision"] = won / positive
        return {name: found[name] for name in names}

    def _by_run(self, ranked: Weights) -> Weights:
        """Sum the weights of each run of equal scores."""
        if not self._has_ties:
            return ranked
        starts = np.append(0, self._ends[:-1] + 1)
        return np.asarray(np.add.reduceat(ranked, starts, axis=1))


def classification_metrics(scores: Scores, labels: Labels, threshold: float) -> dict[str, float]:
    """Return accuracy, precision, recall, f1, auc and average_precision.

    Precision is 0 where nothing is called a match; auc and average_precision are left out where
    only one label occurs.

    Parameters
    ----------
    scores : ndarray of float, shape (pairs,)
    labels : ndarray of 0 and 1, shape (pairs,)
    threshold : float
        A score at or above it is called a match.
    """
    names = FIGURES if len(np.unique(labels)) == 2 else DECISION_FIGURES
    decisions = WeightedDecisions(scores, labels, scores >= threshold)
    found = decisions.figures(np.ones((1, len(labels))), names)
    # Without positives there is no recall; it is 0 by convention.
    return {name: float(np.nan_to_num(value[0])) for name, value in found.items()}


def over_seeds(figures: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each figure, and its standard deviation over seeds as ``<name>_std``.

    The standard deviation is that of a sample (divisor n - 1), and is left out for one seed.
    """
    summary: dict[str, float] = {}
    for name in figures[0]:
        values = [figure[name] for figure in figures]
        summary[name] = float(np.mean(values))
        if len(values) > 1:
            summary[f"{name}_std"] = float(np.std(values, ddof=1))
    return summary
