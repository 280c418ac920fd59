"""What heads and baselines for pairs are measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmsim.training.memory import Pairs

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Data:
    """What the heads are measured on.

    Attributes
    ----------
    task : {"match", "pair"}
    train, valid, test : Pairs
    instances, images, texts, entities : DataFrame
        The prepared tables.
    """

    task: str
    train: Pairs
    valid: Pairs
    test: Pairs
    instances: pd.DataFrame
    images: pd.DataFrame
    texts: pd.DataFrame
    entities: pd.DataFrame
