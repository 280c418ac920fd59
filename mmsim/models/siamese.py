"""The Siamese network over frozen image and text features, with three kinds of attention.

Each modality has a branch: the mean of its tokens, projected, plus what attention adds, then a
small feed-forward layer. Attention is within the modality (``base``: image cells attend to image
cells, words to words), across (``cross``: each modality's tokens attend to the other's) or
absent (``none``). Both sides of a pair pass through the same branches; the score is the cosine of
the two unit embeddings.

Source: the WikiDiverse Siamese study (Jembere 2025), sections 2.1 and 2.4, as described there:
its code instead attends over sequences of length one. Siamese networks: Bromley et al. 1993.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from mmsim.models.attention import AttentionPool, TokenPool, masked_mean
from mmsim.models.batch import PairBatch, Sequences
from mmsim.models.standardize import Standardize, drop_channels

GATE_START = 0.1
"""Weight of attention beside the mean before training."""


@dataclass(frozen=True)
class SiameseConfig:
    """Everything needed to build a `Siamese` anew.

    Attributes
    ----------
    task : {"match", "pair"}
        match: image against caption. pair: captioned image against captioned image.
    attention : {"none", "base", "cross"}
    image_dim, text_dim : int
        Widths of the frozen features.
    width : int
        Width of the embedding, a multiple of `heads`.
    heads, head_width : int
        Attention heads, and width of each one's queries and keys.
    dropout : float
        Share of feature channels and of embedding entries dropped in training.
    """

    task: str
    attention: str
    image_dim: int
    text_dim: int
    width: int
    heads: int
    head_width: int
    dropout: float


class BranchConfig(Protocol):
    """What a branch reads of a head's configuration: fields as in `SiameseConfig`."""

    @property
    def attention(self) -> str:
        """none, base or cross."""

    @property
    def width(self) -> int:
        """Width of the vectors."""

    @property
    def heads(self) -> int:
        """Attention heads."""

    @property
    def head_width(self) -> int:
        """Width of each head's queries and keys."""

    @property
    def dropout(self) -> float:
        """Share of entries dropped in training."""


class Branch(nn.Module):
    """Encodes one modality, alone or in the light of the other.

    h = LN(W mean(x) + gate * attention);  out = h + W_2 gelu(W_1 h)

    The gate, one factor for each channel, starts small: attention has to earn its weight, or it
    over-fits small data before the means have learnt anything (LayerScale, Touvron et al. 2021).
    """

    def __init__(self, config: BranchConfig, dim: int, other_dim: int) -> None:
        super().__init__()
        width = config.width
        self.crosses = config.attention == "cross"
        self.pool: AttentionPool | TokenPool
        if config.attention == "none":
            parameters = dim * (2 * config.heads * config.head_width + width)
            self.pool = TokenPool(dim, parameters, width)
        else:
            context_dim = other_dim if self.crosses else dim
            self.pool = AttentionPool(dim, context_dim, width, config.heads, config.head_width)
        self.mean = nn.Linear(dim, width)
        self.gate = nn.Parameter(torch.full((width,), GATE_START))
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, own: Sequences, other: Sequences, pairs: tuple[Tensor, Tensor]) -> Tensor:
        """Return one vector for each pair of an item and an item of the other modality.

        Only with cross attention does the vector depend on the other item; without, each item
        is encoded once.

        Parameters
        ----------
        own, other : Sequences
        pairs : (Tensor, Tensor), int64, each of shape (pairs,)
            Positions in `own` and in `other`.

        Returns
        -------
        Tensor, shape (pairs, width)
        """
        mean = self.mean(masked_mean(own))
        if self.crosses:
            attended = self.pool(own, other, pairs)
            return self._finish(mean.index_select(0, pairs[0]) + self.gate * attended)
        alone = isinstance(self.pool, TokenPool)
        attended = self.pool(own) if alone else self.pool(own, own, in_step(own))
        return self._finish(mean + self.gate * attended).index_select(0, pairs[0])

    def all_pairs(self, own: Sequences, other: Sequences) -> Tensor:
        """Return one vector for each item in the light of each of the other's.

        Returns
        -------
        Tensor, shape (own items, other items, width)
        """
        assert isinstance(self.pool, AttentionPool)
        attended = self.pool.all_pairs(own, other)
        return self._finish(self.mean(masked_mean(own)).unsqueeze(1) + self.gate * attended)

    def _finish(self, pooled: Tensor) -> Tensor:
        h = self.norm(pooled)
        hidden = nn.functional.gelu(self.hidden(self.dropout(h)))
        return h + self.out(self.dropout(hidden))


