"""What every linking head has in common: inputs, the two kinds of score, the ranking loss.

A head encodes mentions and entities, each once, into named tensors with the items first. A score
is then computed in one of two ways, by the same code:

* every mention against every entity: entity tensors of shape (E, ...), scores (M, E);
* every mention against entities of its own: entity tensors of shape (M, C, ...), scores (M, C).

`dot` and `affinities` are the two products that the heads are made of, in both ways.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmsim.models.batch import LinkItems, RankingBatch, Sequences
from mmsim.models.standardize import Standardize, drop_channels

Encoded = dict[str, Tensor]
"""Tensors of encoded mentions or entities by name, the items along the first axis (or two)."""


@dataclass(frozen=True)
class LinkConfig:
    """Everything needed to build a linking head anew.

    Attributes
    ----------
    name : {"siamese", "mimic", "m3el", "dwe"}
    image_dim, text_dim : int
        Widths of the frozen features.
    width : int
        Width of the embedding (siamese, dwe), a multiple of `heads`.
    unit_width : int
        Width of the matching units (mimic, m3el).
    attention : {"none", "base", "cross"}
        Read by siamese alone.
    heads, head_width : int
        Attention heads, and width of each one's queries and keys (siamese; dwe reads `heads`).
    dropout : float
        Share of feature channels dropped in training, and of embedding entries (siamese, dwe).
    temperature : float
        Of the cross-entropy over cosines (siamese).
    margin : float
        Of the triplet loss (dwe).
    without : str
        Unit or loss that is left out; `mmsim.catalogue` lists them.
    """

    name: str
    image_dim: int
    text_dim: int
    width: int
    unit_width: int
    attention: str
    heads: int
    head_width: int
    dropout: float
    temperature: float
    margin: float
    without: str


class Inputs(nn.Module):
    """Standardised features, with channels dropped in training and a vector for a missing image.

    The vector stands where the image's cells would, as a sequence of one token: it is learned,
    so that a missing image is a thing of its own and no black picture.
    """

    def __init__(self, config: LinkConfig) -> None:
        super().__init__()
        self.image = Standardize(config.image_dim)
        self.text = Standardize(config.text_dim)
        self.dropout = config.dropout
        self.no_image = nn.Parameter(0.02 * torch.randn(config.image_dim))

    def forward(self, items: LinkItems) -> LinkItems:
        """Return the items as the head reads them; only phrases and names may be empty still."""
        return LinkItems(
            text=self._prepare(items.text, self.text),
            image=filled(self._prepare(items.image, self.image), self.no_image),
            name=self._prepare(items.name, self.text),
            objects=self._prepare(items.objects, self.text),
            scene=self._prepare(items.scene, self.text),
        )

    def _prepare(self, sequences: Sequences, standardize: Standardize) -> Sequences:
        return drop_channels(sequences, standardize, self.dropout if self.training else 0.0)


class LinkHead(nn.Module):
    """Base of the linking heads.

    A head defines `encode_mentions`, `encode_entities`, `unit_scores` and `global_vectors`; the
    score is the mean of the units unless it says otherwise.

    Attributes
    ----------
    exact_global : bool
        Whether the dot product of `global_vectors` is the whole score: then nothing is left to
        rank anew.
    """

    exact_global = False

    def __init__(self, config: LinkConfig) -> None:
        super().__init__()
        self.config = config
        self.inputs = Inputs(config)

    def encode_mentions(self, items: LinkItems) -> Encoded:
        """Encode M mentions: tensors of shape (M, ...)."""
        raise NotImplementedError

    def encode_entities(self, items: LinkItems) -> Encoded:
        """Encode E entities: tensors of shape (E, ...)."""
        raise NotImplementedError

    def unit_scores(self, mentions: Encoded, entities: Encoded) -> dict[str, Tensor]:
        """Return the scores of each unit by name, each (M, E) or (M, C), as `entities` is."""
        raise NotImplementedError

    def global_vectors(self, encoded: Encoded) -> Tensor:
        """Return one vector for each item, shape (items, n).

        The dot product of a mention's and an entity's is the part of the score that needs no
        look at both together; the best entities by it are then scored in full.
        """
        raise NotImplementedError

    def combine(self, units: dict[str, Tensor]) -> Tensor:
        """Return the score from the units' scores: their mean."""
        return torch.stack(list(units.values())).mean(0)

    def score(self, mentions: Encoded, entities: Encoded) -> Tensor:
        """Return the scores that rank, (M, E) or (M, C); higher is better."""
        return self.combine(self.unit_scores(mentions, entities))

    def loss(self, batch: RankingBatch) -> Tensor:
        """Return the training loss of one batch, a scalar."""
        raise NotImplementedError


def take(encoded: Encoded, rows: Tensor | slice) -> Encoded:
    """Return the encoded items at `rows`; rows of shape (M, C) give tensors (M, C, ...)."""
    return {name: values[rows] for name, values in encoded.items()}


def dot(mentions: Tensor, entities: Tensor) -> Tensor:
    """Return dot products of vectors.

    Parameters
    ----------
    mentions : Tensor, shape (M, d)
    entities : Tensor, shape (E, d) or (M, C, d)

    Returns
    -------
    Tensor, shape (M, E) or (M, C)
    """
    if entities.dim() == 2:
        return mentions @ entities.T
    return torch.einsum("md,mcd->mc", mentions, entities)


def affinities(mentions: Tensor, entities: Tensor) -> Tensor:
    """Return dot products of all tokens of a mention with all tokens of an entity.

    Parameters
    ----------
    mentions : Tensor, shape (M, i, d)
    entities : Tensor, shape (E, j, d) or (M, C, j, d)

    Returns
    -------
    Tensor, shape (M, E, i, j) or (M, C, i, j)
    """
    if entities.dim() == 3:
        return torch.einsum("mid,ejd->meij", mentions, entities)
    return torch.einsum("mid,mcjd->mcij", mentions, entities)


def filled(sequences: Sequences, vector: Tensor) -> Sequences:
    """Return the sequences with `vector` as the one token of each that had none.

    Parameters
    ----------
    sequences : Sequences
        Of width d; at least one position wide.
    vector : Tensor, shape (d,)
    """
    empty = ~sequences.mask.any(1)
    first = torch.zeros_like(sequences.mask)
    first[:, 0] = True
    put = empty[:, None] & first
    values = torch.where(put[..., None], vector.to(sequences.values.dtype), sequences.values)
    return Sequences(values, sequences.mask | put)


def ranking_scores(
    head: LinkHead, mentions: Encoded, entities: Encoded, batch: RankingBatch
) -> dict[str, Tensor]:
    """Return what the cross-entropy is taken over: in-batch golds, then the own candidates.

    Returns
    -------
    dict of str to Tensor, float32, shape (M, G + C)
        By unit, -inf for what is no candidate; mention i's gold is column ``batch.gold[i]``.
    """
    golds = take(entities, slice(0, batch.golds))
    own = take(entities, batch.candidates)
    in_batch, listed = head.unit_scores(mentions, golds), head.unit_scores(mentions, own)
    absent = ~batch.candidate_mask
    return {
        name: torch.cat([scores, listed[name].masked_fill(absent, -torch.inf)], dim=1).float()
        for name, scores in in_batch.items()
    }


def cross_entropy_of(scores: Tensor, batch: RankingBatch) -> Tensor:
    """Return the mean cross-entropy of the golds, scores as from `ranking_scores`."""
    return cross_entropy(scores, batch.gold)
