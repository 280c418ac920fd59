"""Figures of linking: each protocol in a block of its own, baselines, controls, slices.

==========  ====================================================================================
protocol    what each test mention is ranked against
==========  ====================================================================================
candidates  its released list, with nothing added. A mention whose gold is not there, or that is
            in no knowledge base (NIL), is an error: this is the task as a linker meets it
injected    the same with the gold added where it is absent, NIL mentions left out: easier, and
            to be compared with published figures of that kind alone
pool        all entities, NIL mentions left out
==========  ====================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmsim.evaluation.ambiguity import ambiguity_rates
from mmsim.evaluation.bootstrap import Resampling
from mmsim.evaluation.linking.baselines import BaselineScores
from mmsim.evaluation.linking.lists import (
    ABSENT,
    LinkTables,
    candidate_lists,
    gold_entities,
    mention_clusters,
)
from mmsim.evaluation.linking.predictions import form_rows, hit_rows, prediction_rows, rank_rows
from mmsim.evaluation.linking.ranks import (
    Values,
    chance_values,
    list_ranks,
    rank_values,
    value_figures,
)
from mmsim.evaluation.linking.scores import SeedLinkScores
from mmsim.evaluation.linking.slices import slice_rows
from mmsim.evaluation.summary import Figures

if TYPE_CHECKING:
    import pandas as pd

SLICE_MENTIONS = 10
"""Fewest mentions of a slice that is reported."""

HEADLINE = ("hits_at_1", "hits_at_3", "hits_at_5", "mrr")
SHORT = ("hits_at_1", "mrr")


@dataclass(frozen=True)
class LinkEvaluation:
    """What the evaluation found.

    Attributes
    ----------
    metrics : dict
        Nested, finite scalars only: what ``metrics.json`` holds.
    predictions, ranks, forms : DataFrame
        See `mmsim.evaluation.linking.predictions`.
    curves : dict of str to DataFrame
        ``hits``: by k, the share of test mentions whose gold is among the first k, of each
        protocol.
    """

    metrics: dict[str, Any]
    predictions: pd.DataFrame
    ranks: pd.DataFrame
    forms: pd.DataFrame
    curves: dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Protocol:
    """What the mentions of one split are ranked against, and which of them count.

    Attributes
    ----------
    rows : ndarray of bool, shape (mentions,)
        The mentions that count.
    lists : ndarray of int64, shape (mentions, L + 1)
        Entities that each mention is ranked against, in the columns of `candidate_lists`.
    gold, clusters : ndarray of int64, shape (mentions,)
    draws : int
    """

    rows: NDArray[np.bool_]
    lists: NDArray[np.int64]
    gold: NDArray[np.int64]
    clusters: NDArray[np.int64]
    draws: int

    @classmethod
    def candidates(cls, mentions: pd.DataFrame, draws: int) -> Protocol:
        """Return the protocol in which the last column, that of injected golds, is no candidate."""
        lists = candidate_lists(mentions)
        lists[:, -1] = ABSENT
        every = np.ones(len(lists), dtype=bool)
        return cls(every, lists, gold_entities(mentions), mention_clusters(mentions), draws)

    @classmethod
    def injected(cls, mentions: pd.DataFrame, draws: int) -> Protocol:
        """Return the protocol with every gold in its list."""
        gold, clusters = gold_entities(mentions), mention_clusters(mentions)
        return cls(gold != ABSENT, candidate_lists(mentions), gold, clusters, draws)

    @property
    def resampling(self) -> Resampling:
        """Draws over the mentions that count."""
        return Resampling(self.clusters[self.rows], self.draws)

    def ranks(self, scores: list[NDArray[np.floating]]) -> NDArray[np.float64]:
        """Return the ranks of the mentions that count, shape (seeds, counted mentions)."""
        lists, gold = self.lists[self.rows], self.gold[self.rows]
        return np.array([list_ranks(s[self.rows], lists, gold) for s in scores])

    def chance(self) -> Values:
        """Return what a ranking by lot gives on average."""
        lists, gold = self.lists[self.rows], self.gold[self.rows]
        there = lists != ABSENT
        return chance_values(there.sum(axis=1), (there & (lists == gold[:, None])).any(axis=1))


def report(
    scores: dict[int, SeedLinkScores],
    baselines: dict[str, BaselineScores],
    tables: LinkTables,
    instances: pd.DataFrame,
    draws: int = 2000,
) -> LinkEvaluation:
    """Turn scores into figures.

    Figures are means over seeds, with the standard deviation over them and the interval over gold
    entities beside them.

    Parameters
    ----------
    scores : dict of int to SeedLinkScores
        By seed.
    baselines : dict of str to BaselineScores
        From `mmsim.evaluation.linking.baselines.baseline_scores`.
    tables : LinkTables
    instances : DataFrame
        The prepared table, for the rates of ambiguity.
    draws : int
        Draws of the bootstrap behind each interval.
    """
    seeds, test = list(scores.values()), tables.test
    released = Protocol.candidates(test, draws)
    injected = Protocol.injected(test, draws)
    ranks = {
        "candidates": released.ranks([s.test for s in seeds]),
        "injected": injected.ranks([s.test for s in seeds]),
        "pool": np.array([s.pool_ranks for s in seeds]),
    }
    values = {name: rank_values(found) for name, found in ranks.items()}
    main = values["candidates"]

    metrics: dict[str, Any] = {}
    if len(tables.valid):
        metrics["valid"] = _figures(
            Protocol.candidates(tables.valid, draws), [s.valid for s in seeds]
        )
    retrieved = {"retrieved": np.array([s.retrieved for s in seeds], dtype=np.float64)}
    metrics["link"] = value_figures(main, released.resampling, HEADLINE) | {
        "candidates": value_figures(main, released.resampling),
        "injected": value_figures(values["injected"], injected.resampling)
        | {"baselines": _baselines(baselines, injected)},
        "pool": value_figures(values["pool"] | retrieved, injected.resampling)
        | {"baselines": _pool_baselines(baselines, injected, len(tables.entities))},
    }
    metrics["baselines"] = _baselines(baselines, released)
    metrics["margins"] = {
        name: value_figures(
            {"mrr": main["mrr"] - 1 / released.ranks([rule.lists])}, released.resampling
        )
        for name, rule in baselines.items()
    }
    metrics["controls"] = {
        name: _figures(released, [s.controls[name] for s in seeds], SHORT)
        for name in seeds[0].controls
    }
    metrics["slices"] = {
        name: {"mentions": int(rows.sum())}
        | value_figures(
            {figure: main[figure][:, rows] for figure in SHORT},
            released.resampling.of(rows),
        )
        for name, rows in slice_rows(tables).items()
        if rows.sum() >= SLICE_MENTIONS
    }
    metrics["ambiguity"] = ambiguity_rates(instances)
    metrics["counts"] = {
        "valid_mentions": len(tables.valid),
        "test_mentions": len(test),
        "test_entities": released.resampling.count,
        "nil_mentions": int((~injected.rows).sum()),
        "entities": len(tables.entities),
        "seeds": len(seeds),
    }
    by_split = {"valid": (tables.valid, [s.valid for s in seeds])} if len(tables.valid) else {}
    by_split["test"] = (test, [s.test for s in seeds])
    return LinkEvaluation(
        metrics,
        prediction_rows(list(scores), by_split),
        rank_rows(ranks, test, list(scores)),
        form_rows(tables, main["hits_at_1"]),
        {"hits": hit_rows(ranks)},
    )


def _figures(
    protocol: Protocol, scores: list[NDArray[np.floating]], names: tuple[str, ...] | None = None
) -> Figures:
    return value_figures(rank_values(protocol.ranks(scores)), protocol.resampling, names)


def _baselines(baselines: dict[str, BaselineScores], protocol: Protocol) -> dict[str, Figures]:
    """Return the figures of every baseline and of chance on lists."""
    found = {name: _figures(protocol, [scores.lists]) for name, scores in baselines.items()}
    return found | {"chance": value_figures(protocol.chance(), protocol.resampling)}


def _pool_baselines(
    baselines: dict[str, BaselineScores], linked: Protocol, entities: int
) -> dict[str, Figures]:
    """Return the figures of every baseline that ranks all entities, and of chance."""
    count = int(linked.rows.sum())
    values = {
        name: rank_values(scores.pool_ranks[None])
        for name, scores in baselines.items()
        if scores.pool_ranks is not None
    }
    values["chance"] = chance_values(np.full(count, entities), np.ones(count, dtype=bool))
    return {name: value_figures(found, linked.resampling) for name, found in values.items()}
