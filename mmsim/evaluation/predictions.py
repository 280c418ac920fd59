"""Tables of what each seed's head says: a row for each pair, and for each query of a ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsim.evaluation.retrieval import Pool
from mmsim.evaluation.summary import Decisions
from mmsim.training.memory import Pairs

if TYPE_CHECKING:
    import pandas as pd

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
