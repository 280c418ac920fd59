"""Ranks of gold entities in lists and in the pool, and the figures that are means over them.

rank = 1 + (candidates with a higher score) + (other candidates with the same score) / 2: equal
scores share their mean rank, so that a constant score gains nothing. A mention whose gold is not
in the list has rank inf: a miss at every cutoff, and a reciprocal rank of 0. No figure is divided
by the share of golds that are there: a linker that is not given the entity does not link it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmsim.evaluation.bootstrap import Resampling
from mmsim.evaluation.linking.lists import ABSENT
from mmsim.evaluation.summary import Figures, summarize_means

CUTOFFS = (1, 3, 5, 10, 20)

Values = dict[str, NDArray[np.float64]]
"""Of each figure by name, what its mean is taken of: shape (seeds, mentions), inf for no value."""


def list_ranks(
    scores: NDArray[np.floating], lists: NDArray[np.int64], gold: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the rank of each mention's gold in its own list, inf where it is not there.

    Parameters
    ----------
    scores : ndarray of float, shape (mentions, candidates)
        What stands at padding plays no part.
    lists : ndarray of int64, shape (mentions, candidates)
        Entity row numbers, `ABSENT` for padding.
    gold : ndarray of int64, shape (mentions,)
        `ABSENT` for NIL.

    Returns
    -------
    ndarray of float64, shape (mentions,)

    Raises
    ------
    ValueError
        If scores and lists have different shapes, or the score of a candidate is not finite: it
        has no place in a ranking.
    """
    if scores.shape != lists.shape:
        raise ValueError(f"scores of shape {scores.shape} are not of lists of shape {lists.shape}")
    there = lists != ABSENT
    if not np.isfinite(scores[there]).all():
        raise ValueError("scores are not finite, so they cannot be ranked")
    right = there & (lists == gold[:, None])
    of_gold = np.where(right, scores, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    higher = (there & (scores > of_gold)).sum(axis=1)
    tied = (there & ~right & (scores == of_gold)).sum(axis=1)
    return np.where(right.any(axis=1), 1 + higher + tied / 2, np.inf)


def matrix_ranks(scores: NDArray[np.floating], gold: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the rank of each mention's gold among all entities.

    Parameters
    ----------
    scores : ndarray of float, shape (mentions, entities)
    gold : ndarray of int64, shape (mentions,)
        Column of each gold.

    Returns
    -------
    ndarray of float64, shape (mentions,)

    Raises
    ------
    ValueError
        If a score is not finite.
    """
    if not np.isfinite(scores).all():
        raise ValueError("scores are not finite, so they cannot be ranked")
    of_gold = np.take_along_axis(scores, gold[:, None], axis=1)
    higher, same = (scores > of_gold).sum(axis=1), (scores == of_gold).sum(axis=1)
    return np.asarray(1 + higher + (same - 1) / 2, dtype=np.float64)


def rank_values(ranks: NDArray[np.float64]) -> Values:
    """Return what the figures are means of, for ranks of shape (seeds, mentions).

    ``hits_at_k`` is 1 where the rank is k or better, ``mrr`` is 1 / rank, ``candidate_recall`` is
    1 where the gold is in the list (no head can hit more often), ``mean_rank`` the rank itself,
    of the mentions whose gold is in the list alone: the others have none. (As trec_eval's
    success_k and recip_rank.)
    """
    hits = {f"hits_at_{k}": (ranks <= k).astype(np.float64) for k in CUTOFFS}
    listed = np.isfinite(ranks).astype(np.float64)
    return hits | {"mrr": 1 / ranks, "mean_rank": ranks, "candidate_recall": listed}


def chance_values(sizes: NDArray[np.int64], listed: NDArray[np.bool_]) -> Values:
    """Return what `rank_values` are on average for a ranking by lot, exactly.

    Each place of a list of n is as likely as any other, so the gold is among the first k with
    probability min(k, n) / n, its reciprocal rank is (1 + 1/2 + ... + 1/n) / n and its rank
    (n + 1) / 2.

    Parameters
    ----------
    sizes : ndarray of int64, shape (mentions,)
        Candidates of each mention.
    listed : ndarray of bool, shape (mentions,)
        Whether the gold is among them.

    Returns
    -------
    dict of str to ndarray of float64, shape (1, mentions)
    """
    sizes = np.maximum(sizes, 1)
    harmonic = np.cumsum(1 / np.arange(1, sizes.max(initial=1) + 1))
    values = {f"hits_at_{k}": np.minimum(k, sizes) / sizes for k in CUTOFFS}
    values |= {"mrr": harmonic[sizes - 1] / sizes, "candidate_recall": np.ones(len(sizes))}
    found = {name: np.where(listed, value, 0.0)[None] for name, value in values.items()}
    return found | {"mean_rank": np.where(listed, (sizes + 1) / 2, np.inf)[None]}


def value_figures(
    values: Values, resampling: Resampling, names: tuple[str, ...] | None = None
) -> Figures:
    """Return the mean of each figure, its deviation over seeds and its interval over entities.

    Parameters
    ----------
    values : dict of str to ndarray of float64, shape (seeds, mentions)
        A figure is a mean over the mentions where it has a value in all seeds; it is left out
        where none has.
    resampling : Resampling
        Draws over the same mentions.
    names : tuple of str, optional
        The figures wanted; all by default.
    """
    figures: Figures = {}
    for name in names or tuple(values):
        rows = np.asarray(np.isfinite(values[name]).all(axis=0))
        if rows.any():
            figures |= summarize_means({name: values[name][:, rows]}, resampling.of(rows))
    return figures
