"""Mentions of task link, their candidate lists, and which of them stand or fall together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

ABSENT = -1
"""Entity row number of padding, and of a gold that is in no knowledge base (NIL)."""


@dataclass(frozen=True)
class LinkTables:
    """What heads and baselines are measured on.

    Attributes
    ----------
    train, valid, test : DataFrame
        A row for each mention, columns as of `mmsim.data.mentions.write_mentions`; training and
        validation may have no rows.
    entities : DataFrame
        Every gold and candidate entity, in the order of their row numbers.
    """

    train: pd.DataFrame
    valid: pd.DataFrame
    test: pd.DataFrame
    entities: pd.DataFrame


def gold_entities(mentions: pd.DataFrame) -> NDArray[np.int64]:
    """Return the row number of each mention's gold entity, `ABSENT` for NIL."""
    return mentions["entity"].to_numpy(dtype=np.int64)


def candidate_lists(mentions: pd.DataFrame) -> NDArray[np.int64]:
    """Return each mention's candidates and, in a column of its own, a gold that is not among them.

    One array thus serves two protocols: without the last column it holds what the release
    lists, with it every gold.

    Returns
    -------
    ndarray of int64, shape (mentions, L + 1)
        Columns 0 to L - 1: the mention's own candidates in the release's order, `ABSENT` behind
        them up to the longest list. Column L: the gold where the mention has one that is not
        among its candidates, else `ABSENT`.
    """
    own = [np.asarray(listed, dtype=np.int64) for listed in mentions["candidates"]]
    longest = max(map(len, own), default=0)
    lists = np.full((len(own), longest + 1), ABSENT, dtype=np.int64)
    for row, listed in zip(lists, own, strict=True):
        row[: len(listed)] = listed
    gold = gold_entities(mentions)
    listed_gold = (lists == gold[:, None]).any(axis=1)
    lists[:, -1] = np.where(listed_gold, ABSENT, gold)
    return lists


def mention_clusters(mentions: pd.DataFrame) -> NDArray[np.int64]:
    """Return the cluster of each mention: its gold entity; a NIL mention is one of its own."""
    gold = gold_entities(mentions)
    # Below `ABSENT`, where no entity is.
    return np.where(gold == ABSENT, -2 - mentions["instance"].to_numpy(dtype=np.int64), gold)
