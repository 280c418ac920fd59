"""From the parameters to the configuration of a head for pairs, and to what trains it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from mmsim.models.dedup import DedupConfig
from mmsim.models.heads import PairConfig, PairHead
from mmsim.models.siamese import SiameseConfig
from mmsim.params import Params
from mmsim.training.fit import Epoch, Model, TrainedHead, TrainingRules
from mmsim.training.loop import train_head
from mmsim.training.memory import FeatureMemory, Pairs

Trainer = Callable[[int, Callable[[Epoch], None]], TrainedHead[Model]]
"""Trains the head of a seed, and tells the second argument of each epoch."""


def training_rules(params: Params) -> TrainingRules:
    """Return how a head is to be trained."""
    return TrainingRules(**params.train.model_dump(exclude={"seeds"}))


def pair_config(params: Params, memory: FeatureMemory) -> PairConfig:
    """Return the configuration of the head for task match or pair over these features."""
    model = params.model
    if model.name == "dedup":
        return DedupConfig(
            task=params.task,
            image_dim=memory.image_dim,
            text_dim=memory.text_dim,
            width=model.width,
            dropout=model.dropout,
            without=model.without,
        )
    return SiameseConfig(
        task=params.task,
        image_dim=memory.image_dim,
        text_dim=memory.text_dim,
        **model.model_dump(exclude={"name", "unit_width", "without"}),
    )


def pair_trainer(
    params: Params, memory: FeatureMemory, lists: Path, precision: torch.dtype
) -> Trainer[PairHead]:
    """Return what trains a head on the pairs in the folder `lists`."""
    train, valid = (Pairs.load(lists / f"{split}.parquet", memory) for split in ("train", "valid"))
    config, rules = pair_config(params, memory), training_rules(params)
    # The same for every seed.
    statistics = memory.statistics(train.rows)

    def trainer(seed: int, report: Callable[[Epoch], None]) -> TrainedHead[PairHead]:
        return train_head(config, rules, memory, statistics, train, valid, seed, precision, report)

    return trainer
