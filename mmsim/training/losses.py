"""Losses over scores of pairs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy


class Contrastive(nn.Module):
    """Contrastive loss on the Euclidean distance of unit embeddings.

    L = y d^2 + (1 - y) max(0, margin - d)^2, with d = sqrt(2 - 2 cos). Source: Hadsell, Chopra
    and LeCun 2006, equation 4, without its factors of one half.
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of pairs with cosine `scores` and 0/1 `labels`."""
        # The slope of the square root is infinite at 0: identical embeddings would get NaN.
        distance = (2 - 2 * scores).clamp(min=1e-8).sqrt()
        near = labels * distance**2
        far = (1 - labels) * (self.margin - distance).clamp(min=0) ** 2
        return (near + far).mean()


class Logistic(nn.Module):
    """Binary cross-entropy of a learned scale and offset of the cosine."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.offset = nn.Parameter(torch.tensor(0.0))

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of pairs with cosine `scores` and 0/1 `labels`."""
        return binary_cross_entropy_with_logits(self.scale.exp() * scores + self.offset, labels)


class DedupLoss(nn.Module):
    """Binary cross-entropy of the logit, and a cosine-embedding loss for each cosine.

    Source: `mmsim.models.dedup`. Targets of the first are 0 and 1, of the others -1 and 1.
    """

    def __init__(self, cosine_losses: bool) -> None:
        super().__init__()
        self.cosine_losses = cosine_losses

    def forward(self, logits: Tensor, cosines: list[Tensor], labels: Tensor) -> Tensor:
        """Return the sum of the mean losses of pairs with 0/1 `labels`.

        Parameters
        ----------
        logits, labels : Tensor, shape (pairs,)
        cosines : list of Tensor, each of shape (pairs,)
        """
        total = binary_cross_entropy_with_logits(logits, labels)
        if self.cosine_losses:
            for values in cosines:
                total = total + cosine_embedding(values, 2 * labels - 1)
        return total


def cosine_embedding(cosines: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of 1 - cosine where the target is 1 and max(0, cosine) where it is -1.

    `torch.nn.functional.cosine_embedding_loss` with margin 0, of cosines that are known already.
    """
    return torch.where(targets > 0, 1 - cosines, cosines.clamp(min=0)).mean()


class InfoNCE(nn.Module):
    """Symmetric cross-entropy over the candidates of a batch.

    Source: van den Oord et al. 2018, equation 4, in both directions as in Radford et al. 2021.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, scores: Tensor, excluded: Tensor) -> Tensor:
        """Return the mean loss of a batch of positives.

        Parameters
        ----------
        scores : Tensor, shape (pairs, pairs)
            Cosine of query i and candidate j; positives on the diagonal.
        excluded : Tensor, bool, shape (pairs, pairs)
            Off the diagonal: pairs that are no negatives, since they share an entity, an image
            or a text.
        """
        logits = (scores / self.temperature).masked_fill(excluded, -torch.inf)
        gold = torch.arange(len(scores), device=scores.device)
        return (cross_entropy(logits, gold) + cross_entropy(logits.T, gold)) / 2
