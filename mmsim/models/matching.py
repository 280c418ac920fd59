"""What MIMIC and M3EL share: a head made of units, and the unit that matches one modality.

Each item has, for text and image alike, local features and a global one of the units' width h,

    T = X_t P_t + b_t    t = mean_i T_i        tokens X_t of the text
    V = X_v P_v + b_v    v = mean_i V_i        grid cells X_v of the image

with one pair of maps for mentions and entities; the maps W of the units have no bias. A unit
turns them into a score; the score that ranks is the mean of the units, S = mean_k s_k, and the
training loss

    L = CE(S) + sum_k CE(s_k)

with the cross-entropy of the gold among all golds of the batch and the mention's own candidates.

Sources: Luo et al. 2023, "Multi-Grained Multimodal Interaction Network for Entity Linking"
(KDD); Hu et al. 2025, "Multi-level Matching Network for Multimodal Entity Linking" (KDD). There
t and v are the class tokens of encoders that are trained; the features here are frozen, of
encoders some of which have no such token, so that t and v are means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from mmsim.models.attention import masked_mean
from mmsim.models.batch import LinkItems, RankingBatch, Sequences
from mmsim.models.linking import (
    Encoded,
    LinkConfig,
    LinkHead,
    affinities,
    cross_entropy_of,
    dot,
    ranking_scores,
)

Modality = Literal["text", "image"]

SENTENCE_START = 0.3
"""The multiple of the identity that G starts as: scores of order 10, not 100."""

MENTIONS_AT_ONCE = 16
"""Affinities of so many mentions with all entities are held at once: the memory is reused."""


@dataclass(frozen=True)
class Features:
    """Projected features of n items.

    Attributes
    ----------
    whole : dict of {"text", "image"} to Tensor, shape (n, h)
        The global features t and v.
    broad : dict of {"text", "image"} to Tensor, shape (n, text width) and (n, h)
        The global features that are compared with each other, t' and v.
    tokens : dict of {"text", "image"} to Sequences, of width h
        The local features T and V; no item is without.
    """

    whole: dict[Modality, Tensor]
    broad: dict[Modality, Tensor]
    tokens: dict[Modality, Sequences]


class Unit(nn.Module):
    """Base of the units: a part of the head that has a score of its own.

    `encode_mentions` and `encode_entities` do what can be done for each item by itself,
    `forward` the rest.
    """

    def encode_mentions(self, features: Features) -> Encoded:
        """Encode M mentions: tensors of shape (M, ...)."""
        raise NotImplementedError

    def encode_entities(self, features: Features) -> Encoded:
        """Encode E entities: tensors of shape (E, ...)."""
        raise NotImplementedError

    def forward(self, mentions: Encoded, entities: Encoded) -> Tensor:
        """Return the scores, (M, E) or (M, C), as `entities` is."""
        raise NotImplementedError

    def global_vectors(self, encoded: Encoded) -> Tensor | None:
        """Return vectors whose dot product is the decomposable part of the score, if any."""
        raise NotImplementedError


class UnitHead(LinkHead):
    """A head whose score is the mean of the scores of units.

    Parameters
    ----------
    config : LinkConfig
    units : dict of str to Unit
        In the order of the scores; the one that `config.without` names is left out.
    sentences : bool
        Whether any unit or loss reads t'.
    """

    def __init__(self, config: LinkConfig, units: dict[str, Unit], sentences: bool) -> None:
        super().__init__(config)
        self.text = nn.Linear(config.text_dim, config.unit_width)
        self.image = nn.Linear(config.image_dim, config.unit_width)
        self.sentence = (
            nn.Linear(config.text_dim, config.text_dim, bias=False) if sentences else None
        )
        if self.sentence is not None:
            nn.init.eye_(self.sentence.weight)
            self.sentence.weight.data.mul_(SENTENCE_START)
        self.units = nn.ModuleDict(
            {name: unit for name, unit in units.items() if name != config.without}
        )

    def features(self, items: LinkItems) -> Features:
        """Return the projected features of the items."""
        items = self.inputs(items)
        tokens: dict[Modality, Sequences] = {
            "text": Sequences(self.text(items.text.values), items.text.mask),
            "image": Sequences(self.image(items.image.values), items.image.mask),
        }
        whole = {name: masked_mean(each) for name, each in tokens.items()}
        broad = dict(whole)
        if self.sentence is not None:
            broad["text"] = self.sentence(masked_mean(items.text))
        return Features(whole, broad, tokens)

    def encode_mentions(self, items: LinkItems) -> Encoded:
        """Encode M mentions: tensors of shape (M, ...), named after unit and tensor."""
        return self.mentions_from(self.features(items))

    def encode_entities(self, items: LinkItems) -> Encoded:
        """Encode E entities: tensors of shape (E, ...), named after unit and tensor."""
        return self.entities_from(self.features(items))

    def mentions_from(self, features: Features) -> Encoded:
        """Encode mentions from their projected features."""
        return _joined({name: unit.encode_mentions(features) for name, unit in self._units()})

    def entities_from(self, features: Features) -> Encoded:
        """Encode entities from their projected features."""
        return _joined({name: unit.encode_entities(features) for name, unit in self._units()})

    def unit_scores(self, mentions: Encoded, entities: Encoded) -> dict[str, Tensor]:
        """Return the scores of each unit by name, each (M, E) or (M, C), as `entities` is."""
        return {
            name: unit(_part(mentions, name), _part(entities, name)) for name, unit in self._units()
        }

    def global_vectors(self, encoded: Encoded) -> Tensor:
        """Return one vector for each item, shape (items, n).

        The dot product of two is the part of S that needs no look at both items together.
        """
        vectors = [unit.global_vectors(_part(encoded, name)) for name, unit in self._units()]
        # Each side carries the root of the 1 / (number of units) of the mean.
        share = len(vectors) ** -0.5
        return torch.cat([share * vector for vector in vectors if vector is not None], dim=-1)

    def loss(self, batch: RankingBatch) -> Tensor:
        """Return CE(S) + sum_k CE(s_k), a scalar."""
        mentions = self.encode_mentions(batch.mentions)
        return self.ranking_loss(mentions, self.encode_entities(batch.entities), batch)

    def ranking_loss(self, mentions: Encoded, entities: Encoded, batch: RankingBatch) -> Tensor:
        """Return the loss over the scores, a scalar."""
        units = ranking_scores(self, mentions, entities, batch)
        loss = cross_entropy_of(self.combine(units), batch)
        if self.config.without == "unit_losses":
            return loss
        return loss + torch.stack([cross_entropy_of(s, batch) for s in units.values()]).sum()

    def _units(self) -> list[tuple[str, Unit]]:
        return cast("list[tuple[str, Unit]]", list(self.units.items()))


class Matching(Unit):
    """Matches one modality: the global features, and the entity's with the mention's tokens.

        A = softmax(W_q T_e (W_k T_m)^T / sqrt(h))       rows: tokens of the entity
        c = LN(mean_rows(A W_v T_m))
        s = 1/2 [t'_m . t'_e + (W_c t_e) . c]

    As written for text; for the image, V and v stand for T, t and t'. The mean over the rows
    commutes with W_v T_m, so that the weights are averaged first. `global to global` and
    `global to local` in both papers: MIMIC's text unit, and M3EL's two intra-modal units.

    Parameters
    ----------
    width : int
    modality : {"text", "image"}
    """

    def __init__(self, width: int, modality: Modality) -> None:
        super().__init__()
        self.modality: Modality = modality
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.context = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)

    def encode_mentions(self, features: Features) -> Encoded:
        """Encode M mentions: global (M, ...), key and value (M, i, h), mask (M, i)."""
        tokens = features.tokens[self.modality]
        return {
            "global": features.broad[self.modality],
            "key": self.key(tokens.values),
            "value": self.value(tokens.values),
            "mask": tokens.mask,
        }

    def encode_entities(self, features: Features) -> Encoded:
        """Encode E entities: global (E, ...), context (E, h), query (E, j, h), mask (E, j)."""
        tokens, whole = features.tokens[self.modality], features.whole[self.modality]
        return {
            "global": features.broad[self.modality],
            "context": self.context(whole),
            "query": self.query(tokens.values) * whole.shape[-1] ** -0.5,
            "mask": tokens.mask,
        }

    def forward(self, mentions: Encoded, entities: Encoded) -> Tensor:
        """Return the scores, (M, E) or (M, C), as `entities` is."""
        weights = mean_attention(
            Sequences(mentions["key"], mentions["mask"]),
            Sequences(entities["query"], entities["mask"]),
        )
        mixed = torch.einsum("mei,mih->meh", weights, mentions["value"])
        local = (self.norm(mixed) * entities["context"]).sum(-1)
        return (dot(mentions["global"], entities["global"]) + local) / 2

    def global_vectors(self, encoded: Encoded) -> Tensor:
        """Return t' / sqrt(2), shape (items, text width), of images (items, h)."""
        return encoded["global"] * 0.5**0.5


