"""Training of one linking head with one seed: in-batch golds and own candidates, stopped by MRR."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from mmsim.errors import UserError
from mmsim.models.link_heads import build_link_head
from mmsim.models.linking import LinkConfig, LinkHead
from mmsim.training.fit import Epoch, TrainedHead, TrainingRules, fit
from mmsim.training.link_scoring import ranks_among, score_lists
from mmsim.training.memory import ChannelStatistics
from mmsim.training.mentions import ABSENT, LinkData


def train_linker(
    config: LinkConfig,
    rules: TrainingRules,
    own_candidates: int,
    statistics: ChannelStatistics,
    data: LinkData,
    seed: int,
    precision: torch.dtype,
    report: Callable[[Epoch], None],
) -> TrainedHead[LinkHead]:
    """Train one head on the training mentions that have a gold; test mentions are never seen.

    Training stops after `rules.patience` epochs without a better MRR of the validation mentions
    among their own candidates, no gold injected: the figure of protocol ``candidates``.

    Parameters
    ----------
    own_candidates : int
        Of each mention's candidates, so many at most are negatives beside the batch's golds.
    statistics : ChannelStatistics
        Of the training features: the same for every seed, so they are found once, outside.

    Raises
    ------
    UserError
        If training diverges, or there are fewer than two mentions to learn from.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = build_link_head(config)
    model.inputs.image.set_statistics(*statistics.image)
    model.inputs.text.set_statistics(*statistics.text)
    device = data.memory.grid.device
    model.to(device)
    train, valid = data.splits["train"], data.splits["valid"]
    linked = torch.nonzero(train.gold != ABSENT)[:, 0]
    if len(linked) < 2:
        raise UserError(f"task link needs two or more training mentions; found {len(linked)}")

    def losses() -> Iterator[Tensor]:
        order = linked[torch.from_numpy(rng.permutation(len(linked)))]
        for rows in order.split(rules.batch_size):
            batch = data.ranking_batch(train, rows, own_candidates)
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                value = model.loss(batch)
            # Outside: the steps that follow need the precision of float32.
            yield value

    def validate() -> float:
        scores = score_lists(model, data, valid, valid.candidates)
        if not scores[valid.candidates != ABSENT].isfinite().all():
            return float("nan")
        return float((1 / ranks_among(scores, valid.candidates, valid.gold)).mean())

    parameters = list(model.parameters())
    return TrainedHead(model, fit(model, parameters, losses, validate, rules, seed, report))
