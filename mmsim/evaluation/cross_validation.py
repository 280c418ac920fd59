"""Entity-grouped cross-validation of a head: trained and tested anew in each fold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mmsim.data.release import SPLITS
from mmsim.errors import UserError
from mmsim.evaluation.metrics import over_seeds
from mmsim.evaluation.predictions import decide
from mmsim.evaluation.slices import primary, tier_rows
from mmsim.evaluation.summary import Decisions, Figures, with_interval
from mmsim.models.heads import PairConfig, PairHead
from mmsim.training.fit import TrainingRules
from mmsim.training.loop import train_head
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
    config: PairConfig,
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
        train, valid, test = (
            Pairs.of(tables[split], memory, f"fold {number}, {split}") for split in SPLITS
        )
        of_valid, of_test = [], []
        for head in trained_heads(config, rules, memory, train, valid, seeds, precision):
            of_valid.append(score_pairs(head, memory, valid.rows))
            of_test.append(score_pairs(head, memory, test.rows))
        _, decisions = decide(valid, test, of_valid, of_test, draws)
        parts = {"test": primary(test.table)} | tier_rows(test.table)
        for name, chosen in parts.items():
            part = decisions.of(chosen)
            if part.has_both_labels:
                decided.setdefault(name, []).append(part)
        for seed, scores, called in zip(seeds, decisions.scores, decisions.called, strict=True):
            columns = {"fold": number, "seed": seed, "score": scores, "called": called}
            rows.append(test.table.assign(**columns))
        auc = np.mean([figures["auc"] for figures in decisions.of(parts["test"]).figures()])
        report(f"fold {number + 1} of {len(folds)}: {len(test):,} test pairs, AUC {auc:.4f}")
    metrics = {name: _over_folds(parts) for name, parts in decided.items()}
    return CrossValidation({"folds": len(folds)} | metrics, pd.concat(rows, ignore_index=True))


def trained_heads(
    config: PairConfig,
    rules: TrainingRules,
    memory: FeatureMemory,
    train: Pairs,
    valid: Pairs,
    seeds: Iterable[int],
    precision: torch.dtype,
) -> Iterator[PairHead]:
    """Yield the trained head of each seed."""
    statistics = memory.statistics(train.rows)
    for seed in seeds:
        yield train_head(
            config, rules, memory, statistics, train, valid, seed, precision, lambda epoch: None
        ).model


def _over_folds(parts: list[Decisions]) -> Figures:
    sizes = [len(part.labels) for part in parts]
    weights = np.array(sizes) / sum(sizes)
    by_seed = [
        {name: float(weights @ [figures[name] for figures in of_folds]) for name in NAMES}
        for of_folds in zip(*(part.figures() for part in parts), strict=True)
    ]
    means, drawn = over_seeds(by_seed), [part.draws(NAMES) for part in parts]
    clusters = sum(part.resampling.count for part in parts)
    summary: Figures = {"pairs": sum(sizes)}
    for name in NAMES:
        of_folds = np.array([found[name].mean(axis=0) for found in drawn])
        summary |= with_interval(name, means, weights @ of_folds, clusters)
    return summary
