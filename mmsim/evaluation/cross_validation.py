"""Entity-grouped cross-validation of a head: trained and tested anew in each fold."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mmsim.data.tables import write_table
from mmsim.errors import UserError
from mmsim.evaluation.bootstrap import Resampling, decision_draws
from mmsim.evaluation.metrics import best_threshold, classification_metrics, over_seeds
from mmsim.evaluation.score import entity_clusters
from mmsim.evaluation.slices import primary, tier_rows
from mmsim.evaluation.summary import Decisions, Figures, with_interval
from mmsim.models.siamese import SiameseConfig
from mmsim.training.loop import TrainingRules, train_head
from mmsim.training.memory import FeatureMemory, Pairs
from mmsim.training.scoring import score_pairs

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("accuracy", "auc")


@dataclass(frozen=True)
class CrossValidation:
    """What the folds found.

    Attributes
    ----------
    metrics : dict
        ``folds``; under ``test`` and each tier of negatives: accuracy and auc with deviation
        over seeds and interval, and the number of pairs.
    predictions : DataFrame
        A row for each test pair of each fold and each seed.
    """

    metrics: dict[str, Any]
    predictions: pd.DataFrame


def cross_validate(
    folds: list[dict[str, pd.DataFrame]],
    config: SiameseConfig,
    rules: TrainingRules,
    memory: FeatureMemory,
    seeds: list[int],
    precision: torch.dtype,
    draws: int,
    report: Callable[[str], None],
) -> CrossValidation:
    """Train and test every seed in every fold.

    A figure is the mean over the folds, weighted by their pairs: scores of different heads have
    no common scale. Its interval draws the entities of each fold.

    Parameters
    ----------
    folds : list of dict of str to DataFrame
        Pairs of each fold by split, as `mmsim.data.folds.fold_pairs` gives them.
    report : callable
        Is told what was done, a line at a time.

    Raises
    ------
    UserError
        If a split of a fold lacks positives or negatives.
    """
    import pandas as pd

    decided: dict[str, list[Decisions]] = {}
    rows = []
    for number, tables in enumerate(folds):
        empty = [split for split, table in tables.items() if table["label"].nunique() < 2]
        if empty:
            raise UserError(
                f"fold {number} has no positive or no negative pair in {', '.join(empty)}; choose "
                f"fewer folds (evaluate.folds is {len(folds)}), or 0 for none"
            )
        pairs = _loaded(tables, memory)
        test = pairs["test"]
        decisions = _decisions(pairs, config, rules, memory, seeds, precision, draws)
        parts = {"test": primary(test.table)} | tier_rows(test.table)
        for name, chosen in parts.items():
            part = decisions.of(chosen)
            if part.has_both_labels:
                decided.setdefault(name, []).append(part)
        for seed, scores, called in zip(seeds, decisions.scores, decisions.called, strict=True):
            columns = {"fold": number, "seed": seed, "score": scores, "called": called}
            rows.append(test.table.assign(**columns))
        auc = np.mean([_figures(decisions.of(parts["test"]), s)["auc"] for s in range(len(seeds))])
        report(f"fold {number + 1} of {len(folds)}: {len(test):,} test pairs, AUC {auc:.4f}")
    metrics = {name: _over_folds(parts) for name, parts in decided.items()}
    return CrossValidation({"folds": len(folds)} | metrics, pd.concat(rows, ignore_index=True))


def _loaded(tables: dict[str, pd.DataFrame], memory: FeatureMemory) -> dict[str, Pairs]:
    with tempfile.TemporaryDirectory() as name:
        for split, table in tables.items():
            write_table(Path(name) / f"{split}.parquet", table)
        return {split: Pairs.load(Path(name) / f"{split}.parquet", memory) for split in tables}


def _decisions(
    pairs: dict[str, Pairs],
    config: SiameseConfig,
    rules: TrainingRules,
    memory: FeatureMemory,
    seeds: list[int],
    precision: torch.dtype,
    draws: int,
) -> Decisions:
    train, valid, test = pairs["train"], pairs["valid"], pairs["test"]
    statistics = memory.statistics(train.rows)
    scores, thresholds = [], []
    for seed in seeds:
        head = train_head(
            config, rules, memory, statistics, train, valid, seed, precision, lambda epoch: None
        )
        of_valid = score_pairs(head.model, memory, valid.rows)
        thresholds.append(best_threshold(of_valid, valid.labels.numpy().astype(np.int64)))
        scores.append(score_pairs(head.model, memory, test.rows))
    labels = test.labels.numpy().astype(np.int64)
    resampling = Resampling(entity_clusters(test), draws)
    return Decisions(np.array(scores), labels, np.array(thresholds), resampling)


def _figures(decisions: Decisions, seed: int) -> Figures:
    return classification_metrics(
        decisions.scores[seed], decisions.labels, float(decisions.thresholds[seed])
    )


def _over_folds(parts: list[Decisions]) -> Figures:
    sizes = np.array([len(part.labels) for part in parts], dtype=np.float64)
    weights = sizes / sizes.sum()
    seeds = range(len(parts[0].scores))
    by_seed = []
    for seed in seeds:
        found = [_figures(part, seed) for part in parts]
        by_seed.append({n: float(weights @ [figures[n] for figures in found]) for n in NAMES})
    means = over_seeds(by_seed)
    drawn = [
        decision_draws(part.scores, part.labels, part.called, part.resampling, NAMES)
        for part in parts
    ]
    summary: Figures = {"pairs": int(sizes.sum())}
    clusters = sum(part.resampling.count for part in parts)
    for name in NAMES:
        of_folds = np.array([found[name].mean(axis=0) for found in drawn])
        summary |= with_interval(name, means, weights @ of_folds, clusters)
    return summary
