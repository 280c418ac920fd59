"""Curves for plots: one row a point, averaged over seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

GRID = np.linspace(0, 1, 101)


def roc_points(labels: NDArray[np.integer], scores: list[NDArray[np.floating]]) -> pd.DataFrame:
    """Return the ROC curve: false and true positive rate, averaged over seeds at equal fpr.

    Source: vertical averaging, Fawcett 2006, algorithm 3.

    Parameters
    ----------
    labels : ndarray of 0 and 1, shape (pairs,)
    scores : list of ndarray of float, shape (pairs,)
        One for each seed.
    """
    import pandas as pd
    from sklearn.metrics import roc_curve

    rates = []
    for seed_scores in scores:
        fpr, tpr, _ = roc_curve(labels, seed_scores)
        rates.append(np.interp(GRID, fpr, tpr))
    return pd.DataFrame({"fpr": GRID, "tpr": np.mean(rates, axis=0)})


def precision_recall_points(
    labels: NDArray[np.integer], scores: list[NDArray[np.floating]]
) -> pd.DataFrame:
    """Return interpolated precision at equal recall, averaged over seeds.

    The precision at a recall is the best at that recall or any higher one (Manning, Raghavan and
    Schuetze 2008, equation 8.7). Parameters as in `roc_points`.
    """
    import pandas as pd
    from sklearn.metrics import precision_recall_curve

    values = []
    for seed_scores in scores:
        precision, recall, _ = precision_recall_curve(labels, seed_scores)
        # Recall falls along the arrays, so the best so far is the best at any higher recall.
        best = np.maximum.accumulate(precision[:-1])
        values.append(best[np.searchsorted(-recall[:-1], -GRID, side="right") - 1])
    return pd.DataFrame({"recall": GRID, "precision": np.mean(values, axis=0)})


def confusion_rows(labels: NDArray[np.integer], called: list[NDArray[np.bool_]]) -> pd.DataFrame:
    """Return what each pair is and what each seed calls it, a row for each pair and seed."""
    import pandas as pd

    names = np.array(["no match", "match"])
    return pd.DataFrame(
        {
            "actual": np.tile(names[labels], len(called)),
            "predicted": names[np.concatenate(called).astype(int)],
        }
    )
