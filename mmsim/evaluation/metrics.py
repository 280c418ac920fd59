"""Figures of a binary decision by a score and a threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
Labels = NDArray[np.integer]


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


def classification_metrics(scores: Scores, labels: Labels, threshold: float) -> dict[str, float]:
    """Return accuracy, precision, recall, f1, auc and average_precision.

    Precision is 0 where nothing is called a match. Computed by scikit-learn.

    Parameters
    ----------
    scores : ndarray of float, shape (pairs,)
    labels : ndarray of 0 and 1, shape (pairs,)
        Both must occur.
    threshold : float
        A score at or above it is called a match.
    """
    from sklearn.metrics import (
        accuracy_score,
        average_precision_score,
        precision_recall_fscore_support,
        roc_auc_score,
    )

    called = scores >= threshold
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, called, average="binary", zero_division=0
    )
    return {
        "accuracy": float(accuracy_score(labels, called)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "auc": float(roc_auc_score(labels, scores)),
        "average_precision": float(average_precision_score(labels, scores)),
    }


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
