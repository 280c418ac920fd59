"""M3EL: matching within each modality and, both ways, across them, and a contrastive loss.

With t, t', T, v, V of the mention (m) and the entity (e) as in `mmsim.models.matching`:

Intra-modal contrast, of the unit vectors m_i of mentions and e_i of their golds, in each modality
    entities, row i:  logits [e_i . m_j / tau,  alpha e_i . e_j / tau for j != i],  target e_i . m_i
    mentions, row i:  logits [m_i . e_j / tau,  alpha m_i . m_j / tau for j != i],  target m_i . e_i
    L_ICL = mean over the two sides, the two modalities and the rows;  tau = 0.03, alpha = 0.8

Intra-modal matching, s_T and s_V
    `mmsim.models.matching.Matching`, of texts and of images

Cross-modal matching, led by the text, the same weights for mentions and entities
    x = W_t t,  X = W_t T,  Y = W_i V
    M(p, q) = ReLU(W softmax(p (W q)^T) q)
    Z = [M(x, Y); M(Y, [x; X])]
    R(Z) = 1/5 sum_k [mean_j Z_j + lambda sum_j softmax_j(T_k Z)_j * Z_j]
    r = LN(tanh(w . x) x + R(Z)),  s_TV = r_m . r_e

    with T_k in {2, 2.5, 3.5, 4.5, infinity}, each channel by itself, and lambda = 1. The limit of
    an infinite T is the maximum. s_VT is the same with image and text exchanged.

    S = (s_T + s_V + s_TV + s_VT) / 4
    L = CE(S) + CE(s_T) + CE(s_V) + CE(s_TV) + CE(s_VT) + L_ICL

Source: Hu et al. 2025, "Multi-level Matching Network for Multimodal Entity Linking" (KDD).

Differences from the released code:

* The same scores train and rank. There, ranking leaves out one direction of the cross-modal
  module, and so scores by a combination that was never trained.
* Z has M(Y, [x; X]) for M(Y, x). With x as the only key every weight is 1, and all cells get the
  same ReLU(W x), whatever they show. With the leading modality's tokens beside its global vector,
  each cell gathers what belongs to it. X passes through W_t as x does; there are no new weights.
* The contrast is between t' and v, which learned linear maps make of the frozen features. Of the
  features themselves, it could move nothing but the vector of a
  missing image. Dropping channels applies to it as to all else.
* The contrast of images is among the mentions that have an image and whose gold has one: what
  stands for a missing image is the same everywhere, neither a match nor a contrast. Where no
  such mention is in the batch, the term is 0.
* Where two mentions share their gold, neither the other mention nor the gold's second copy is a
  negative; nor is, in the ranking loss, any copy of the gold.
* The diagonal of e_i . e_j is taken out of the softmax; there it stays, with a logit of 0.
* Padding takes part in no softmax, no mean and no maximum.
* A missing image is a learned vector, not a black picture.
* Each mention is also set against candidates of its own, not only the golds of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, relu

from mmsim.models.attention import masked_mean
from mmsim.models.batch import RankingBatch, Sequences
from mmsim.models.linking import Encoded, LinkConfig, dot
from mmsim.models.matching import Features, Matching, Modality, Unit, UnitHead

CONTRAST_TEMPERATURE = 0.03
SAME_SIDE_WEIGHT = 0.8
"""alpha, the weight of a negative from the same side."""

POOLING_TEMPERATURES = (2.0, 2.5, 3.5, 4.5)
"""The finite T_k; the fifth is infinite, the maximum."""

SOFT_POOLING_WEIGHT = 1.0
"""lambda, the weight of the soft maxima beside the mean."""


class CrossMatching(Unit):
    """Cross-modal matching: an item's two modalities look at each other, led by one of them.

    Parameters
    ----------
    width : int
    leading, other : {"text", "image"}
        The modality of x, and the one of Y.
    """

    def __init__(self, width: int, leading: Modality, other: Modality) -> None:
        super().__init__()
        self.leading: Modality = leading
        self.other: Modality = other
        self.lead = nn.Linear(width, width, bias=False)
        self.follow = nn.Linear(width, width, bias=False)
        self.attend = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, 1, bias=False)
        self.norm = nn.LayerNorm(width)

    def encode_mentions(self, features: Features) -> Encoded:
        """Encode M mentions: vector (M, h)."""
        return {"vector": self._encode(features)}

    def encode_entities(self, features: Features) -> Encoded:
        """Encode E entities: vector (E, h)."""
        return {"vector": self._encode(features)}

    def forward(self, mentions: Encoded, entities: Encoded) -> Tensor:
        """Return the scores, (M, E) or (M, C), as `entities` is."""
        return dot(mentions["vector"], entities["vector"])

    def global_vectors(self, encoded: Encoded) -> Tensor:
        """Return r, shape (items, h)."""
        return encoded["vector"]

    def look(self, queries: Tensor, keys: Sequences) -> Tensor:
        """Return M(p, q), shape (items, queries, h).

        Parameters
        ----------
        queries : Tensor, shape (items, queries, h)
        keys : Sequences, of width h
        """
        # W meets queries and keys only in products, so it is applied to the fewer of them.
        by_query = queries.shape[1] < keys.values.shape[1]
        keyed = keys.values if by_query else self.attend(keys.values)
        asked = queries @ self.attend.weight if by_query else queries
        logits = (asked @ keyed.transpose(1, 2)).masked_fill(~keys.mask[:, None], -torch.inf)
        found = logits.softmax(-1) @ keyed
        return relu(self.attend(found) if by_query else found)

    def looks(self, features: Features) -> tuple[Tensor, Sequences]:
        """Return x, shape (items, h), and Z, a sequence of 1 + n tokens of width h."""
        own, others = features.tokens[self.leading], features.tokens[self.other]
        x = self.lead(features.whole[self.leading])
        y = Sequences(self.follow(others.values), others.mask)
        there = own.mask.new_ones(len(x), 1)
        keys = Sequences(
            torch.cat([x[:, None], self.lead(own.values)], dim=1),
            torch.cat([there, own.mask], dim=1),
        )
        z = torch.cat([self.look(x[:, None], y), self.look(y.values, keys)], dim=1)
        return x, Sequences(z, torch.cat([there, y.mask], dim=1))

    def _encode(self, features: Features) -> Tensor:
        x, z = self.looks(features)
        return self.norm(torch.addcmul(soft_maxima(z), torch.tanh(self.gate(x)), x))


class M3EL(UnitHead):
    """Multi-level matching: the mean of two intra-modal and two cross-modal units.

    Parameters
    ----------
    config : LinkConfig
        `without` may be "text", "image", "text_image", "image_text", "contrastive" or
        "unit_losses".
    """

    def __init__(self, config: LinkConfig) -> None:
        width = config.unit_width
        units = {
            "text": Matching(width, "text"),
            "image": Matching(width, "image"),
            "text_image": CrossMatching(width, "text", "image"),
            "image_text": CrossMatching(width, "image", "text"),
        }
        super().__init__(config, units, sentences=True)

    def loss(self, batch: RankingBatch) -> Tensor:
        """Return CE(S) + sum_k CE(s_k) + L_ICL, a scalar."""
        mentions, entities = self.features(batch.mentions), self.features(batch.entities)
        loss = self.ranking_loss(self.mentions_from(mentions), self.entities_from(entities), batch)
        if self.config.without == "contrastive":
            return loss
        return loss + self.contrastive_loss(mentions, entities, batch)

    def contrastive_loss(
        self, mentions: Features, entities: Features, batch: RankingBatch
    ) -> Tensor:
        """Return L_ICL of the features of the batch's mentions and entities, a scalar."""
        gold = batch.gold
        imaged = batch.mentions.image.mask.any(1) & batch.entities.image.mask.any(1)[gold]
        text = contrast(mentions.broad["text"], entities.broad["text"][gold], gold)
        image = contrast(
            mentions.whole["image"][imaged], entities.whole["image"][gold[imaged]], gold[imaged]
        )
        return (text + image) / 2


