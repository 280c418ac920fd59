"""Scores of mentions against entities by a trained linking head, a block at a time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmsim.models.linking import Encoded, LinkHead, take
from mmsim.training.mentions import ABSENT, LinkData, Mentions

BLOCK_MENTIONS = 32
"""Mentions scored at a time."""

BLOCK_ENTITIES = 512
"""Entities encoded at a time."""


@torch.inference_mode()
def score_lists(
    model: LinkHead,
    data: LinkData,
    mentions: Mentions,
    lists: Tensor,
) -> Tensor:
    """Score each mention against entities of its own.

    Parameters
    ----------
    model : LinkHead
        On the device of the features.
    lists : Tensor, int64, shape (mentions, n)
        Row numbers of entities, `ABSENT` for padding.

    Returns
    -------
    Tensor, float32, shape (mentions, n)
        -inf for padding.
    """
    model.eval()
    parts = []
    for rows in torch.arange(len(mentions)).split(BLOCK_MENTIONS):
        encoded = model.encode_mentions(data.mention_features(mentions, rows))
        scores = _score_encoded(model, data, encoded, lists[rows].clamp(min=0))
        parts.append(scores.masked_fill(lists[rows] == ABSENT, -torch.inf))
    return torch.cat(parts)


def ranks_among(scores: Tensor, lists: Tensor, gold: Tensor) -> Tensor:
    """Return the rank of each gold in its list, inf where it is not there.

    rank = 1 + (higher scores) + (other equal scores) / 2: equal scores share their mean rank.

    Parameters
    ----------
    scores, lists : Tensor, shape (mentions, n)
        Scores, and what they are of; -inf and `ABSENT` for padding.
    gold : Tensor, int64, shape (mentions,)

    Returns
    -------
    Tensor, float64, shape (mentions,)
    """
    right = (lists == gold[:, None]) & (lists != ABSENT)
    of_gold = scores.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
    same = (scores == of_gold) & ~right
    ranks = 1 + (scores > of_gold).sum(1).double() + same.sum(1) / 2
    return ranks.masked_fill(~right.any(1), torch.inf)


@torch.inference_mode()
def entity_index(model: LinkHead, data: LinkData) -> Tensor:
    """Return the global vectors of all entities, shape (entities, n)."""
    model.eval()
    parts = [
        model.global_vectors(model.encode_entities(data.entity_features(rows)))
        for rows in torch.arange(len(data.entities)).split(BLOCK_ENTITIES)
    ]
    return torch.cat(parts)


@torch.inference_mode()
def pool_ranks(
    model: LinkHead,
    data: LinkData,
    mentions: Mentions,
    index: Tensor,
    rerank: int,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Rank the gold of each mention among all entities: retrieve, then rerank.

    The `rerank` best entities by the global score are ranked anew by the full score, and stand
    before all others, which keep the order of the global score. Where the global score is the full
    one, all are ranked by it at once. Equal scores share their mean rank.

    Parameters
    ----------
    mentions : Mentions
        Those without a gold are left out.
    index : Tensor, shape (entities, n)
        From `entity_index`.

    Returns
    -------
    ranks : ndarray of float64, shape (mentions with a gold,)
    retrieved : ndarray of bool, same shape
        Whether the gold was among those that were scored in full.
    """
    model.eval()
    ranks, retrieved = [], []
    linked = torch.nonzero(mentions.gold != ABSENT)[:, 0]
    for rows in linked.split(BLOCK_MENTIONS):
        gold = mentions.gold[rows]
        order, found, full = retrieve(model, data, mentions, rows, index, rerank)
        everything = torch.arange(len(index)).expand(len(rows), -1)
        if model.exact_global:
            ranks.append(ranks_among(found, everything, gold))
            retrieved.append(torch.ones(len(rows), dtype=torch.bool))
            continue
        inside = ranks_among(full, order, gold)
        # The others by their global score, behind those ranked anew.
        rest = found.scatter(1, order, -torch.inf)
        outside = order.shape[1] + ranks_among(rest, everything, gold)
        ranks.append(torch.where(inside.isfinite(), inside, outside))
        retrieved.append(inside.isfinite())
    return torch.cat(ranks).numpy(), torch.cat(retrieved).numpy()


@torch.inference_mode()
def retrieve(
    model: LinkHead,
    data: LinkData,
    mentions: Mentions,
    rows: Tensor,
    index: Tensor,
    rerank: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best entities of some mentions, and the scores behind them.

    Parameters
    ----------
    rows : Tensor, int64, shape (m,)
        Which mentions.

    Returns
    -------
    order : Tensor, int64, shape (m, k)
        Row numbers of the k entities with the highest global scores.
    found : Tensor, shape (m, entities)
        Global scores of all.
    full : Tensor, shape (m, k)
        Full scores of those in `order`.
    """
    encoded = model.encode_mentions(data.mention_features(mentions, rows))
    found = (model.global_vectors(encoded) @ index.T).cpu()
    order = found.topk(min(rerank, found.shape[1]), dim=1).indices
    if model.exact_global:
        return order, found, found.gather(1, order)
    return order, found, _score_encoded(model, data, encoded, order)


def _score_encoded(model: LinkHead, data: LinkData, mentions: Encoded, lists: Tensor) -> Tensor:
    """Score encoded mentions against entities of their own, each distinct one encoded once."""
    distinct, places = lists.unique(return_inverse=True)
    entities = model.encode_entities(data.entity_features(distinct))
    own = take(entities, places.to(data.memory.grid.device))
    return model.score(mentions, own).float().cpu()
