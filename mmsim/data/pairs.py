"""Versioned lists of positive and negative pairs, one table a split.

Tasks
-----
match : query = an image, candidate = a caption. Positives: an image with its own caption
    (tier ``own_caption``) and, if asked for, with another caption of the same entity
    (``same_entity``).
pair : query and candidate are captioned images. Positives show the same entity
    (``same_entity``).

Each tier of positives gets negatives of its own (tier ``random``) with its own marginals. The
test split has harder negatives beside them (`mmsim.data.tiers`), which are reported apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsim.data.items import Items, ItemTable, Traits, load_items
from mmsim.data.negatives import deal_negatives
from mmsim.data.positives import own_captions, same_entity
from mmsim.data.release import SPLITS
from mmsim.data.seed_protocol import seed_pairs
from mmsim.data.tables import ENTITIES, IMAGES, INSTANCES, TEXTS, read_table, write_table
from mmsim.data.tiers import hard_negatives
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
    seed_protocol : bool
        pair: draw as the documents' own code does (`mmsim.data.seed_protocol`).
    """

    task: str
    max_pairs_per_entity: int
    same_entity: bool
    negatives: int
    seed: int
    seed_protocol: bool


def write_pairs(prepared: Path, destination: Path, rules: PairRules) -> pd.DataFrame:
    """Write ``{train,valid,test}.parquet`` and ``summary.json`` to the folder `destination`.

    Beside them, as for task link: ``texts.parquet``, the texts that are to be encoded (all
    captions), and ``entities.parquet``, the prepared entities.

    Columns: ``pair`` (row number), ``label`` (1 or 0), ``tier``, ``contrast`` (the tier of
    positives that the pair is measured with: a positive's own, or that of the positives whose
    marginals the negative has), ``entity`` (row number of an entity that the query shows, the
    pair's own one for a positive; -1 if it shows none), ``form`` (surface form that the query,
    or for a negative of tier same_form both sides, call an entity by; "" if none), and the row
    numbers ``query_image``, ``query_text``, ``candidate_image``, ``candidate_text`` of the two
    captioned images. In task match the query is ``query_image`` alone and the candidate
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
    if rules.seed_protocol:
        pairs = _by_seed_protocol(prepared, rules)
    else:
        pairs = {split: draw_pairs(table, split, rules) for split in SPLITS}
    empty = [split for split, rows in pairs.items() if rows["label"].nunique() < 2]
    if empty:
        raise UserError(_why_empty(table, empty, rules))
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
        for name in (TEXTS, ENTITIES):
            write_table(folder / name, read_table(prepared / name))
        summary = {"unusable_captions": table.unusable, "pairs": counts.to_dict("records")}
        write_json(folder / "summary.json", summary)
    return counts


def draw_pairs(
    table: ItemTable, split: str, rules: PairRules, entities: frozenset[int] | None = None
) -> pd.DataFrame:
    """Return the pairs of one split, positives first; columns as in `write_pairs`.

    With `entities` (row numbers), positives are of these entities alone.
    """
    import pandas as pd

    items = table.splits.get(split)
    if items is None:
        return pd.DataFrame({"label": []})
    shown = items if entities is None else items.showing_only(entities)
    ordered = rules.task == "match"
    tiers: dict[str, list[tuple[int, int]]] = {}
    taken: Counter[int] = Counter()
    if rules.task == "match":
        tiers["own_caption"] = own_captions(shown, table.entity_keys, rules.max_pairs_per_entity)
        if entities is not None:
            tiers["own_caption"] = [pair for pair in tiers["own_caption"] if shown.gold[pair[0]]]
        taken.update(gold for i, _ in tiers["own_caption"] for gold in shown.gold[i])
    if rules.task == "pair" or rules.same_entity:
        tiers["same_entity"] = same_entity(
            shown, table.entity_keys, rules.max_pairs_per_entity, taken, ordered
        )
    rng = _rng(rules, split)
    drawn = {pair for pairs in tiers.values() for pair in pairs}
    traits, parts = table.traits[split], []
    for tier, pairs in tiers.items():
        positives = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        rows = pair_rows(shown, positives, 1, tier, tier)
        parts.append(rows.assign(form=_forms(traits, positives, rows["entity"])))
        for _ in range(rules.negatives):
            negatives = deal_negatives(items, positives, rng, drawn, ordered)
            parts.append(pair_rows(items, negatives, 0, "random", tier).assign(form=""))
    if split == "test" and len(items):
        main, pairs = next(iter(tiers.items()))
        positives = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        cap = rules.max_pairs_per_entity
        hard = hard_negatives(items, traits, positives, drawn, cap, rules.task)
        for tier, found in hard.items():
            parts.append(pair_rows(items, found.pairs, 0, tier, main).assign(form=found.forms))
    rows = pd.concat(parts, ignore_index=True)
    rows.insert(0, "pair", range(len(rows)))
    return rows


def _rng(rules: PairRules, split: str) -> np.random.Generator:
    """Return a source of its own for each split: one's size does not move another's draw."""
    return np.random.default_rng([rules.seed, SPLITS.index(split)])


def _by_seed_protocol(prepared: Path, rules: PairRules) -> dict[str, pd.DataFrame]:
    mentions = read_table(prepared / INSTANCES)
    status = read_table(prepared / IMAGES).set_index("image")["status"]
    usable = status.loc[mentions["image"]].to_numpy() == "ok"
    mentions = mentions[usable & (mentions["mention"] != "")]
    return {
        split: seed_pairs(
            mentions[mentions["split"] == split], rules.max_pairs_per_entity, _rng(rules, split)
        )
        for split in SPLITS
    }


def pair_rows(
    items: Items, pairs: NDArray[np.int64], label: int, tier: str, contrast: str
) -> pd.DataFrame:
    """Return the rows of pairs of items, all of one label and tier; columns as in `write_pairs`.

    Parameters
    ----------
    pairs : ndarray of int64, shape (pairs, 2)
        Positions of query and candidate in `items`.
    """
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


def _forms(traits: Traits, positives: NDArray[np.int64], entities: Iterable[int]) -> list[str]:
    """Return the form by which each positive's query calls the pair's entity."""
    return [
        min((form for form, meant in traits.forms[query].items() if entity in meant), default="")
        for query, entity in zip(positives[:, 0].tolist(), entities, strict=True)
    ]


def _why_empty(table: ItemTable, empty: list[str], rules: PairRules) -> str:
    usable = {split: len(items) for split, items in table.splits.items()}
    needs = (
        "The documents' protocol needs two entities with two or more mentions in every split"
        if rules.seed_protocol
        else "This task compares images, so the data needs them in every split"
    )
    return (
        f"task {rules.task} finds no positive or no negative pair in {', '.join(empty)}: usable "
        f"captioned images by split {usable or 'none'}, captions without a usable image by "
        f"the image's status {table.unusable or 'none'}. {needs}"
    )
