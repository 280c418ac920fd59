"""The Siamese network as a linking head: mention and entity through the same branches.

An item, be it a mention or an entity, has an image I and a text T ("mention [SEP] sentence" or
"name [SEP] description"). With the branches B of `mmsim.models.siamese`,

    e(item) = W [B_image(I, T); B_text(T, I)] + b                  one vector for each item
    score(mention, entity) = cos(e(mention), e(entity))

Attention is within each modality (``base``), between the item's own image and text (``cross``)
or absent (``none``), with the same number of parameters within 2 %. An item without an image has
one learned token in the image's place. The loss is the cross-entropy of the gold over
score / temperature, among the golds of the batch and the mention's own candidates.

Source: the WikiDiverse Siamese study (Jembere 2025), which judges pairs of captioned images and
links nothing: what is new here is that the second captioned image is an entity.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmsim.models.batch import LinkItems, RankingBatch
from mmsim.models.linking import (
    Encoded,
    LinkConfig,
    LinkHead,
    cross_entropy_of,
    dot,
    ranking_scores,
)
from mmsim.models.siamese import Branch, in_step


class LinkSiamese(LinkHead):
    """Ranks entities by the cosine of two embeddings; one unit, ``fused``."""

    exact_global = True

    def __init__(self, config: LinkConfig) -> None:
        super().__init__(config)
        self.image = Branch(config, config.image_dim, config.text_dim)
        self.text = Branch(config, config.text_dim, config.image_dim)
        self.fuse = nn.Linear(2 * config.width, config.width)
        # So that the untrained head ranks as the frozen features do, or nearly.
        for layer in (self.image.mean, self.text.mean, self.fuse):
            nn.init.orthogonal_(layer.weight)

    def encode_mentions(self, items: LinkItems) -> Encoded:
        """Encode M mentions: ``embedding``, of length 1, shape (M, width)."""
        return self._encode(items)

    def encode_entities(self, items: LinkItems) -> Encoded:
        """Encode E entities, by the same weights: ``embedding``, shape (E, width)."""
        return self._encode(items)

    def unit_scores(self, mentions: Encoded, entities: Encoded) -> dict[str, Tensor]:
        """Return the cosines as ``fused``, shape (M, E) or (M, C)."""
        return {"fused": dot(mentions["embedding"], entities["embedding"])}

    def global_vectors(self, encoded: Encoded) -> Tensor:
        """Return the embeddings: their dot products are the whole score."""
        return encoded["embedding"]

    def loss(self, batch: RankingBatch) -> Tensor:
        """Return the mean cross-entropy of the golds, a scalar."""
        mentions = self.encode_mentions(batch.mentions)
        entities = self.encode_entities(batch.entities)
        scores = ranking_scores(self, mentions, entities, batch)["fused"]
        return cross_entropy_of(scores / self.config.temperature, batch)

    def _encode(self, items: LinkItems) -> Encoded:
        items = self.inputs(items)
        itself = in_step(items.text)
        image = self.image(items.image, items.text, itself)  # (items, width)
        text = self.text(items.text, items.image, itself)
        return {"embedding": normalize(self.fuse(torch.cat([image, text], dim=-1)), dim=-1)}
