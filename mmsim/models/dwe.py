"""DWE: the mention, enhanced by image, sentence and attributes, matched with the entity's text.

A mention has the tokens m of its own words, t of "mention [SEP] sentence", d of the image (grid
cells), f of phrases on the objects and s of phrases on the scene that the image shows. P projects
tokens to one width, P x = Drop(LN(W x + b)), with one W for all text and one for the image. One
enhancer E, with the same weights each time, looks from X = P m at a context Y:

    A = LN(X + MHA(X; Y, Y))                                       tokens of X, n of them
    H = LN(A + W_2 gelu(W_1 A))
    E(X, Y) = sum_i softmax_i(q . H_i / sqrt(width)) H_i,   q = W_q mean(X)

    m_v = E(P m, [P f; P d])          m_t = E(P m, P t)          m_s = E(P m, P s)
    a = m_v + m_t,   z = sigmoid(W_g [a; m_s] + b_g),   g = z * a + (1 - z) * m_s
    g_e = W_e mean(tokens of "name [SEP] description") + b_e       each entity
    score = cos(g, g_e)

The loss of a mention with gold e and negatives n (the other golds of the batch and its own
candidates; the gold is never among them) is

    triplet = max_n max(0, margin + cos(g, g_n) - cos(g, g_e))
    L = triplet + 0.1 (attributes(mean P f, mean P d) + sentence(m_v, m_t))

with cosines at one learned temperature in both alignment losses, symmetric cross-entropies over
the mentions of the batch: f against d (those with phrases and an image), m_v against m_t (all).
A mention of the same gold is no negative of another there. The triplet is that of the hardest
negative: the mean over all that violate the margin is a push against the crowd where the margin
is wide, and then ranks worse.

Source: Song et al. 2024, "A Dual-way Enhanced Framework from Text Matching Point of View for
Multimodal Entity Linking" (AAAI), its figure; equations that the figure leaves open are ours:
"decoder query" is read as the last line of E, a second, small attention from X that makes one
vector of the enhanced tokens; the gate is a sigmoid of both inputs.

Differences from the released code:

* It ranks by the cosine but trains on the dot product; here both are the cosine.
* A drawn negative there may be the gold itself; here the gold stands once.
* Its branch for WikiDiverse cannot run, and its alignment losses are undefined there; here every
  path runs. The ranking loss weighs ten times an alignment loss in both.
* f there is what a face classifier says, race and gender among it. Nothing of the kind is inferred
  here: phrases are labels of objects and scenes. Where there are none they are masked, not zeros; a
  mention without any s has one learned token in its place.
* d are grid cells, not crops of detected objects; a missing image is one learned token.
* The entity is its text, frozen there, projected here. The images of entities that the WikiDiverse
  release lists are not used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, normalize

from mmsim.models.attention import masked_mean
from mmsim.models.batch import LinkItems, RankingBatch, Sequences
from mmsim.models.linking import (
    Encoded,
    LinkConfig,
    LinkHead,
    dot,
    filled,
    ranking_scores,
)
from mmsim.models.standardize import drop_channels

TEMPERATURE = 0.07
"""Temperature of the alignment losses before training."""

ALIGNMENT_WEIGHT = 0.1
"""Weight of an alignment loss beside the triplet loss."""


class Projection(nn.Module):
    """Drop(LN(W x + b)) of each token."""

    def __init__(self, dim: int, width: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Sequences) -> Sequences:
        """Return tokens (items, n, dim) as (items, n, width)."""
        return Sequences(self.dropout(self.norm(self.linear(tokens.values))), tokens.mask)


class Enhancer(nn.Module):
    """E(X, Y): what a context says of a mention, as one vector."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        # Without biases: that of the keys could not change any weight.
        self.attention = nn.MultiheadAttention(width, heads, bias=False, batch_first=True)
        self.norm_attended = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, 2 * width)
        self.out = nn.Linear(2 * width, width)
        self.norm_enhanced = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, mention: Sequences, context: Sequences) -> Tensor:
        """Return one vector for each mention.

        Parameters
        ----------
        mention, context : Sequences, shapes (M, n, width) and (M, k, width)
            In step; each with a token at least.

        Returns
        -------
        Tensor, shape (M, width)
        """
        x, y = mention.values, context.values
        attended, _ = self.attention(
            x, y, y, key_padding_mask=~context.mask, need_weights=False
        )  # (M, n, width)
        h = self.norm_attended(x + attended)
        h = self.norm_enhanced(h + self.out(self.dropout(gelu(self.hidden(h)))))
        query = self.query(masked_mean(mention))  # (M, width)
        scores = torch.einsum("md,mnd->mn", query, h) / math.sqrt(h.shape[-1])
        weights = scores.masked_fill(~mention.mask, -torch.inf).softmax(-1)
        return torch.einsum("mn,mnd->md", weights, h)


