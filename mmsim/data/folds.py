"""Entity-grouped cross-validation: every entity is tested by a head that never saw it.

A release's own test split holds few pairs of unseen entities. Here the items of all splits are
pooled and the entities dealt into folds by a stable hash. The test pairs of a fold have positives
of its entities alone; an item that shows one of them, or shares an image or a caption with such an
item, is in no training or validation pair of that fold. The next fold is its validation set.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsim.data.items import Items, ItemTable, Traits
from mmsim.data.pairs import PairRules, draw_pairs
from mmsim.data.release import SPLITS

if TYPE_CHECKING:
    import pandas as pd


def fold_pairs(table: ItemTable, folds: int, rules: PairRules) -> list[dict[str, pd.DataFrame]]:
    """Return the pairs of each fold, by split; columns as in `mmsim.data.pairs.write_pairs`.

    Parameters
    ----------
    folds : int
        Number of folds, 3 or more.
    """
    items, traits = _pooled(table)
    fold_of = (table.entity_keys % np.uint64(folds)).astype(np.int64)
    return [_fold(table, items, traits, fold_of, fold, folds, rules) for fold in range(folds)]


def _fold(
    table: ItemTable,
    items: Items,
    traits: Traits,
    fold_of: NDArray[np.int64],
    fold: int,
    folds: int,
    rules: PairRules,
) -> dict[str, pd.DataFrame]:
    test = _shows(items, fold_of == fold)
    valid = _shows(items, fold_of == (fold + 1) % folds) & ~_near(items, test)
    train = ~_near(items, test | valid)
    pairs = {}
    for split, rows, of in zip(
        SPLITS,
        (train, valid, test),
        (None, fold_of == (fold + 1) % folds, fold_of == fold),
        strict=True,
    ):
        part = ItemTable(
            {split: _take(items, rows)}, {split: _take_traits(traits, rows)}, table.entity_keys, {}
        )
        entities = None if of is None else frozenset(np.flatnonzero(of).tolist())
        pairs[split] = draw_pairs(part, split, rules, entities)
    return pairs


def _shows(items: Items, wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.array([any(wanted[entity] for entity in gold) for gold in items.gold], dtype=bool)


def _near(items: Items, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which items are among `rows`, or share an image or a caption with one of them."""
    return np.isin(items.image_group, items.image_group[rows]) | np.isin(
        items.text_group, items.text_group[rows]
    )


def _pooled(table: ItemTable) -> tuple[Items, Traits]:
    parts, traits = list(table.splits.values()), list(table.traits.values())

    def joined(name: str) -> NDArray[np.int64]:
        return np.concatenate([getattr(part, name) for part in parts])

    items = Items(
        joined("image"),
        joined("text"),
        joined("image_group"),
        joined("text_group"),
        [gold for part in parts for gold in part.gold],
        np.concatenate([part.key for part in parts]),
    )
    lists = {
        field.name: [value for part in traits for value in getattr(part, field.name)]
        for field in dataclasses.fields(Traits)
    }
    return items, Traits(**lists)


def _take(items: Items, rows: NDArray[np.bool_]) -> Items:
    chosen = np.flatnonzero(rows)
    return Items(
        items.image[chosen],
        items.text[chosen],
        items.image_group[chosen],
        items.text_group[chosen],
        [items.gold[i] for i in chosen],
        items.key[chosen],
    )


def _take_traits(traits: Traits, rows: NDArray[np.bool_]) -> Traits:
    chosen = np.flatnonzero(rows)
    return Traits(
        **{
            field.name: [getattr(traits, field.name)[i] for i in chosen]
            for field in dataclasses.fields(Traits)
        }
    )
