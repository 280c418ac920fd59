"""Attention over frozen token features, mean-pooled over the queries.

With queries x_1..x_n and context tokens y_1..y_m, each head h computes

    A_h = softmax(x W_q,h (y W_k,h)^T / sqrt(d_h))        n x m
    out = 1/n sum_i sum_j A_h[i, j] y_j W_v,h             concatenated over heads

(Vaswani et al. 2017, equation 1, then the mean over positions). Sums commute with the linear
W_v, so the weights are averaged over the queries and the context mixed *before* it is
projected: the same result, with one projection for an item instead of one for each token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmsim.models.batch import Sequences


def masked_mean(sequences: Sequences) -> Tensor:
    """Return the mean over the tokens that are there, shape (items, dimension)."""
    mask = sequences.mask.to(sequences.values.dtype)
    share = mask / mask.sum(1, keepdim=True)
    return (share.unsqueeze(1) @ sequences.values).squeeze(1)


class AttentionPool(nn.Module):
    """Multi-head attention of one sequence to another, mean-pooled over the queries.

    Parameters
    ----------
    query_dim, context_dim : int
        Widths of the query and the context features.
    width : int
        Width of the output, a multiple of `heads`.
    heads, head_width : int
        Number of heads, and width of the queries and keys of each.
    """

    def __init__(
        self, query_dim: int, context_dim: int, width: int, heads: int, head_width: int
    ) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.query = nn.Linear(query_dim, heads * head_width, bias=False)
        self.key = nn.Linear(context_dim, heads * head_width, bias=False)
        self.value = nn.Linear(context_dim, width, bias=False)

    def forward(
        self, queries: Sequences, context: Sequences, pairs: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Return the pooled output for pairs of a query item and a context item.

        Parameters
        ----------
        queries, context : Sequences
            Items; each is projected once, however many pairs it stands in.
        pairs : (Tensor, Tensor), int64, each of shape (pairs,)
            Positions in `queries` and in `context`.

        Returns
        -------
        Tensor, shape (pairs, width)
        """
        query_rows, context_rows = pairs
        weights = self.weights(queries, context, pairs)
        pooled = self._pool_queries(weights, queries.mask[query_rows])
        mixed = pooled @ context.values.index_select(0, context_rows)  # (pairs, heads, context_dim)
        value = self.value.weight.unflatten(0, (self.heads, -1))  # (heads, width/heads, dim)
        return torch.einsum("bhd,hwd->bhw", mixed, value).flatten(1)

    def weights(
        self, queries: Sequences, context: Sequences, pairs: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Return the attention weights, shape (pairs, heads, query tokens, context tokens)."""
        query_rows, context_rows = pairs
        query = self._split(self.query(queries.values)).index_select(0, query_rows)
        key = self._split(self.key(context.values)).index_select(0, context_rows)
        mask = context.mask[context_rows, None, None, :]
        return self._softmax(query @ key.transpose(-1, -2), mask)

    def all_pairs(self, queries: Sequences, context: Sequences) -> Tensor:
        """Return the pooled output of each query item over each context item.

        Here the context is projected first, once for an item, since each item meets many
        queries.

        Returns
        -------
        Tensor, shape (query items, context items, width)
        """
        query = self._split(self.query(queries.values))
        key = self._split(self.key(context.values))
        scores = torch.einsum("qhnd,chmd->qchnm", query, key)
        weights = self._softmax(scores, context.mask[None, :, None, None, :])
        pooled = self._pool_queries(weights, queries.mask[:, None])
        value = self.value(context.values).unflatten(-1, (self.heads, -1))
        return torch.einsum("qchm,cmhw->qchw", pooled, value).flatten(2)

    def _split(self, projected: Tensor) -> Tensor:
        """(items, tokens, heads * head_width) -> (items, heads, tokens, head_width)."""
        return projected.unflatten(-1, (self.heads, self.head_width)).transpose(1, 2)

    def _softmax(self, scores: Tensor, context_mask: Tensor) -> Tensor:
        scores = scores / self.head_width**0.5
        return scores.masked_fill(~context_mask, -torch.inf).softmax(-1)

    @staticmethod
    def _pool_queries(weights: Tensor, query_mask: Tensor) -> Tensor:
        """Average weights (..., heads, n, m) over the n queries that are there."""
        mask = query_mask[..., None, :, None].to(weights.dtype)
        return (weights * mask).sum(-2) / mask.sum(-2)


class TokenPool(nn.Module):
    """The control: each token passes through a feed-forward layer alone, then the mean.

    No token sees another. The hidden width is chosen so that the number of parameters is that
    of an `AttentionPool` of the same widths.
    """

    def __init__(self, dim: int, parameters: int, width: int) -> None:
        super().__init__()
        hidden = round(parameters / (dim + width))
        self.hidden = nn.Linear(dim, hidden, bias=False)
        self.value = nn.Linear(hidden, width, bias=False)

    def forward(self, sequences: Sequences) -> Tensor:
        """Return the pooled output, shape (items, width)."""
        hidden = nn.functional.gelu(self.hidden(sequences.values))
        # The mean goes before the last linear layer, with which it commutes.
        return self.value(masked_mean(Sequences(hidden, sequences.mask)))
