"""The loop that every head is trained by: epochs, early stopping, the best weights kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from mmsim.errors import UserError

Model = TypeVar("Model", bound=nn.Module, covariant=True)


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
    """Figures of one epoch.

    Attributes
    ----------
    epoch : int
    train_loss : float
        Mean over the batches.
    validation : float
        The monitored figure: AUC of the validation pairs, or MRR of the validation mentions.
    seconds : float
    """

    epoch: int
    train_loss: float
    validation: float
    seconds: float


@dataclass(frozen=True)
class History:
    """The figures of all epochs, and which of them was the best."""

    epochs: list[Epoch]
    best_epoch: int

    @property
    def best(self) -> Epoch:
        """The epoch whose weights were kept."""
        return self.epochs[self.best_epoch - 1]


@dataclass(frozen=True)
class TrainedHead(Generic[Model]):
    """A head with the weights of its best epoch, and the figures of all epochs."""

    model: Model
    history: History


def fit(
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    losses: Callable[[], Iterable[Tensor]],
    validate: Callable[[], float],
    rules: TrainingRules,
    seed: int,
    report: Callable[[Epoch], None],
) -> History:
    """Train until the monitored figure has not risen for `rules.patience` epochs.

    At the end `model` has the weights of its best epoch, and is in evaluation mode.

    Parameters
    ----------
    parameters : sequence of Parameter
        All that is learnt: those of the model, and of its loss if that has any.
    losses : callable
        Yields the loss of each batch of one epoch.
    validate : callable
        Returns the monitored figure, nan if a score is not finite.
    report : callable
        Is told of each epoch.

    Raises
    ------
    UserError
        If a loss or the monitored figure is not finite.
    """
    optimizer = torch.optim.AdamW(
        parameters, lr=rules.learning_rate, weight_decay=rules.weight_decay, fused=True
    )
    history: list[Epoch] = []
    best, best_epoch, best_state = -1.0, 0, model.state_dict()
    for epoch in range(1, rules.epochs + 1):
        started = time.monotonic()
        model.train()
        values = []
        for value in losses():
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            values.append(value.detach())
        mean_loss = float(torch.stack(values).mean())
        model.eval()
        validation = validate()
        # The figure too: it may be the last step of the epoch that diverges.
        if not (np.isfinite(mean_loss) and np.isfinite(validation)):
            raise UserError(
                f"training diverged in epoch {epoch} with seed {seed}, mean loss {mean_loss}; "
                f"lower train.learning_rate (now {rules.learning_rate})"
            )
        history.append(Epoch(epoch, mean_loss, validation, time.monotonic() - started))
        report(history[-1])
        if validation > best:
            best, best_epoch = validation, epoch
            best_state = {name: value.clone() for name, value in model.state_dict().items()}
        elif epoch - best_epoch >= rules.patience:
            break
    model.load_state_dict(best_state)
    model.eval()
    return History(history, best_epoch)