@dataclass(frozen=True)
class Enhanced:
    """The ways in which mentions were enhanced, and what the image's alignment compares.

    Attributes
    ----------
    vision, text, attributes : Tensor, shape (M, width), or None
        m_v, m_t and m_s; None for one that is left out.
    phrases, cells : Sequences or None
        P f, which may be empty, and P d; None without the image.
    """

    vision: Tensor | None
    text: Tensor | None
    attributes: Tensor | None
    phrases: Sequences | None
    cells: Sequences | None


class DWE(LinkHead):
    """Ranks entities by the cosine of the enhanced mention and the entity's text.

    One unit, ``fused``. `config.without`: ``image`` (m_v, and with it both alignment losses),
    ``text`` (m_t, and with it the sentence's), ``attributes`` (m_s and the gate), ``gate`` (the
    sum in its place) or ``alignment`` (both losses). What is left out has no parameters.
    Without the text, the temperature learns from phrases alone, and idles where there are none.
    """

    exact_global = True

    def __init__(self, config: LinkConfig) -> None:
        super().__init__(config)
        width, without = config.width, config.without
        self.uses_text = without != "text"
        self.project_text = Projection(config.text_dim, width, config.dropout)
        self.project_image: Projection | None = None
        self.no_scene: nn.Parameter | None = None
        self.gate: nn.Linear | None = None
        self.log_temperature: nn.Parameter | None = None
        if without != "image":
            self.project_image = Projection(config.image_dim, width, config.dropout)
        else:
            # Every head has a vector for a missing image; here nothing reads it, so that it is no
            # parameter.
            del self.inputs.no_image
            self.inputs.register_buffer("no_image", torch.zeros(config.image_dim))
        if without != "attributes":
            self.no_scene = nn.Parameter(0.02 * torch.randn(config.text_dim))
            if without != "gate":
                self.gate = nn.Linear(2 * width, width)
        self.enhance = Enhancer(width, config.heads, config.dropout)
        self.entity = nn.Linear(config.text_dim, width)
        if without not in ("alignment", "image"):
            # One for both losses: it learns from the sentences where there are no phrases.
            self.log_temperature = nn.Parameter(torch.tensor(math.log(TEMPERATURE)))

    def encode_mentions(self, items: LinkItems) -> Encoded:
        """Encode M mentions: ``fused``, g at length 1, shape (M, width)."""
        return self._fuse(self._enhance(items))

    def encode_entities(self, items: LinkItems) -> Encoded:
        """Encode E entities from their texts: ``fused``, g_e at length 1, shape (E, width)."""
        # Not through `inputs`: that would standardise the entities' images for nothing.
        share = self.config.dropout if self.training else 0.0
        mean = masked_mean(drop_channels(items.text, self.inputs.text, share))
        return {"fused": normalize(self.entity(mean), dim=-1)}

    def unit_scores(self, mentions: Encoded, entities: Encoded) -> dict[str, Tensor]:
        """Return the cosines as ``fused``, shape (M, E) or (M, C)."""
        return {"fused": dot(mentions["fused"], entities["fused"])}

    def global_vectors(self, encoded: Encoded) -> Tensor:
        """Return g or g_e at length 1: their dot products are the whole score."""
        return encoded["fused"]

    def loss(self, batch: RankingBatch) -> Tensor:
        """Return the triplet loss and the alignment losses, a scalar."""
        enhanced = self._enhance(batch.mentions)
        entities = self.encode_entities(batch.entities)
        scores = ranking_scores(self, self._fuse(enhanced), entities, batch)["fused"]
        ranking = triplet(scores, batch.gold, self.config.margin)
        if self.log_temperature is None:
            return ranking
        return ranking + ALIGNMENT_WEIGHT * self._alignment(enhanced, batch)

    def _enhance(self, items: LinkItems) -> Enhanced:
        items = self.inputs(items)
        mention = self.project_text(items.name)
        vision = text = attributes = phrases = cells = None
        if self.project_image is not None:
            phrases, cells = self.project_text(items.objects), self.project_image(items.image)
            vision = self.enhance(mention, _side_by_side(phrases, cells))
        if self.uses_text:
            text = self.enhance(mention, self.project_text(items.text))
        if self.no_scene is not None:
            scene = filled(items.scene, self.no_scene)
            attributes = self.enhance(mention, self.project_text(scene))
        return Enhanced(vision, text, attributes, phrases, cells)

    def _fuse(self, enhanced: Enhanced) -> Encoded:
        ways = [way for way in (enhanced.vision, enhanced.text) if way is not None]
        fused = torch.stack(ways).sum(0)
        attributes = enhanced.attributes
        if attributes is not None and self.gate is not None:
            share = self.gate(torch.cat([fused, attributes], dim=-1)).sigmoid()
            fused = share * fused + (1 - share) * attributes
        elif attributes is not None:
            fused = fused + attributes
        return {"fused": normalize(fused, dim=-1)}

    def _alignment(self, enhanced: Enhanced, batch: RankingBatch) -> Tensor:
        """Return the sum of the alignment losses that this batch has."""
        assert self.log_temperature is not None
        assert enhanced.phrases is not None and enhanced.cells is not None
        temperature = self.log_temperature.exp()
        # What there was, not what stands in for it.
        both = batch.mentions.objects.mask.any(1) & batch.mentions.image.mask.any(1)
        phrases, cells = (
            masked_mean(Sequences(tokens.values[both], tokens.mask[both]))
            for tokens in (enhanced.phrases, enhanced.cells)
        )
        total = alignment(phrases, cells, batch.gold[both], temperature)
        if enhanced.vision is not None and enhanced.text is not None:
            total = total + alignment(enhanced.vision, enhanced.text, batch.gold, temperature)
        return total


