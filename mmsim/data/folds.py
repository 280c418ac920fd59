"""Entity-grouped cross-validation: every entity is tested by a head that never saw it.

A release's own test split holds few pairs of unseen entities. Here the items of all splits are
pooled and the entities dealt into folds by a stable hash. The test pairs of a fold have positives
of its entities alone; an item that shows one of them, or shares an image or a caption with such an
item, is in no training or validation pair of that fold. The next fold is its validation set.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, compress
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmsim.data.items import Items, ItemTable, Traits
from mmsim.data.pairs import PairRules, draw_pairs

if TYPE_CHECKING:
    import pandas as pd

Columns = TypeVar("Columns", Items, Traits)


def fold_pairs(table: ItemTable, folds: int, rules: PairRules) -> list[dict[str, pd.DataFrame]]:
    """Return the pairs of each fold, by split; columns as in `mmsim.data.pairs.write_pairs`.

    Parameters
    ----------
    folds : int
        Number of folds, 3 or more.
    """
    items, traits = _pooled(list(table.splits.values())), _pooled(list(table.traits.values()))
    fold_of = (table.entity_keys % np.uint64(folds)).astype(np.int64)
    return [
        _fold(items, traits, table.entity_keys, fold_of == n, fold_of == (n + 1) % folds, rules)
        for n in range(folds)
    ]


def _fold(
    items: Items,
    traits: Traits,
    entity_keys: NDArray[np.uint64],
    tested: NDArray[np.bool_],
    validated: NDArray[np.bool_],
    rules: PairRules,
) -> dict[str, pd.DataFrame]:
    test = _shows(items, tested)
    valid = _shows(items, validated) & ~_near(items, test)
    train = ~_near(items, test | valid)
    pairs = {}
    for split, rows, of in (
        ("train", train, None),
        ("valid", valid, validated),
        ("test", test, tested),
    ):
        part = ItemTable({split: _take(items, rows)}, {split: _take(traits, rows)}, entity_keys, {})
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


def _pooled(parts: list[Columns]) -> Columns:
    """Return the rows of all parts, one after the other."""
    joined: dict[str, Any] = {}
    for name, first in vars(parts[0]).items():
        lists = [getattr(part, name) for part in parts]
        joined[name] = list(chain(*lists)) if isinstance(first, list) else np.concatenate(lists)
    return replace(parts[0], **joined)


def _take(table: Columns, rows: NDArray[np.bool_]) -> Columns:
    taken: dict[str, Any] = {
        name: list(compress(column, rows)) if isinstance(column, list) else column[rows]
        for name, column in vars(table).items()
    }
    return replace(table, **taken)