class Siamese(nn.Module):
    """Scores pairs by the cosine of two embeddings."""

    def __init__(self, config: SiameseConfig) -> None:
        super().__init__()
        self.config = config
        self.standardize_image = Standardize(config.image_dim)
        self.standardize_text = Standardize(config.text_dim)
        self.image = Branch(config, config.image_dim, config.text_dim)
        self.text = Branch(config, config.text_dim, config.image_dim)
        if config.task == "pair":
            self.fuse = nn.Linear(2 * config.width, config.width)

    def forward(self, batch: PairBatch) -> Tensor:
        """Score each pair.

        Returns
        -------
        Tensor, float32, shape (pairs,)
            Cosine similarity, -1 to 1.
        """
        images, texts = self._prepare(batch.images, batch.texts)
        if self.config.task == "match":
            pairs = (batch.query_image, batch.candidate_text)
            query, candidate = (
                self.image(images, texts, pairs),
                self.text(texts, images, pairs[::-1]),
            )
        else:
            query, candidate = self._embed_items(images, texts, batch)
        return cosine_similarity(query, candidate, dim=-1)

    def score_all(self, batch: PairBatch) -> Tensor:
        """Score each pair's query against each pair's candidate.

        Returns
        -------
        Tensor, float32, shape (queries, candidates)
            Cosine similarity of query i and candidate j.
        """
        images, texts = self._prepare(batch.images, batch.texts)
        if self.config.task == "pair":
            query, candidate = self._embed_items(images, texts, batch)
        else:
            image, text = _take(images, batch.query_image), _take(texts, batch.candidate_text)
            if self.image.crosses:
                query = self.image.all_pairs(image, text)
                candidate = self.text.all_pairs(text, image).transpose(0, 1)
                return cosine_similarity(query, candidate, dim=-1)
            query = self.image(image, text, in_step(image))
            candidate = self.text(text, image, in_step(text))
        return normalize(query, dim=-1) @ normalize(candidate, dim=-1).T

    def attention_weights(self, images: Sequences, texts: Sequences) -> dict[str, Tensor]:
        """Return what attends to what for images and texts in step.

        Returns
        -------
        dict of str to Tensor
            ``image`` and ``text``: weights of that modality's tokens over the other's (cross) or
            its own (base), shape (items, heads, tokens, tokens). Empty for ``none``.
        """
        images, texts = self._prepare(images, texts)
        weights = {}
        for name, branch, own, other in (
            ("image", self.image, images, texts),
            ("text", self.text, texts, images),
        ):
            if isinstance(branch.pool, AttentionPool):
                context = other if branch.crosses else own
                weights[name] = branch.pool.weights(own, context, in_step(own))
        return weights

    def _prepare(self, images: Sequences, texts: Sequences) -> tuple[Sequences, Sequences]:
        """Standardise both modalities' features and, in training, drop channels."""
        share = self.config.dropout if self.training else 0.0
        return (
            drop_channels(images, self.standardize_image, share),
            drop_channels(texts, self.standardize_text, share),
        )

    def _embed_items(
        self, images: Sequences, texts: Sequences, batch: PairBatch
    ) -> tuple[Tensor, Tensor]:
        """Task pair: embed both captioned images of each pair, each distinct one once.

        Returns
        -------
        (Tensor, Tensor), each of shape (pairs, width)
        """
        query = torch.stack([batch.query_image, batch.query_text], dim=1)
        candidate = torch.stack([batch.candidate_image, batch.candidate_text], dim=1)
        items, positions = torch.unique(torch.cat([query, candidate]), dim=0, return_inverse=True)
        pairs = (items[:, 0], items[:, 1])
        image, text = self.image(images, texts, pairs), self.text(texts, images, pairs[::-1])
        embeddings = self.fuse(torch.cat([image, text], dim=-1)).index_select(0, positions)
        return embeddings[: len(query)], embeddings[len(query) :]


def in_step(sequences: Sequences) -> tuple[Tensor, Tensor]:
    """Pair each item with the other modality's item at the same position."""
    positions = torch.arange(len(sequences.mask), device=sequences.mask.device)
    return positions, positions


def _take(sequences: Sequences, rows: Tensor) -> Sequences:
    return Sequences(sequences.values[rows], sequences.mask[rows])