def soft_maxima(sequences: Sequences) -> Tensor:
    """Return R(Z): the mean over the tokens, plus soft maxima of each channel.

    Parameters
    ----------
    sequences : Sequences
        Z, of width h.

    Returns
    -------
    Tensor, shape (items, h)
    """
    absent = ~sequences.mask[..., None]
    values = sequences.values.masked_fill(absent, -torch.inf)
    weights = torch.stack([(t * values).softmax(1) for t in POOLING_TEMPERATURES]).sum(0)
    soft = (weights * sequences.values.masked_fill(absent, 0.0)).sum(1)
    maxima = (soft + values.amax(1)) / (len(POOLING_TEMPERATURES) + 1)
    return masked_mean(sequences) + SOFT_POOLING_WEIGHT * maxima


def contrast(mentions: Tensor, golds: Tensor, gold: Tensor) -> Tensor:
    """Return the intra-modal contrastive loss in one modality, a scalar.

    Parameters
    ----------
    mentions, golds : Tensor, shape (M, h)
        Global features of mentions, and of each one's gold.
    gold : Tensor, int64, shape (M,)
        Number of each mention's gold: rows with the same number are no negatives of each other.
    """
    if not len(gold):
        return mentions.sum().float()  # 0, as a part of the graph
    m, e = normalize(mentions, dim=-1), normalize(golds, dim=-1)
    itself = torch.eye(len(gold), dtype=torch.bool, device=gold.device)
    same = gold[:, None] == gold
    sides = []
    for one, other in ((e, m), (m, e)):
        across = (one @ other.T).masked_fill(same & ~itself, -torch.inf)
        within = (SAME_SIDE_WEIGHT * one @ one.T).masked_fill(same, -torch.inf)
        logits = torch.cat([across, within], dim=1) / CONTRAST_TEMPERATURE
        target = torch.arange(len(gold), device=gold.device)
        sides.append(cross_entropy(logits.float(), target))
    return torch.stack(sides).mean()
