"""Training of one head with one seed: batches, epochs, early stopping."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from mmsim.errors import UserError
from mmsim.models.siamese import Siamese, SiameseConfig
from mmsim.training.losses import Contrastive, InfoNCE, Logistic
from mmsim.training.memory import ChannelStatistics, FeatureMemory, Pairs
from mmsim.training.scoring import score_pairs


@dataclass(frozen=True)
class TrainingRules:
    """How a head is trained; the fields are those of `mmsim.params.TrainParams`."""

    loss: str
    margin: float
    temperature: float
    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    weight_decay: float


@dataclass(frozen=True)
class Epoch:
    """Figures of one epoch: mean training loss, AUC on the validation pairs, seconds."""

    epoch: int
    train_loss: float
    valid_auc: float
    seconds: float


@dataclass(frozen=True)
class TrainedHead:
    """A head with the weights of its best epoch, and the figures of all epochs."""

    model: Siamese
    history: list[Epoch]
    best_epoch: int


def train_head(
    config: SiameseConfig,
    rules: TrainingRules,
    memory: FeatureMemory,
    statistics: ChannelStatistics,
    train: Pairs,
    valid: Pairs,
    seed: int,
    precision: torch.dtype,
    report: Callable[[Epoch], None],
) -> TrainedHead:
    """Train one head; the test pairs are never seen here.

    Training stops after `rules.patience` epochs without a better AUC on the validation pairs,
    whatever the loss, so that all losses are stopped by one figure. `statistics` are those of the
    training pairs: the same for every seed, so they are found once, outside.

    Raises
    ------
    UserError
        If the loss or a score is no longer finite, or InfoNCE has fewer than two positives.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    device = memory.grid.device
    model = Siamese(config)
    model.standardize_image.set_statistics(*statistics.image)
    model.standardize_text.set_statistics(*statistics.text)
    model.to(device)
    loss = _make_loss(rules).to(device)
    parameters = [*model.parameters(), *loss.parameters()]
    optimizer = torch.optim.AdamW(
        parameters, lr=rules.learning_rate, weight_decay=rules.weight_decay, fused=True
    )
    history: list[Epoch] = []
    best_auc, best_epoch, best_state = -1.0, 0, model.state_dict()
    for epoch in range(1, rules.epochs + 1):
        started = time.monotonic()
        model.train()
        losses = []
        for batch in batches(train, rules, rng):
            value = batch_loss(model, loss, memory, train, batch, precision)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            losses.append(value.detach())
        if not losses:
            raise UserError("train.loss infonce needs two or more positive training pairs")
        mean_loss = float(torch.stack(losses).mean())
        scores = score_pairs(model, memory, valid.rows)
        # The scores too: it may be the last step of the epoch that diverges.
        if not (np.isfinite(mean_loss) and np.isfinite(scores).all()):
            raise UserError(
                f"training diverged in epoch {epoch} with seed {seed}, mean loss {mean_loss}; "
                f"lower train.learning_rate (now {rules.learning_rate})"
            )
        auc = float(roc_auc_score(valid.labels, scores))
        history.append(Epoch(epoch, mean_loss, auc, time.monotonic() - started))
        report(history[-1])
        if auc > best_auc:
            best_auc, best_epoch = auc, epoch
            best_state = {name: value.clone() for name, value in model.state_dict().items()}
        elif epoch - best_epoch >= rules.patience:
            break
    model.load_state_dict(best_state)
    return TrainedHead(model.eval(), history, best_epoch)


def _make_loss(rules: TrainingRules) -> nn.Module:
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
    model: Siamese,
    loss: nn.Module,
    memory: FeatureMemory,
    pairs: Pairs,
    batch: Tensor,
    precision: torch.dtype,
) -> Tensor:
    """Return the loss of one batch of pair numbers."""
    features = memory.batch(pairs.rows[batch], model.config.task)
    device = memory.grid.device
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        if isinstance(loss, InfoNCE):
            scores = model.score_all(features).float()
            targets = torch.from_numpy(shared(pairs, batch.numpy()))
        else:
            scores = model(features).float()
            targets = pairs.labels[batch]
    # Outside of autocast: the losses need the precision of float32.
    value: Tensor = loss(scores, targets.to(device))
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
