"""The pair protocol of the documents' own code, faults included, to set their figures beside ours.

For each entity with two or more mentions in a split: at most 100 positives, drawn from all pairs
of its mentions; as many negatives in all, each of two entities and a mention of each, drawn
evenly. What is wrong with it, on purpose: NIL counts as one entity; two mentions may share their
image, their caption or both; the entities of negatives are drawn evenly, those of positives by
frequency, so that one side alone betrays the label; a negative may share an image, a caption or
another gold entity.

Not rebuilt: spellings of one address counted as several entities (`prepare` has joined them), and
pairs drawn anew in each run.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

TIER = "same_entity"


def seed_pairs(mentions: pd.DataFrame, cap: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw the pairs of one split.

    Parameters
    ----------
    mentions : DataFrame
        The split's rows of instances.parquet that have a mention: image, text, entity (-1: NIL).
    cap : int
        Positives for each entity at most.
    rng : Generator
        Source of the draw.

    Returns
    -------
    DataFrame
        Columns as in `mmsim.data.pairs.write_pairs`, ``form`` empty, positives first.
    """
    import pandas as pd

    groups = [
        rows
        for rows in mentions.reset_index(drop=True).groupby("entity").indices.values()
        if len(rows) > 1
    ]
    positives: list[tuple[int, int]] = []
    for rows in groups:
        possible = list(combinations(rows.tolist(), 2))
        chosen = rng.permutation(len(possible))[:cap]
        positives += [possible[i] for i in sorted(chosen)]
    negatives: list[tuple[int, int]] = []
    while len(groups) > 1 and len(negatives) < len(positives):
        first, second = rng.choice(len(groups), 2, replace=False)
        negatives.append((int(rng.choice(groups[first])), int(rng.choice(groups[second]))))
    pairs = np.array(positives + negatives, dtype=np.int64).reshape(-1, 2)
    query, candidate = mentions.iloc[pairs[:, 0]], mentions.iloc[pairs[:, 1]]
    return pd.DataFrame(
        {
            "pair": range(len(pairs)),
            "label": np.repeat([1, 0], [len(positives), len(negatives)]).astype(np.int8),
            "tier": [TIER] * len(positives) + ["random"] * len(negatives),
            "contrast": TIER,
            "entity": query["entity"].to_numpy(),
            "query_image": query["image"].to_numpy(),
            "query_text": query["text"].to_numpy(),
            "candidate_image": candidate["image"].to_numpy(),
            "candidate_text": candidate["text"].to_numpy(),
            "query_gold": [[entity] if entity >= 0 else [] for entity in query["entity"]],
            "candidate_gold": [[entity] if entity >= 0 else [] for entity in candidate["entity"]],
            "form": "",
        }
    )
