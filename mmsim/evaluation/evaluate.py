"""One pass over the test pairs with every trained seed: figures, predictions, curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmsim.evaluation.ambiguity import ambiguity_rates, ambiguity_scores
from mmsim.evaluation.baselines import MeanFeatures, PairData, Scores, baseline_scores
from mmsim.evaluation.bootstrap import Resampling, decision_draws
from mmsim.evaluation.calibration import calibration_figures, probabilities, reliability_points
from mmsim.evaluation.curves import confusion_rows, precision_recall_points, roc_points
from mmsim.evaluation.metrics import best_threshold, classification_metrics
from mmsim.evaluation.predictions import RANK_COLUMNS, prediction_rows, rank_rows
from mmsim.evaluation.retrieval import Pool, retrieval_figures, retrieval_ranks
from mmsim.evaluation.score import (
    SeedScores,
    entity_clusters,
    projected_pairs,
    retrieval_pool,
    score_seed,
)
from mmsim.evaluation.slices import (
    attribute_rows,
    frequency_rows,
    leaked_rows,
    primary,
    seen_rows,
    tier_rows,
)
from mmsim.evaluation.summary import Decisions, Figures, summarize, with_interval
from mmsim.models.siamese import Siamese
from mmsim.training.memory import FeatureMemory, Pairs

if TYPE_CHECKING:
    import pandas as pd

SLICE_PAIRS = 10
"""Fewest pairs of a slice that is reported."""


@dataclass(frozen=True)
class Data:
    """What the heads are measured on.

    Attributes
    ----------
    task : {"match", "pair"}
    train, valid, test : Pairs
    instances, images, texts, entities : DataFrame
        The prepared tables.
    """

    task: str
    train: Pairs
    valid: Pairs
    test: Pairs
    instances: pd.DataFrame
    images: pd.DataFrame
    texts: pd.DataFrame
    entities: pd.DataFrame


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
    models: dict[int, Siamese],
    memory: FeatureMemory,
    data: Data,
    draws: int = 2000,
    emap_pairs: int = 100,
) -> Evaluation:
    """Score the validation and test pairs with the model of each seed, and report on them.

    Parameters
    ----------
    models : dict of int to Siamese
        Trained heads by seed, on the device of `memory`.
    draws : int
        Draws of the bootstrap behind each interval.
    emap_pairs : int
        Test pairs of the EMAP projection.
    """
    pool = retrieval_pool(data.test) if data.task == "match" else None
    projected = projected_pairs(data.test, emap_pairs, data.task)
    scores = {
        seed: score_seed(model, memory, data.valid, data.test, pool, projected)
        for seed, model in models.items()
    }
    baselines = baseline_scores(
        PairData(
            data.task,
            data.train,
            data.valid,
            data.test,
            data.texts.sort_values("text")["content"].tolist(),
            data.images.sort_values("image")["group"].to_numpy(),
        ),
        MeanFeatures.of(memory),
    )
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
    valid = _decisions(np.array([s.valid for s in seeds]), data.valid, draws)
    thresholds = np.array(
        [best_threshold(row, valid.labels) for row in valid.scores], dtype=np.float64
    )
    valid = Decisions(valid.scores, valid.labels, thresholds, valid.resampling)
    all_test = _decisions(np.array([s.test for s in seeds]), data.test, draws, thresholds)
    main = primary(data.test.table)
    test = all_test.of(main)
    metrics: dict[str, Any] = {"test": summarize(test), "valid": summarize(valid)}

    tiers = tier_rows(data.test.table)
    metrics["tiers"] = _parts(all_test, tiers, 2)
    if "caption_tfidf" in baselines:
        overlap = baselines["caption_tfidf"][1]
        for name, found in metrics["tiers"].items():
            rows = tiers[name]
            of_words = classification_metrics(overlap[rows], all_test.labels[rows], 0.0)
            found["caption_tfidf_auc"] = of_words["auc"]
    metrics["baselines"] = _baselines(baselines, data, test, main)
    metrics["controls"] = {
        name: summarize(
            Decisions(
                np.array([s.controls[name] for s in seeds]),
                test.labels,
                thresholds,
                test.resampling,
            ),
            ("accuracy", "auc"),
        )
        for name in seeds[0].controls
    }
    if len(projected):
        subset = np.zeros(len(data.test), dtype=bool)
        subset[projected] = True
        emap = np.array([s.emap for s in seeds])
        metrics["emap"] = _emap(all_test.of(subset), emap)

    metrics["slices"] = _parts(
        all_test,
        attribute_rows(data.test.table, data.instances)
        | seen_rows(data.test.table, data.train.table)
        | leaked_rows(data.test.table, data.train.table, data.images, data.texts)
        | frequency_rows(data.test.table, data.instances),
        SLICE_PAIRS,
    )
    titles = data.entities.sort_values("entity")["title"].tolist()
    ambiguity, forms = ambiguity_scores(all_test, data.test.table, data.instances, titles)
    metrics["ambiguity"] = ambiguity_rates(data.instances) | ambiguity

    fitted = [
        probabilities(v, valid.labels, t) for v, t in zip(valid.scores, test.scores, strict=True)
    ]
    chances = np.array([p for p, _ in fitted])
    temperatures = [temperature for _, temperature in fitted]
    metrics["calibration"] = calibration_figures(
        chances, temperatures, test.labels, test.resampling
    )
    ranks = pd.DataFrame(columns=RANK_COLUMNS)
    if pool is not None:
        by_direction = retrieval_ranks([s.pool for s in seeds if s.pool is not None], pool)
        metrics["retrieval"] = _nested(retrieval_figures(by_direction, pool, draws))
        metrics["retrieval"] |= {"pool_images": len(pool.images), "pool_texts": len(pool.texts)}
        ranks = rank_rows(by_direction, pool, list(scores))
    metrics["counts"] = {
        "valid_pairs": len(data.valid),
        "test_pairs": int(main.sum()),
        "test_entities": test.resampling.count,
        "seeds": len(seeds),
    }
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


def _decisions(
    scores: NDArray[np.floating],
    pairs: Pairs,
    draws: int,
    thresholds: NDArray[np.float64] | None = None,
) -> Decisions:
    labels = pairs.labels.numpy().astype(np.int64)
    if thresholds is None:
        thresholds = np.zeros(len(scores))
    return Decisions(scores, labels, thresholds, Resampling(entity_clusters(pairs), draws))


def _parts(
    decisions: Decisions, rows: dict[str, NDArray[np.bool_]], fewest: int
) -> dict[str, Figures]:
    """Return the figures of parts of the pairs that have both labels and enough pairs."""
    found = {}
    for name, chosen in rows.items():
        part = decisions.of(chosen)
        if part.has_both_labels and len(part.labels) >= fewest:
            names = ("accuracy", "auc")
            found[name] = {"pairs": len(part.labels)} | summarize(part, names)
    return found


def _baselines(
    baselines: dict[str, Scores],
    data: Data,
    test: Decisions,
    main: NDArray[np.bool_],
) -> dict[str, Figures]:
    valid_labels = data.valid.labels.numpy().astype(np.int64)
    found = {}
    for name, (of_valid, of_test) in baselines.items():
        threshold = np.array([best_threshold(of_valid, valid_labels)])
        decided = Decisions(of_test[None, main], test.labels, threshold, test.resampling)
        found[name] = summarize(decided)
    return found


def _emap(full: Decisions, projected: NDArray[np.float64]) -> Figures:
    """Return figures with and without interaction on the same pairs, and what it adds."""
    without = Decisions(projected, full.labels, full.thresholds, full.resampling)
    names = ("accuracy", "auc")
    figures: Figures = {"pairs": len(full.labels)}
    summaries = {"with_interaction": full, "without_interaction": without}
    draws = {}
    for part, decisions in summaries.items():
        found = summarize(decisions, names)
        figures |= {f"{part}_{key}": value for key, value in found.items()}
        draws[part] = decision_draws(
            decisions.scores, decisions.labels, decisions.called, decisions.resampling, names
        )
    for name in names:
        gap = {name: figures[f"with_interaction_{name}"] - figures[f"without_interaction_{name}"]}
        drawn = (draws["with_interaction"][name] - draws["without_interaction"][name]).mean(axis=0)
        figures |= {
            f"gap_{key}": value
            for key, value in with_interval(name, gap, drawn, full.resampling.count).items()
        }
    return figures


def _nested(figures: dict[str, Figures]) -> dict[str, Any]:
    """Turn dotted names into nested dictionaries."""
    nested: dict[str, Any] = {}
    for key, found in figures.items():
        place = nested
        for name in key.split("."):
            place = place.setdefault(name, {})
        place.update(found)
    return nested
