"""Frozen features brought to one scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmsim.models.batch import Sequences


class Standardize(nn.Module):
    """Brings each feature channel to mean 0 and deviation 1 over the training data.

    Frozen features share a large common part (all of it, almost, for random weights): without
    this, every item looks alike. The figures are part of the model, not trained.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))

    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Set each channel's mean and standard deviation, each of shape (dim,)."""
        self.mean.copy_(mean)
        # A channel that is constant in training is left as it is, not blown up.
        self.deviation.copy_(torch.where(deviation > 1e-4, deviation, 1.0))

    def forward(self, values: Tensor, keep: Tensor) -> Tensor:
        """Return the standardised features times `keep`, in one pass over them.

        Parameters
        ----------
        values : Tensor, shape (items, tokens, dim)
        keep : Tensor, shape (items, 1, dim)
            Factor of each channel of each item: 1, or what dropout makes of it.
        """
        scale = keep / self.deviation
        return torch.addcmul(-self.mean * scale, values, scale)


def drop_channels(sequences: Sequences, standardize: Standardize, share: float) -> Sequences:
    """Return the standardised features with this share of each item's channels dropped."""
    # Whole channels of an item, for all its tokens: neighbours would give them away.
    keep = nn.functional.dropout(torch.ones_like(sequences.values[:, :1]), share)
    return Sequences(standardize(sequences.values, keep), sequences.mask)
