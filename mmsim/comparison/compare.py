"""The comparison of several revisions with the first, on the same test pairs or mentions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsim.comparison.paired import Difference, delong, difference, mcnemar, randomisation
from mmsim.comparison.revisions import Revision, require_same_pairs
from mmsim.evaluation.bootstrap import Resampling, decision_draws, mean_draws
from mmsim.evaluation.linking.ranks import rank_values
from mmsim.evaluation.metrics import WeightedDecisions
from mmsim.evaluation.predictions import entity_clusters
from mmsim.evaluation.retrieval import ranking_values
from mmsim.evaluation.slices import primary

FIGURES = ("accuracy", "f1", "auc", "average_precision")
RANKING = ("recall_at_1", "recall_at_10", "mrr")
LINKING = ("hits_at_1", "hits_at_5", "mrr")

HEADLINES = {"pairs": ("auc", "AUC"), "mentions": ("candidates.mrr", "MRR of protocol candidates")}
"""By what was compared: the figure of the verdict, and its name."""


@dataclass(frozen=True)
class Comparison:
    """One revision against the first.

    Attributes
    ----------
    first, other : str
        Names of the revisions.
    seeds : (int, int)
        Number of seeds of each.
    unit : {"pairs", "mentions"}
        What was compared.
    count, clusters : int
        Test pairs or mentions, and the entities that the bootstrap draws.
    differences : dict of str to Difference
        By figure: other less first.
    adjusted : dict of str to float
        p by figure after Holm's correction over all figures of all revisions compared.
    secondary : dict of str to float
        p of ``mcnemar`` (majority of the seeds' calls, or of their first places), ``delong``
        (mean rank of the seeds' scores; pairs) and ``randomisation`` of the reciprocal rank in
        each direction or protocol.
    """

    first: str
    other: str
    seeds: tuple[int, int]
    unit: str
    count: int
    clusters: int
    differences: dict[str, Difference]
    adjusted: dict[str, float]
    secondary: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Measured:
    """A figure by seed, by seed and draw, and the number of clusters that were drawn."""

    points: NDArray[np.float64]
    draws: NDArray[np.float64]
    clusters: int


@dataclass(frozen=True)
class _Table:
    """Scores and calls by seed, shape (seeds, pairs), and ranks by direction."""

    scores: NDArray[np.float64]
    called: NDArray[np.bool_]
    ranks: dict[str, NDArray[np.float64]]


def compare(revisions: list[Revision], draws: int = 2000) -> list[Comparison]:
    """Compare each revision with the first.

    Raises
    ------
    UserError
        If two of them were measured on different pairs.
    """
    first = revisions[0]
    for other in revisions[1:]:
        require_same_pairs(first, other)
    queries = {
        str(direction): Resampling(rows["cluster"][rows["seed"] == rows["seed"].iloc[0]], draws)
        for direction, rows in first.ranks.groupby("direction", sort=False)
    }
    if first.links:
        return _compare_links(revisions, queries)
    main = primary(first.pairs)
    pairs = first.pairs[main]
    labels = pairs["label"].to_numpy().astype(np.int64)
    resampling = Resampling(entity_clusters(pairs), draws)
    tables = [_table(revision, main) for revision in revisions]
    measured = [
        measure(t.scores, t.called, labels, resampling)
        | _measure_ranks(t.ranks, queries, ranking_values, RANKING)
        for t in tables
    ]
    secondary = [_secondary(tables[0], table, labels, queries) for table in tables[1:]]
    return _comparisons(revisions, "pairs", len(pairs), resampling, measured, secondary)


def _compare_links(revisions: list[Revision], queries: dict[str, Resampling]) -> list[Comparison]:
    """Compare what linking heads make of the same test mentions."""
    ranks = [_ranks(revision) for revision in revisions]
    measured = [_measure_ranks(found, queries, rank_values, LINKING) for found in ranks]
    first_places = [(found["candidates"] <= 1).mean(axis=0) > 0.5 for found in ranks]
    secondary = [
        {"mcnemar": mcnemar(first_places[0], places)} | _randomisations(ranks[0], found, queries)
        for found, places in zip(ranks[1:], first_places[1:], strict=True)
    ]
    mentions = queries["candidates"]
    count = len(mentions.clusters)
    return _comparisons(revisions, "mentions", count, mentions, measured, secondary)


def _comparisons(
    revisions: list[Revision],
    unit: str,
    count: int,
    resampling: Resampling,
    measured: list[dict[str, Measured]],
    secondary: list[dict[str, float]],
) -> list[Comparison]:
    found = [differences(measured[0], other) for other in measured[1:]]
    seeds = [revision.predictions["seed"].nunique() for revision in revisions]
    return [
        Comparison(
            revisions[0].name,
            revision.name,
            (seeds[0], number),
            unit,
            count,
            resampling.count,
            by_name,
            adjusted,
            others,
        )
        for revision, number, by_name, adjusted, others in zip(
            revisions[1:], seeds[1:], found, _holm(found), secondary, strict=True
        )
    ]


def _table(revision: Revision, main: NDArray[np.bool_]) -> _Table:
    by_seed = [rows for _, rows in revision.predictions.groupby("seed", sort=True)]
    return _Table(
        np.array([rows["score"].to_numpy()[main] for rows in by_seed], dtype=np.float64),
        np.array([rows["called"].to_numpy()[main] for rows in by_seed], dtype=bool),
        _ranks(revision),
    )


def _ranks(revision: Revision) -> dict[str, NDArray[np.float64]]:
    return {
        str(direction): np.array(
            [part["rank"].to_numpy() for _, part in rows.groupby("seed", sort=True)]
        )
        for direction, rows in revision.ranks.groupby("direction", sort=False)
    }


def measure(
    scores: NDArray[np.floating],
    called: NDArray[np.bool_],
    labels: NDArray[np.int64],
    resampling: Resampling,
) -> dict[str, Measured]:
    """Return each of `FIGURES` of scores and calls, shape (seeds, pairs)."""
    once = np.ones((1, len(labels)))
    models = [WeightedDecisions(s, labels, c) for s, c in zip(scores, called, strict=True)]
    by_seed = [model.figures(once, FIGURES) for model in models]
    points = {name: np.concatenate([figures[name] for figures in by_seed]) for name in FIGURES}
    drawn = decision_draws(scores, labels, called, resampling, FIGURES)
    return {name: Measured(points[name], drawn[name], resampling.count) for name in FIGURES}


def _measure_ranks(
    ranks: dict[str, NDArray[np.float64]],
    queries: dict[str, Resampling],
    values_of: Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]],
    names: tuple[str, ...],
) -> dict[str, Measured]:
    return {
        f"{direction}.{name}": Measured(
            values.mean(axis=1), mean_draws(values, queries[direction]), queries[direction].count
        )
        for direction, of_seeds in ranks.items()
        for name, values in values_of(of_seeds).items()
        if name in names
    }


def differences(first: dict[str, Measured], other: dict[str, Measured]) -> dict[str, Difference]:
    """Return how far `other` is from `first` in each figure, over the same draws."""
    return {
        name: difference(a.points, other[name].points, a.draws, other[name].draws, a.clusters)
        for name, a in first.items()
    }


def _holm(differences: list[dict[str, Difference]]) -> list[dict[str, float]]:
    from statsmodels.stats.multitest import multipletests

    flat = [found.p for by_name in differences for found in by_name.values()]
    adjusted = iter(multipletests(flat, method="holm")[1] if flat else [])
    return [{name: float(next(adjusted)) for name in by_name} for by_name in differences]


def _secondary(
    first: _Table, other: _Table, labels: NDArray[np.int64], queries: dict[str, Resampling]
) -> dict[str, float]:
    from scipy.stats import rankdata

    right = [(table.called.mean(axis=0) > 0.5) == (labels == 1) for table in (first, other)]
    ranked = [rankdata(table.scores, axis=1).mean(axis=0) for table in (first, other)]
    found = {
        "mcnemar": mcnemar(right[0], right[1]),
        "delong": delong(ranked[0], ranked[1], labels),
    }
    return found | _randomisations(first.ranks, other.ranks, queries)


def _randomisations(
    first: dict[str, NDArray[np.float64]],
    other: dict[str, NDArray[np.float64]],
    queries: dict[str, Resampling],
) -> dict[str, float]:
    found = {}
    for direction, resampling in queries.items():
        before, after = ((1 / ranks[direction]).mean(axis=0) for ranks in (first, other))
        found[f"randomisation.{direction}"] = randomisation(before, after, resampling.clusters)
    return found
