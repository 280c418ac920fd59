"""What each seed's head says of the pairs, and tables of it: a row a pair, a row a query."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsim.evaluation.bootstrap import Resampling
from mmsim.evaluation.metrics import best_threshold
from mmsim.evaluation.summary import Decisions

if TYPE_CHECKING:
    import pandas as pd

    from mmsim.evaluation.retrieval import Pool
    from mmsim.training.memory import Pairs

PREDICTION_COLUMNS = [
    "pair",
    "label",
    "tier",
    "contrast",
    "entity",
    "form",
    "query_image",
    "query_text",
    "candidate_image",
    "candidate_text",
]
RANK_COLUMNS = ["direction", "query", "cluster", "seed", "rank"]


def entity_clusters(pairs: pd.DataFrame) -> NDArray[np.int64]:
    """Return the cluster of each pair: its entity, or where it has none, its query alone."""
    entity, image = pairs["entity"].to_numpy(), pairs["query_image"].to_numpy()
    return np.where(entity >= 0, entity, -2 - image)


def decide(
    valid: Pairs,
    test: Pairs,
    of_valid: list[NDArray[np.float32]],
    of_test: list[NDArray[np.float32]],
    draws: int,
) -> tuple[Decisions, Decisions]:
    """Return the decisions on both splits by the scores of each seed.

    The threshold of a seed is the best one for its validation scores.
    """
    labels = [pairs.labels.numpy().astype(np.int64) for pairs in (valid, test)]
    thresholds = np.array([best_threshold(scores, labels[0]) for scores in of_valid])
    resampling = [Resampling(entity_clusters(pairs.table), draws) for pairs in (valid, test)]
    return (
        Decisions(np.array(of_valid), labels[0], thresholds, resampling[0]),
        Decisions(np.array(of_test), labels[1], thresholds, resampling[1]),
    )


def prediction_rows(seeds: list[int], splits: dict[str, tuple[Pairs, Decisions]]) -> pd.DataFrame:
    """Return a row for each split, seed and pair: what the pair is, its score, and the call."""
    import pandas as pd

    rows = []
    for split, (pairs, decisions) in splits.items():
        for seed, scores, called in zip(seeds, decisions.scores, decisions.called, strict=True):
            columns = {"split": split, "seed": seed, "score": scores, "called": called}
            rows.append(pairs.table[PREDICTION_COLUMNS].assign(**columns))
    return pd.concat(rows, ignore_index=True)


def rank_rows(ranks: dict[str, NDArray[np.float64]], pool: Pool, seeds: list[int]) -> pd.DataFrame:
    """Return a row for each direction, seed and query: the rank of its first right answer."""
    import pandas as pd

    sides = {
        "image_to_text": (pool.images, pool.image_clusters),
        "text_to_image": (pool.texts, pool.text_clusters),
    }
    rows = []
    for direction, (queries, clusters) in sides.items():
        for seed, found in zip(seeds, ranks[direction], strict=True):
            columns = {"direction": direction, "query": queries, "cluster": clusters}
            rows.append(pd.DataFrame(columns | {"seed": seed, "rank": found}))
    return pd.concat(rows, ignore_index=True)
