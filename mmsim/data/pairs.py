"""Versioned lists of positive and negative pairs, one table a split.

Tasks
-----
match : query = an image, candidate = a caption. Positives: an image with its own caption
    (tier ``own_caption``) and, if asked for, with another caption of the same entity
    (``same_entity``).
pair : query and candidate are captioned images. Positives show the same entity
    (``same_entity``).

Each tier of positives gets negatives of its own (tier ``random``) with its own marginals.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsim.data.items import Items, ItemTable, load_items
from mmsim.data.negatives import deal_negatives
from mmsim.data.positives import own_captions, same_entity
from mmsim.data.release import SPLITS
from mmsim.data.tables import write_table
from mmsim.errors import UserError
from mmsim.files import replacing_folder, write_json

if TYPE_CHECKING:
    import pandas as pd

NO_ENTITY = -1


@dataclass(frozen=True)
class PairRules:
    """How pairs are drawn.

    Attributes
    ----------
    task : {"match", "pair"}
    max_pairs_per_entity : int
        Positives for each entity at most.
    same_entity : bool
        match: add the tier of other captions of the same entity.
    negatives : int
        Negatives for each positive.
    seed : int
        Seed of the draw of negatives.
    """

    task: str
    max_pairs_per_entity: int
    same_entity: bool
    negatives: int
    seed: int


def write_pairs(prepared: Path, destination: Path, rules: PairRules) -> pd.DataFrame:
    """Write ``{train,valid,test}.parquet`` and ``summary.json`` to the folder `destination`.

    Columns: ``pair`` (row number), ``label`` (1 or 0), ``tier``, ``contrast`` (the tier of
    positives that the pair is measured with: a positive's own, or that of the positives whose
    marginals the negative has), ``entity`` (row number of an
    entity that the query shows, the pair's own one for a positive; -1 if it shows none), and
    the row numbers ``query_image``, ``query_text``, ``candidate_image``, ``candidate_text`` of
    the two captioned images. In task match the query is ``query_image`` alone and the candidate
    ``candidate_text`` alone; the other two say where they come from. ``query_gold`` and
    ``candidate_gold`` list the entities that each shows.

    Returns
    -------
    DataFrame
        Number of pairs by split, tier and label.

    Raises
    ------
    UserError
        If a split would have no pair at all.
    """
    import pandas as pd

    table = load_items(prepared)
    pairs = {split: draw_pairs(table, split, rules) for split in SPLITS}
    empty = [split for split, rows in pairs.items() if rows["label"].nunique() < 2]
    if empty:
        raise UserError(_why_empty(table, empty, rules.task))
    counts = (
        pd.concat([rows.assign(split=split) for split, rows in pairs.items()])
        .groupby(["split", "tier", "label"], sort=False)
        .size()
        .rename("pairs")
        .reset_index()
    )
    with replacing_folder(destination) as folder:
        for split, rows in pairs.items():
            write_table(folder / f"{split}.parquet", rows)
        summary = {"unusable_captions": table.unusable, "pairs": counts.to_dict("records")}
        write_json(folder / "summary.json", summary)
    return counts


def draw_pairs(table: ItemTable, split: str, rules: PairRules) -> pd.DataFrame:
    """Return the pairs of one split, positives first; columns as in `write_pairs`."""
    import pandas as pd

    items = table.splits.get(split)
    if items is None:
        return pd.DataFrame({"label": []})
    ordered = rules.task == "match"
    tiers: dict[str, list[tuple[int, int]]] = {}
    taken: Counter[int] = Counter()
    if rules.task == "match":
        tiers["own_caption"] = own_captions(items, table.entity_keys, rules.max_pairs_per_entity)
        taken.update(gold for i, _ in tiers["own_caption"] for gold in items.gold[i])
    if rules.task == "pair" or rules.same_entity:
        tiers["same_entity"] = same_entity(
            items, table.entity_keys, rules.max_pairs_per_entity, taken, ordered
        )
    # The seed of each split is its own, so that one split's size does not move another's draw.
    rng = np.random.default_rng([rules.seed, SPLITS.index(split)])
    drawn = {pair for pairs in tiers.values() for pair in pairs}
    parts = []
    for tier, pairs in tiers.items():
        positives = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        parts.append(_rows(items, positives, 1, tier, tier))
        for _ in range(rules.negatives):
            negatives = deal_negatives(items, positives, rng, drawn, ordered)
            parts.append(_rows(items, negatives, 0, "random", tier))
    rows = pd.concat(parts, ignore_index=True)
    rows.insert(0, "pair", range(len(rows)))
    return rows


def _rows(
    items: Items, pairs: NDArray[np.int64], label: int, tier: str, contrast: str
) -> pd.DataFrame:
    import pandas as pd

    query, candidate = pairs[:, 0], pairs[:, 1]
    return pd.DataFrame(
        {
            "label": np.full(len(pairs), label, dtype=np.int8),
            "tier": tier,
            "contrast": contrast,
            "entity": [
                min((items.gold[i] & items.gold[j]) or items.gold[i], default=NO_ENTITY)
                for i, j in pairs
            ],
            "query_image": items.image[query],
            "query_text": items.text[query],
            "candidate_image": items.image[candidate],
            "candidate_text": items.text[candidate],
            "query_gold": [sorted(items.gold[i]) for i in query],
            "candidate_gold": [sorted(items.gold[i]) for i in candidate],
        }
    ).astype({"entity": np.int64, "tier": str})


def _why_empty(table: ItemTable, empty: list[str], task: str) -> str:
    usable = {split: len(items) for split, items in table.splits.items()}
    return (
        f"task {task} finds no positive or no negative pair in {', '.join(empty)}: usable "
        f"captioned images by split {usable or 'none'}, captions without a usable image by "
        f"the image's status {table.unusable or 'none'}. This task compares images, so "
        f"the data needs them in every split"
    )
