"""From the parameters to the configuration of a linking head, and to what trains it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from mmsim.models.linking import LinkConfig, LinkHead
from mmsim.params import Params
from mmsim.training.configure import Trainer, training_rules
from mmsim.training.fit import Epoch, TrainedHead
from mmsim.training.link_loop import train_linker
from mmsim.training.memory import FeatureMemory
from mmsim.training.mentions import LinkData


def link_config(params: Params, memory: FeatureMemory) -> LinkConfig:
    """Return the configuration of the linking head over these features."""
    return LinkConfig(
        image_dim=memory.image_dim,
        text_dim=memory.text_dim,
        temperature=params.train.temperature,
        margin=params.train.margin,
        **params.model.model_dump(),
    )


def link_trainer(
    params: Params, memory: FeatureMemory, lists: Path, precision: torch.dtype
) -> Trainer[LinkHead]:
    """Return what trains a head on the mentions in the folder `lists`."""
    data = LinkData.load(lists, ("train", "valid"), memory, params.link.max_tokens)
    config, rules, own = link_config(params, memory), training_rules(params), params.link.candidates
    statistics = data.statistics()

    def trainer(seed: int, report: Callable[[Epoch], None]) -> TrainedHead[LinkHead]:
        return train_linker(config, rules, own, statistics, data, seed, precision, report)

    return trainer
