"""One pass over the test pairs with every trained seed: figures, predictions, curves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmsim.evaluation.ambiguity import ambiguity_rates, ambiguity_scores
from mmsim.evaluation.baselines import MeanFeatures, Scores, baseline_scores
from mmsim.evaluation.calibration import calibration_figures, probabilities, reliability_points
from mmsim.evaluation.curves import confusion_rows, precision_recall_points, roc_points
from mmsim.evaluation.inputs import Data
from mmsim.evaluation.metrics import best_threshold, classification_metrics, over_seeds
from mmsim.evaluation.predictions import RANK_COLUMNS, decide, prediction_rows, rank_rows
from mmsim.evaluation.retrieval import Pool, retrieval_figures, retrieval_pool, retrieval_ranks
from mmsim.evaluation.score import SeedScores, projected_pairs, score_seeds
from mmsim.evaluation.slices import (
    attribute_rows,
    frequency_rows,
    leaked_rows,
    primary,
    seen_rows,
    tier_rows,
)
from mmsim.evaluation.summary import Decisions, Figures, summarize, with_interval
from mmsim.models.heads import PairHead
from mmsim.training.memory import FeatureMemory

if TYPE_CHECKING:
    import pandas as pd

SHORT = ("accuracy", "auc")
"""Figures of what is not all test pairs."""

SLICE_PAIRS = 10
"""Fewest pairs of a slice that is reported."""


@dataclass(frozen=True)
class Evaluation:
    """What the evaluation found.

    Attributes
    ----------
    metrics : dict
        Nested, finite scalars only: what ``metrics.json`` holds.
    predictions : DataFrame
        A row for each pair of valid and test and each seed: split, seed, the columns of
        `mmsim.evaluation.predictions.PREDICTION_COLUMNS`, score, called.
    ranks : DataFrame
        A row for each direction, query and seed (task match): direction, query, cluster, seed,
        rank.
    forms : DataFrame
        A row for each ambiguous surface form.
    curves : dict of str to DataFrame
        ``roc``, ``precision_recall``, ``confusion`` and ``reliability`` of the test pairs.
    """

    metrics: dict[str, Any]
    predictions: pd.DataFrame
    ranks: pd.DataFrame
    forms: pd.DataFrame
    curves: dict[str, pd.DataFrame]


def evaluate(
    models: dict[int, PairHead],
    memory: FeatureMemory,
    data: Data,
    draws: int = 2000,
    emap_pairs: int = 100,
) -> Evaluation:
    """Score the validation and test pairs with the model of each seed, and report on them.

    Parameters
    ----------
    models : dict of int to PairHead
        Trained heads by seed, on the device of `memory`.
    draws : int
        Draws of the bootstrap behind each interval.
    emap_pairs : int
        Test pairs of the EMAP projection.
    """
    pool = retrieval_pool(data.test.table) if data.task == "match" else None
    projected = projected_pairs(data.test, emap_pairs, data.task)
    scores = score_seeds(models, memory, data.valid, data.test, pool, projected)
    baselines = baseline_scores(data, MeanFeatures.of(memory))
    found = report(scores, baselines, data, pool, projected, draws)
    found.metrics["counts"]["parameters"] = sum(
        value.numel() for value in next(iter(models.values())).parameters()
    )
    return found


def report(
    scores: dict[int, SeedScores],
    baselines: dict[str, Scores],
    data: Data,
    pool: Pool | None,
    projected: NDArray[np.int64],
    draws: int,
) -> Evaluation:
    """Turn scores into figures; parameters as in `evaluate`.

    The threshold of each seed comes from its validation scores. Figures are means over seeds,
    with the standard deviation over them and the interval over entities beside them.
    """
    import pandas as pd

    seeds = list(scores.values())
    valid, all_test = decide(
        data.valid, data.test, [s.valid for s in seeds], [s.test for s in seeds], draws
    )
    main = primary(data.test.table)
    test = all_test.of(main)
    titles = data.entities.sort_values("entity")["title"].tolist()
    of_forms, forms = ambiguity_scores(all_test, data.test.table, data.instances, titles)
    calibration, chances = _calibration(valid, test)
    metrics: dict[str, Any] = {
        "test": summarize(test),
        "valid": summarize(valid),
        "tiers": _tiers(all_test, data, baselines),
        "baselines": _baselines(baselines, valid, test, main),
        "controls": _controls(seeds, test),
        "slices": _slices(all_test, data),
        "ambiguity": ambiguity_rates(data.instances) | of_forms,
        "calibration": calibration,
        "counts": {
            "valid_pairs": len(data.valid),
            "test_pairs": int(main.sum()),
            "test_entities": test.resampling.count,
            "seeds": len(seeds),
        },
    }
    if len(projected):
        metrics["emap"] = _emap(all_test, projected, np.array([s.emap for s in seeds]))
    ranks = pd.DataFrame(columns=RANK_COLUMNS)
    if pool is not None:
        by_direction = retrieval_ranks([s.pool for s in seeds], pool)
        metrics["retrieval"] = _retrieval(by_direction, pool, draws)
        ranks = rank_rows(by_direction, pool, list(scores))
    by_split = {"valid": (data.valid, valid), "test": (data.test, all_test)}
    return Evaluation(
        metrics,
        prediction_rows(list(scores), by_split),
        ranks,
        forms,
        {
            "roc": roc_points(test.labels, list(test.scores)),
            "precision_recall": precision_recall_points(test.labels, list(test.scores)),
            "confusion": confusion_rows(test.labels, list(test.called)),
            "reliability": reliability_points(chances, test.labels),
        },
    )


def _tiers(test: Decisions, data: Data, baselines: dict[str, Scores]) -> dict[str, Figures]:
    """Return the figures of each tier and, in task pair, what word overlap scores there."""
    rows = tier_rows(data.test.table)
    figures = _parts(test, rows, 2)
    if "caption_tfidf" in baselines:
        overlap = baselines["caption_tfidf"][1]
        for name, found in figures.items():
            of_words = classification_metrics(overlap[rows[name]], test.labels[rows[name]], 0.0)
            found["caption_tfidf_auc"] = of_words["auc"]
    return figures


def _slices(test: Decisions, data: Data) -> dict[str, Figures]:
    table, train = data.test.table, data.train.table
    rows = (
        attribute_rows(table, data.instances)
        | seen_rows(table, train)
        | leaked_rows(table, train, data.images, data.texts)
        | frequency_rows(table, data.instances)
    )
    return _parts(test, rows, SLICE_PAIRS)


def _parts(
    decisions: Decisions, rows: dict[str, NDArray[np.bool_]], fewest: int
) -> dict[str, Figures]:
    """Return the figures of parts of the pairs that have both labels and enough pairs."""
    found = {}
    for name, chosen in rows.items():
        part = decisions.of(chosen)
        if part.has_both_labels and len(part.labels) >= fewest:
            found[name] = {"pairs": len(part.labels)} | summarize(part, SHORT)
    return found


def _baselines(
    baselines: dict[str, Scores], valid: Decisions, test: Decisions, main: NDArray[np.bool_]
) -> dict[str, Figures]:
    found = {}
    for name, (of_valid, of_test) in baselines.items():
        threshold = np.array([best_threshold(of_valid, valid.labels)])
        decided = Decisions(of_test[None, main], test.labels, threshold, test.resampling)
        found[name] = summarize(decided)
    return found


def _controls(seeds: list[SeedScores], test: Decisions) -> dict[str, Figures]:
    return {
        name: summarize(replace(test, scores=np.array([s.controls[name] for s in seeds])), SHORT)
        for name in seeds[0].controls
    }


def _emap(test: Decisions, rows: NDArray[np.int64], projected: NDArray[np.float64]) -> Figures:
    """Return figures with and without interaction on the same pairs, and what it adds."""
    full = test.of(np.isin(np.arange(len(test.labels)), rows))
    without = replace(full, scores=projected)
    means = [over_seeds(part.figures()) for part in (full, without)]
    draws = [part.draws(SHORT) for part in (full, without)]
    means.append({name: means[0][name] - means[1][name] for name in SHORT})
    draws.append({name: draws[0][name] - draws[1][name] for name in SHORT})
    figures: Figures = {"pairs": len(rows)}
    parts = ("with_interaction", "without_interaction", "gap")
    for part, mean, drawn in zip(parts, means, draws, strict=True):
        for name in SHORT:
            found = with_interval(name, mean, drawn[name].mean(axis=0), full.resampling.count)
            figures |= {f"{part}_{key}": value for key, value in found.items()}
    return figures


def _calibration(valid: Decisions, test: Decisions) -> tuple[Figures, NDArray[np.float64]]:
    """Return the figures of calibration, and each seed's fitted chances of a match."""
    fitted = [
        probabilities(v, valid.labels, t) for v, t in zip(valid.scores, test.scores, strict=True)
    ]
    chances = np.array([p for p, _ in fitted])
    temperatures = [temperature for _, temperature in fitted]
    return calibration_figures(chances, temperatures, test.labels, test.resampling), chances


def _retrieval(ranks: dict[str, NDArray[np.float64]], pool: Pool, draws: int) -> dict[str, Any]:
    """Return the figures of each direction, dotted names turned into nested dictionaries."""
    nested: dict[str, Any] = {"pool_images": len(pool.images), "pool_texts": len(pool.texts)}
    for key, found in retrieval_figures(ranks, pool, draws).items():
        place = nested
        for name in key.split("."):
            place = place.setdefault(name, {})
        place.update(found)
    return nested
