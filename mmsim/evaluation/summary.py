"""Figures of several seeds on one set of pairs: mean, spread over seeds, interval over entities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmsim.evaluation.bootstrap import Resampling, decision_draws, interval, mean_draws
from mmsim.evaluation.metrics import classification_metrics, over_seeds

Figures = dict[str, float]


@dataclass(frozen=True)
class Decisions:
    """What the model of each seed says of the same pairs.

    Attributes
    ----------
    scores : ndarray of float, shape (seeds, pairs)
    labels : ndarray of int64, 0 or 1, shape (pairs,)
    thresholds : ndarray of float, shape (seeds,)
        A score at or above it is called a match.
    resampling : Resampling
        Draws of the pairs' entities.
    """

    scores: NDArray[np.floating]
    labels: NDArray[np.int64]
    thresholds: NDArray[np.floating]
    resampling: Resampling

    @property
    def called(self) -> NDArray[np.bool_]:
        """Whether each seed calls a pair a match, shape (seeds, pairs)."""
        return np.asarray(self.scores >= self.thresholds[:, None])

    def of(self, rows: NDArray[np.bool_]) -> Decisions:
        """Return the decisions on some of the pairs."""
        return Decisions(
            self.scores[:, rows], self.labels[rows], self.thresholds, self.resampling.of(rows)
        )

    @property
    def has_both_labels(self) -> bool:
        """Whether there are positives and negatives: without, there is no AUC."""
        return len(np.unique(self.labels)) == 2

    def figures(self) -> list[Figures]:
        """Return the figures of each seed."""
        return [
            classification_metrics(scores, self.labels, threshold)
            for scores, threshold in zip(self.scores, self.thresholds, strict=True)
        ]

    def draws(self, names: tuple[str, ...]) -> dict[str, NDArray[np.float64]]:
        """Return figures in each draw, each of shape (seeds, draws)."""
        return decision_draws(self.scores, self.labels, self.called, self.resampling, names)


def summarize(decisions: Decisions, names: tuple[str, ...] | None = None) -> Figures:
    """Return ``<figure>``, ``<figure>_std``, ``<figure>_low`` and ``<figure>_high``.

    The figure is the mean over seeds; `std` its deviation over seeds; low and high bound the
    95 % interval of that mean on other entities. The interval holds for these seeds' models: it
    does not say what other seeds would give.

    Parameters
    ----------
    decisions : Decisions
        Both labels must occur.
    names : tuple of str, optional
        The figures wanted; all six by default.
    """
    by_seed = decisions.figures()
    means = over_seeds(by_seed)
    summary: Figures = {}
    for name, drawn in decisions.draws(names or tuple(by_seed[0])).items():
        summary |= with_interval(name, means, drawn.mean(axis=0), decisions.resampling.count)
    return summary


def summarize_means(values: dict[str, NDArray[np.float64]], resampling: Resampling) -> Figures:
    """Return the same for figures that are means over rows.

    Parameters
    ----------
    values : dict of str to ndarray of float64, shape (seeds, rows)
    resampling : Resampling
        Draws over the rows.
    """
    summary: Figures = {}
    for name, rows in values.items():
        means = over_seeds([{name: float(mean)} for mean in rows.mean(axis=1)])
        drawn = mean_draws(rows, resampling).mean(axis=0)
        summary |= with_interval(name, means, drawn, resampling.count)
    return summary


def with_interval(name: str, means: Figures, drawn: NDArray[np.float64], clusters: int) -> Figures:
    """Return a figure, its deviation if there is one, and its interval if there is one.

    Of a single cluster nothing can be said of others: it has no interval.
    """
    summary = {name: means[name]}
    if f"{name}_std" in means:
        summary[f"{name}_std"] = means[f"{name}_std"]
    bounds = interval(drawn)
    if bounds and clusters > 1:
        summary[f"{name}_low"], summary[f"{name}_high"] = bounds
    return summary