def triplet(scores: Tensor, gold: Tensor, margin: float) -> Tensor:
    """Return the triplet loss of each mention's hardest negative.

    The cosine distance is 1 - cosine, so that the difference of distances is that of cosines.

    Parameters
    ----------
    scores : Tensor, shape (M, candidates)
        Cosines; -inf for what is no candidate.
    gold : Tensor, int64, shape (M,)
        Column of each mention's gold.
    margin : float

    Returns
    -------
    Tensor
        Scalar: the mean over mentions, of which one without negatives costs nothing.
    """
    column = gold.unsqueeze(1)
    excess = (margin + scores - scores.gather(1, column)).clamp(min=0)
    return excess.scatter(1, column, 0.0).amax(1).mean()


def alignment(first: Tensor, second: Tensor, gold: Tensor, temperature: Tensor) -> Tensor:
    """Return the symmetric cross-entropy of telling each row's counterpart from the others'.

    Source: van den Oord et al. 2018, equation 4, in both directions as in Radford et al. 2021.

    Parameters
    ----------
    first, second : Tensor, shape (n, width)
        In step; n may be 0, which costs nothing.
    gold : Tensor, int64, shape (n,)
        Rows of one gold are no negatives of each other.
    temperature : Tensor
        Scalar.
    """
    if not len(gold):
        return temperature.new_zeros(())
    logits = normalize(first, dim=-1) @ normalize(second, dim=-1).T / temperature
    itself = torch.eye(len(gold), dtype=torch.bool, device=gold.device)
    logits = logits.float().masked_fill((gold[:, None] == gold) & ~itself, -torch.inf)
    own = torch.arange(len(gold), device=gold.device)
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def _side_by_side(first: Sequences, second: Sequences) -> Sequences:
    """Join the tokens of items in step."""
    return Sequences(
        torch.cat([first.values, second.values], dim=1), torch.cat([first.mask, second.mask], dim=1)
    )