def mean_attention(keys: Sequences, queries: Sequences) -> Tensor:
    """Return how much the tokens of an entity look at each of a mention's, on the average.

    Parameters
    ----------
    keys : Sequences
        Of M mentions: values (M, i, h).
    queries : Sequences
        Of entities, scaled already: values (E, j, h) or (M, C, j, h).

    Returns
    -------
    Tensor, shape (M, E, i) or (M, C, i)
        Shares that sum to 1 over i; 0 for padding.
    """
    own = queries.values.dim() == 4
    share = queries.mask.to(queries.values.dtype)
    share = share / share.sum(-1, keepdim=True)
    absent = share.new_zeros(()).masked_fill(~keys.mask, -torch.inf)[:, :, None, None]
    parts = []
    for start in range(0, len(keys.values), MENTIONS_AT_ONCE):
        rows = slice(start, start + MENTIONS_AT_ONCE)
        logits = affinities(keys.values[rows], queries.values[rows] if own else queries.values)
        # (m, i, E, j), the order in which the product lies in memory: sums run along rows there.
        weights = (logits.transpose(1, 2) + absent[rows]).softmax(1)
        weights = weights * (share[rows].unsqueeze(1) if own else share)
        parts.append(weights.sum(-1).transpose(1, 2))
    return torch.cat(parts)


def _joined(parts: dict[str, Encoded]) -> Encoded:
    return {f"{unit}.{name}": each for unit, part in parts.items() for name, each in part.items()}


def _part(encoded: Encoded, unit: str) -> Encoded:
    prefix = f"{unit}."
    return {
        name.removeprefix(prefix): each for name, each in encoded.items() if name.startswith(prefix)
    }
