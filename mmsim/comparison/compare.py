"""The comparison of several revisions with the first, on the same test pairs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsim.comparison.paired import Difference, delong, difference, mcnemar, randomisation
from mmsim.comparison.revisions import Revision, require_same_pairs
from mmsim.evaluation.bootstrap import Resampling, decision_draws, mean_draws
from mmsim.evaluation.metrics import classification_metrics
from mmsim.evaluation.retrieval import ranking_values
from mmsim.evaluation.slices import primary

FIGURES = ("accuracy", "f1", "auc", "average_precision")
RANKING = ("recall_at_1", "recall_at_10", "mrr")


@dataclass(frozen=True)
class Comparison:
    """One revision against the first.

    Attributes
    ----------
    first, other : str
        Names of the revisions.
    seeds : (int, int)
        Number of seeds of each.
    pairs, clusters : int
        Test pairs, and the entities that the bootstrap draws.
    differences : dict of str to Difference
        By figure: other less first.
    adjusted : dict of str to float
        p by figure after Holm's correction over all figures of all revisions compared.
    secondary : dict of str to float
        p of ``mcnemar`` (majority of the seeds' calls), ``delong`` (mean rank of the seeds'
        scores) and ``randomisation`` of the reciprocal rank in each direction.
    """

    first: str
    other: str
    seeds: tuple[int, int]
    pairs: int
    clusters: int
    differences: dict[str, Difference]
    adjusted: dict[str, float]
    secondary: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class _Table:
    """Scores and calls by seed, shape (seeds, pairs), and ranks by direction."""

    scores: NDArray[np.float64]
    called: NDArray[np.bool_]
    ranks: dict[str, NDArray[np.float64]]
    seeds: int


@dataclass(frozen=True)
class _Found:
    """Each figure by seed, by seed and draw, and the number of clusters that were drawn."""

    points: dict[str, NDArray[np.float64]]
    draws: dict[str, NDArray[np.float64]]
    clusters: dict[str, int]


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
    main = primary(first.pairs)
    pairs = first.pairs[main]
    labels = pairs["label"].to_numpy().astype(np.int64)
    entity, image = pairs["entity"].to_numpy(), pairs["query_image"].to_numpy()
    resampling = Resampling(np.where(entity >= 0, entity, -2 - image), draws)
    tables = [_table(revision, main) for revision in revisions]
    found = [_figures(table, labels, resampling, first, draws) for table in tables]
    differences = [_differences(found[0], other) for other in found[1:]]
    adjusted = _holm(differences)
    return [
        Comparison(
            first.name,
            other.name,
            (tables[0].seeds, table.seeds),
            len(pairs),
            resampling.count,
            differences[number],
            adjusted[number],
            _secondary(tables[0], table, labels, first),
        )
        for number, (other, table) in enumerate(zip(revisions[1:], tables[1:], strict=True))
    ]


def _table(revision: Revision, main: NDArray[np.bool_]) -> _Table:
    by_seed = [rows for _, rows in revision.predictions.groupby("seed", sort=True)]
    ranks = {
        str(direction): np.array(
            [part["rank"].to_numpy() for _, part in rows.groupby("seed", sort=True)]
        )
        for direction, rows in revision.ranks.groupby("direction", sort=False)
    }
    return _Table(
        np.array([rows["score"].to_numpy()[main] for rows in by_seed], dtype=np.float64),
        np.array([rows["called"].to_numpy()[main] for rows in by_seed], dtype=bool),
        ranks,
        len(by_seed),
    )


def _figures(
    table: _Table, labels: NDArray[np.int64], resampling: Resampling, first: Revision, draws: int
) -> _Found:
    # A call is a score of 1 or 0: the threshold is already in it.
    by_seed = []
    for scores, called in zip(table.scores, table.called, strict=True):
        of_calls = classification_metrics(called.astype(np.float64), labels, 0.5)
        of_scores = classification_metrics(scores, labels, 0.0)
        by_seed.append(
            {"accuracy": of_calls["accuracy"], "f1": of_calls["f1"]}
            | {name: of_scores[name] for name in ("auc", "average_precision")}
        )
    points = {name: np.array([found[name] for found in by_seed]) for name in FIGURES}
    drawn = decision_draws(table.scores, labels, table.called, resampling, FIGURES)
    counts = dict.fromkeys(FIGURES, resampling.count)
    for direction, ranks in table.ranks.items():
        queries = Resampling(_clusters(first, direction), draws)
        for name, values in ranking_values(ranks).items():
            if name in RANKING:
                points[f"{direction}.{name}"] = values.mean(axis=1)
                drawn[f"{direction}.{name}"] = mean_draws(values, queries)
                counts[f"{direction}.{name}"] = queries.count
    return _Found(points, drawn, counts)


def _differences(first: _Found, other: _Found) -> dict[str, Difference]:
    return {
        name: difference(
            first.points[name],
            other.points[name],
            first.draws[name],
            other.draws[name],
            first.clusters[name],
        )
        for name in first.points
    }


def _clusters(revision: Revision, direction: str) -> NDArray[np.int64]:
    rows = revision.ranks[revision.ranks["direction"] == direction]
    return rows[rows["seed"] == rows["seed"].iloc[0]]["cluster"].to_numpy()


def _holm(differences: list[dict[str, Difference]]) -> list[dict[str, float]]:
    from statsmodels.stats.multitest import multipletests

    flat = [found.p for by_name in differences for found in by_name.values()]
    adjusted = iter(multipletests(flat, method="holm")[1] if flat else [])
    return [{name: float(next(adjusted)) for name in by_name} for by_name in differences]


def _secondary(
    first: _Table, other: _Table, labels: NDArray[np.int64], revision: Revision
) -> dict[str, float]:
    from scipy.stats import rankdata

    right = [(table.called.mean(axis=0) > 0.5) == (labels == 1) for table in (first, other)]
    ranked = [rankdata(table.scores, axis=1).mean(axis=0) for table in (first, other)]
    found = {
        "mcnemar": mcnemar(right[0], right[1]),
        "delong": delong(ranked[0], ranked[1], labels),
    }
    for direction, ranks in first.ranks.items():
        before, after = ((1 / r).mean(axis=0) for r in (ranks, other.ranks[direction]))
        clusters = _clusters(revision, direction)
        found[f"randomisation.{direction}"] = randomisation(before, after, clusters)
    return found
