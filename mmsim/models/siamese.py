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

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from mmsim.models.attention import AttentionPool, TokenPool, masked_mean
from mmsim.models.batch import PairBatch, Sequences


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


class Branch(nn.Module):
    """Encodes one modality, alone or in the light of the other.

    h = LN(W mean(x) + attention);  out = h + W_2 gelu(W_1 h)
    """

    def __init__(self, config: SiameseConfig, dim: int, other_dim: int) -> None:
        super().__init__()
        width = config.width
        self.pool: AttentionPool | TokenPool
        if config.attention == "none":
            parameters = dim * (2 * config.heads * config.head_width + width)
            self.pool = TokenPool(dim, parameters, width)
        else:
            context_dim = dim if config.attention == "base" else other_dim
            self.pool = AttentionPool(dim, context_dim, width, config.heads, config.head_width)
        self.mean = nn.Linear(dim, width)
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, own: Sequences, other: Sequences | None) -> Tensor:
        """Return one vector for each item, shape (items, width).

        `other` is the other modality's sequence of each item where the branch looks across,
        else None.
        """
        if isinstance(self.pool, TokenPool):
            attended = self.pool(own)
        else:
            attended = self.pool(own, other or own)
        return self._finish(self.mean(masked_mean(own)) + attended)

    def all_pairs(self, own: Sequences, other: Sequences) -> Tensor:
        """Return one vector for each item in the light of each of the other's.

        Returns
        -------
        Tensor, shape (own items, other items, width)
        """
        assert isinstance(self.pool, AttentionPool)
        attended = self.pool.all_pairs(own, other)
        return self._finish(self.mean(masked_mean(own)).unsqueeze(1) + attended)

    def _finish(self, pooled: Tensor) -> Tensor:
        h = self.norm(pooled)
        hidden = nn.functional.gelu(self.hidden(self.dropout(h)))
        return h + self.out(self.dropout(hidden))


class Siamese(nn.Module):
    """Scores pairs by the cosine of two embeddings."""

    def __init__(self, config: SiameseConfig) -> None:
        super().__init__()
        self.config = config
        self.image = Branch(config, config.image_dim, config.text_dim)
        self.text = Branch(config, config.text_dim, config.image_dim)
        if config.task == "pair":
            self.fuse = nn.Linear(2 * config.width, config.width)

    @property
    def crosses(self) -> bool:
        """Whether the two modalities look at each other."""
        return self.config.attention == "cross"

    @property
    def interacts(self) -> bool:
        """Whether a query's embedding depends on the candidate: match with cross attention."""
        return self.crosses and self.config.task == "match"

    def forward(self, batch: PairBatch) -> Tensor:
        """Score each pair.

        Returns
        -------
        Tensor, float32, shape (pairs,)
            Cosine similarity, -1 to 1.
        """
        if self.interacts:
            image, text = self._image_and_caption(batch)
            query, candidate = self.image(image, text), self.text(text, image)
        else:
            query, candidate = self._embed(batch)
        return cosine_similarity(query, candidate, dim=-1)

    def score_all(self, batch: PairBatch) -> Tensor:
        """Score each pair's query against each pair's candidate.

        Returns
        -------
        Tensor, float32, shape (pairs, pairs)
            Cosine similarity of query i and candidate j.
        """
        if self.interacts:
            image, text = self._image_and_caption(batch)
            query = self.image.all_pairs(image, text)
            candidate = self.text.all_pairs(text, image).transpose(0, 1)
            return cosine_similarity(query, candidate, dim=-1)
        query, candidate = self._embed(batch)
        return normalize(query, dim=-1) @ normalize(candidate, dim=-1).T

    def attention_weights(self, images: Sequences, texts: Sequences) -> dict[str, Tensor]:
        """Return what attends to what for images and texts in step.

        Returns
        -------
        dict of str to Tensor
            ``image`` and ``text``: weights of that modality's tokens over the other's (cross) or
            its own (base), shape (items, heads, tokens, tokens). Empty for ``none``.
        """
        images, texts = self._prepare(images), self._prepare(texts)
        weights = {}
        for name, branch, own, other in (
            ("image", self.image, images, texts),
            ("text", self.text, texts, images),
        ):
            if isinstance(branch.pool, AttentionPool):
                weights[name] = branch.pool.weights(own, other if self.crosses else own)
        return weights

    def _prepare(self, sequences: Sequences) -> Sequences:
        """Standardise each token and, in training, drop whole channels of each item."""
        values = nn.functional.layer_norm(sequences.values, sequences.values.shape[-1:])
        if self.training and self.config.dropout:
            channels = torch.ones_like(values[:, :1])
            values = values * nn.functional.dropout(channels, self.config.dropout)
        return Sequences(values, sequences.mask)

    def _image_and_caption(self, batch: PairBatch) -> tuple[Sequences, Sequences]:
        """Task match: the query's image and the candidate's caption of each pair."""
        images, texts = self._prepare(batch.images), self._prepare(batch.texts)
        return _take(images, batch.query_image), _take(texts, batch.candidate_text)

    def _embed(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """Embed queries and candidates apart from each other, each of shape (pairs, width)."""
        images, texts = self._prepare(batch.images), self._prepare(batch.texts)
        if self.config.task == "match":
            query = self.image(images, None)[batch.query_image]
            return query, self.text(texts, None)[batch.candidate_text]
        query_items = torch.stack([batch.query_image, batch.query_text], dim=1)
        candidate_items = torch.stack([batch.candidate_image, batch.candidate_text], dim=1)
        items, positions = torch.unique(
            torch.cat([query_items, candidate_items]), dim=0, return_inverse=True
        )
        if self.crosses:
            own, other = _take(images, items[:, 0]), _take(texts, items[:, 1])
            image, text = self.image(own, other), self.text(other, own)
        else:
            image = self.image(images, None)[items[:, 0]]
            text = self.text(texts, None)[items[:, 1]]
        embeddings = self.fuse(torch.cat([image, text], dim=-1))[positions]
        query, candidate = embeddings.split(len(query_items))
        return query, candidate


def _take(sequences: Sequences, rows: Tensor) -> Sequences:
    return Sequences(sequences.values[rows], sequences.mask[rows])
