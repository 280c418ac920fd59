"""Parts of the test pairs that are reported apart: tiers, types, topics, seen and unseen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Rows = NDArray[np.bool_]

BANDS = ((0, "0"), (1, "1"), (5, "2_to_5"), (20, "6_to_20"))
"""Largest number of training mentions of each band, and its name; above is ``over_20``."""


def primary(pairs: pd.DataFrame) -> Rows:
    """Tell which pairs the main figures are of: positives, and negatives of their marginals."""
    return np.array((pairs["label"] == 1) | (pairs["tier"] == "random"), dtype=bool)


def tier_rows(pairs: pd.DataFrame) -> dict[str, Rows]:
    """Return the pairs of each tier, with what they are measured against.

    A tier of positives, where there are several: with the negatives of its marginals. A tier of
    hard negatives: with the positives that have one of its queries (task pair: on either side);
    if there are none, with all.
    """
    label, tier = pairs["label"].to_numpy(), pairs["tier"].to_numpy()
    contrast = pairs["contrast"].to_numpy()
    of_positives = dict.fromkeys(tier[label == 1])
    found: dict[str, Rows] = {}
    if len(of_positives) > 1:
        for name in of_positives:
            found[name] = (contrast == name) & primary(pairs)
    for name in dict.fromkeys(tier[(label == 0) & (tier != "random")]):
        negatives = (tier == name) & (label == 0)
        positives = (label == 1) & (contrast == contrast[negatives][0])
        shared = positives & _touches(pairs, negatives)
        found[name] = negatives | (shared if shared.any() else positives)
    return found


def _touches(pairs: pd.DataFrame, negatives: Rows) -> Rows:
    """Tell which pairs have an item that one of `negatives` has as its query.

    In task match the query is an image. In task pair the two sides are alike, and which of them
    is the query is chance: either may be that item.
    """
    if "own_caption" in set(pairs["contrast"]):
        return np.array(pairs["query_image"].isin(pairs["query_image"][negatives]), dtype=bool)
    query, candidate = (
        list(zip(pairs[f"{side}_image"], pairs[f"{side}_text"], strict=True))
        for side in ("query", "candidate")
    )
    wanted = {item for item, chosen in zip(query, negatives, strict=True) if chosen}
    return np.array(
        [one in wanted or other in wanted for one, other in zip(query, candidate, strict=True)],
        dtype=bool,
    )


def attribute_rows(pairs: pd.DataFrame, instances: pd.DataFrame) -> dict[str, Rows]:
    """Return the primary pairs of each entity type and each topic.

    A pair has the type of the mention of its entity in the query, and the query's topic.
    """
    by_caption = instances.groupby(["image", "text"], sort=False)["topic"].first()
    linked = instances[instances["entity"] >= 0]
    by_mention = linked.groupby(["image", "text", "entity"], sort=False)["type"].first()
    query = [pairs["query_image"], pairs["query_text"]]
    topics = by_caption.reindex(list(zip(*query, strict=True)))
    types = by_mention.reindex(list(zip(*query, pairs["entity"], strict=True)))
    found: dict[str, Rows] = {}
    for values in (types.to_numpy(), topics.to_numpy()):
        for value in sorted({str(v) for v in values if isinstance(v, str) and v}):
            name = slice_key(value)
            rows = (values == value) & primary(pairs)
            found[name] = found[name] | rows if name in found else rows
    return found


def seen_rows(pairs: pd.DataFrame, train: pd.DataFrame) -> dict[str, Rows]:
    """Return the primary pairs by whether their entities occur in the training pairs.

    ``seen_entity``: every entity of either side does. ``unseen_entity``: none does: this is the
    entity-disjoint test. Pairs without any entity are in neither.
    """
    known = set(_flat(train["query_gold"])) | set(_flat(train["candidate_gold"]))
    shown = [
        [entity in known for entity in (*query, *candidate)]
        for query, candidate in zip(pairs["query_gold"], pairs["candidate_gold"], strict=True)
    ]
    seen = np.array([bool(found) and all(found) for found in shown], dtype=bool)
    unseen = np.array([bool(found) and not any(found) for found in shown], dtype=bool)
    return {"seen_entity": seen & primary(pairs), "unseen_entity": unseen & primary(pairs)}


def leaked_rows(
    pairs: pd.DataFrame, train: pd.DataFrame, images: pd.DataFrame, texts: pd.DataFrame
) -> dict[str, Rows]:
    """Return the primary pairs by whether training has seen an image or caption of theirs.

    Near-identical images and captions count as the same. `prepare` leaves none across splits, so
    both are empty but for data that leaks; then the two show what the leak is worth.
    """
    shared = np.zeros(len(pairs), dtype=bool)
    for name, table in (("image", images), ("text", texts)):
        group = table.set_index(name)["group"]
        sides = [f"query_{name}", f"candidate_{name}"]
        known = set(group.loc[train[sides].to_numpy().ravel()])
        for side in sides:
            shared |= group.loc[pairs[side]].isin(known).to_numpy()
    if not shared.any():
        return {}
    main = primary(pairs)
    return {"shared_with_training": shared & main, "not_shared_with_training": ~shared & main}


def frequency_rows(pairs: pd.DataFrame, instances: pd.DataFrame) -> dict[str, Rows]:
    """Return the primary pairs by the number of training mentions of their entity."""
    counts = instances.loc[instances["split"] == "train", "entity"].value_counts()
    number = counts.reindex(pairs["entity"], fill_value=0).to_numpy()
    found: dict[str, Rows] = {}
    low = -1.0
    for high, name in (*BANDS, (np.inf, "over_20")):
        rows = (number > low) & (number <= high) & (pairs["entity"] >= 0).to_numpy()
        found[f"training_mentions_{name}"] = rows & primary(pairs)
        low = high
    return found


def _flat(lists: Iterable[Iterable[int]]) -> list[int]:
    return [int(value) for values in lists for value in values]


def slice_key(name: str) -> str:
    """Return a name as a key of metrics.json: DVC splits keys at dots."""
    return "_".join(name.replace(".", " ").split())
