"""Ranking figures: the rank of the first right candidate, recall at k, reciprocal rank."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CUTOFFS = (1, 5, 10)


def first_ranks(scores: NDArray[np.floating], relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the rank of each query's best relevant candidate.

    rank = 1 + (candidates with a higher score) + 1/2 (irrelevant candidates with the same): it
    stands in the middle of those it is tied with, so that a constant score cannot put it first.

    Parameters
    ----------
    scores : ndarray of float, shape (queries, candidates)
    relevant : ndarray of bool, shape (queries, candidates)
        Each query has at least one.

    Returns
    -------
    ndarray of float64, shape (queries,)
    """
    best = np.where(relevant, scores, -np.inf).max(axis=1, keepdims=True)
    higher = (scores > best).sum(axis=1)
    tied = ((scores == best) & ~relevant).sum(axis=1)
    return np.asarray(1 + higher + tied / 2, dtype=np.float64)


def ranking_metrics(ranks: NDArray[np.float64]) -> dict[str, float]:
    """Return recall_at_1, recall_at_5, recall_at_10 and mrr.

    recall_at_k is the share of queries whose first relevant candidate is among the first k; mrr
    the mean of 1 / rank (as trec_eval's success_k and recip_rank).
    """
    figures = {f"recall_at_{k}": float((ranks <= k).mean()) for k in CUTOFFS}
    return figures | {"mrr": float((1 / ranks).mean())}
