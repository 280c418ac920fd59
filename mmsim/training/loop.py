"""Training of one head for pairs with one seed: its batches and losses, stopped by AUC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from mmsim.errors import UserError
from mmsim.models.dedup import Dedup, DedupConfig
from mmsim.models.heads import PairConfig, PairHead, build_pair_head
from mmsim.training.fit import Epoch, TrainedHead, TrainingRules, fit
from mmsim.training.losses import Contrastive, DedupLoss, InfoNCE, Logistic
from mmsim.training.memory import ChannelStatistics, FeatureMemory, Pairs
from mmsim.training.scoring import score_pairs


def train_head(
    config: PairConfig,
    rules: TrainingRules,
    memory: FeatureMemory,
    statistics: ChannelStatistics,
    train: Pairs,
    valid: Pairs,
    seed: int,
    precision: torch.dtype,
    report: Callable[[Epoch], None],
) -> TrainedHead[PairHead]:
    """Train one head; the test pairs are never seen here.

    Training stops after `rules.patience` epochs without a better AUC on the validation pairs,
    whatever the loss, so that all losses are stopped by one figure. `statistics` are those of the
    training pairs: the same for every seed, so they are found once, outside. The dedup head has
    a loss of its own, whatever `rules.loss`.

    Raises
    ------
    UserError
        If the loss or a score is no longer finite, or InfoNCE has fewer than two positives.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    device = memory.grid.device
    if isinstance(config, DedupConfig):
        rules = replace(rules, loss="dedup")
    elif rules.loss == "infonce" and int((train.labels == 1).sum()) < 2:
        raise UserError("train.loss infonce needs two or more positive training pairs")
    model = build_pair_head(config)
    model.standardize_image.set_statistics(*statistics.image)
    model.standardize_text.set_statistics(*statistics.text)
    model.to(device)
    loss = _make_loss(config, rules).to(device)

    def losses() -> Iterator[Tensor]:
        for batch in batches(train, rules, rng):
            yield batch_loss(model, loss, memory, train, batch, precision)

    def validate() -> float:
        scores = score_pairs(model, memory, valid.rows)
        return float(roc_auc_score(valid.labels, scores)) if np.isfinite(scores).all() else np.nan

    parameters = [*model.parameters(), *loss.parameters()]
    return TrainedHead(model, fit(model, parameters, losses, validate, rules, seed, report))


def _make_loss(config: PairConfig, rules: TrainingRules) -> nn.Module:
    if isinstance(config, DedupConfig):
        return DedupLoss(cosine_losses=config.without != "cosine_losses")
    if rules.loss == "contrastive":
        return Contrastive(rules.margin)
    return Logistic() if rules.loss == "bce" else InfoNCE(rules.temperature)


def batches(pairs: Pairs, rules: TrainingRules, rng: np.random.Generator) -> Iterator[Tensor]:
    """Yield the pair numbers of each batch of one epoch, in random order.

    Pairs of one query stay together: its features are then gathered and projected once for its
    positive and its negatives. InfoNCE makes its own negatives and gets the positives alone; a
    last one without any other would teach it nothing and is left out.
    """
    if rules.loss == "infonce":
        order = rng.permutation(np.flatnonzero(pairs.labels.numpy() == 1))
    else:
        _, query = np.unique(pairs.rows[:, :2].numpy(), axis=0, return_inverse=True)
        place = rng.permutation(query.max() + 1)
        order = np.lexsort((rng.random(len(pairs)), place[query]))
    for start in range(0, len(order), rules.batch_size):
        batch = order[start : start + rules.batch_size]
        if len(batch) > 1 or rules.loss != "infonce":
            yield torch.from_numpy(batch)


def batch_loss(
    model: PairHead,
    loss: nn.Module,
    memory: FeatureMemory,
    pairs: Pairs,
    batch: Tensor,
    precision: torch.dtype,
) -> Tensor:
    """Return the loss of one batch of pair numbers."""
    features = memory.batch(pairs.rows[batch], model.config.task)
    device = memory.grid.device
    found: tuple[Tensor | list[Tensor], ...]
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        if isinstance(model, Dedup):
            cosines = model.cosines(features)
            found = (model.logits(cosines), list(cosines.values()))
            targets = pairs.labels[batch]
        elif isinstance(loss, InfoNCE):
            found = (model.score_all(features).float(),)
            targets = torch.from_numpy(shared(pairs, batch.numpy()))
        else:
            found = (model(features).float(),)
            targets = pairs.labels[batch]
    # Outside of autocast: the losses need the precision of float32.
    value: Tensor = loss(*found, targets.to(device))
    return value


def shared(pairs: Pairs, batch: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which candidates of a batch are no negatives of a query.

    Returns
    -------
    ndarray of bool, shape (pairs, pairs)
        True at (i, j), i != j, if query i and candidate j share a gold entity, an image or a
        text.
    """
    rows = pairs.rows[batch].numpy()
    same = (rows[:, None, 0] == rows[None, :, 2]) | (rows[:, None, 1] == rows[None, :, 3])
    queries = [set(gold) for gold in pairs.table["query_gold"].iloc[batch]]
    candidates = [set(gold) for gold in pairs.table["candidate_gold"].iloc[batch]]
    for i, query in enumerate(queries):
        for j, candidate in enumerate(candidates):
            same[i, j] |= not query.isdisjoint(candidate)
    np.fill_diagonal(same, False)
    return np.asarray(same)
