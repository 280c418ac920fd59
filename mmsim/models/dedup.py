"""The deduplication head: two cosines, weighed by a single neuron.

With v and t the means of an image's and a text's frozen tokens, each standardised,

    c_i = cos(P_v v_1, P_v v_2)      c_t = cos(P_t t_1, P_t t_2)
    logit = w_i c_i + w_t c_t + b    p = sigmoid(logit)

    L = BCE(p, y) + CosineEmbedding(c_i, 2y - 1) + CosineEmbedding(c_t, 2y - 1)

where CosineEmbedding(c, +1) = 1 - c and CosineEmbedding(c, -1) = max(0, c); the loss is
`mmsim.training.losses.DedupLoss`. The score of a pair is its logit, the same either way round.

Source: "Multimodal siamese neural network for similarity detection between (image, text) pairs",
the deduplication study, step 2. The projections P are not in its text: without them the cosine
losses of frozen features would have nothing to train. Its code forms one positive and one
negative for each row before it splits them, so that items stand in several splits; pairs here
come from `mmsim.data`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from mmsim.models.attention import masked_mean
from mmsim.models.batch import PairBatch
from mmsim.models.standardize import Standardize, drop_channels


@dataclass(frozen=True)
class DedupConfig:
    """Everything needed to build a `Dedup` anew.

    Attributes
    ----------
    image_dim, text_dim : int
        Widths of the frozen features.
    width : int
        Width of the projected features.
    dropout : float
        Share of feature channels dropped in training.
    without : {"nothing", "image", "text", "cosine_losses"}
        What is left out.
    task : {"pair"}
        Captioned image against captioned image.
    """

    image_dim: int
    text_dim: int
    width: int
    dropout: float
    without: str
    task: str = "pair"


class Dedup(nn.Module):
    """Scores pairs by a weighted sum of the cosine of their images and that of their texts."""

    def __init__(self, config: DedupConfig) -> None:
        super().__init__()
        self.config = config
        self.standardize_image = Standardize(config.image_dim)
        self.standardize_text = Standardize(config.text_dim)
        self.project_image: nn.Linear | None = None
        self.project_text: nn.Linear | None = None
        if config.without != "image":
            self.project_image = nn.Linear(config.image_dim, config.width, bias=False)
        if config.without != "text":
            self.project_text = nn.Linear(config.text_dim, config.width, bias=False)
        cosines = 2 - (config.without in ("image", "text"))
        # The neuron starts as the sum of the cosines: their mean is the untrained baseline.
        self.weight = nn.Parameter(torch.ones(cosines))
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, batch: PairBatch) -> Tensor:
        """Score each pair.

        Returns
        -------
        Tensor, float32, shape (pairs,)
            Logit of the probability that the two are the same.
        """
        return self.logits(self.cosines(batch))

    def cosines(self, batch: PairBatch) -> dict[str, Tensor]:
        """Return the cosines of each pair's projected features.

        Returns
        -------
        dict of str to Tensor, float32, shape (pairs,)
            ``image`` and ``text``, less one that is left out.
        """
        share = self.config.dropout if self.training else 0.0
        found = {}
        for name, project, standardize, items, query, candidate in (
            (
                "image",
                self.project_image,
                self.standardize_image,
                batch.images,
                batch.query_image,
                batch.candidate_image,
            ),
            (
                "text",
                self.project_text,
                self.standardize_text,
                batch.texts,
                batch.query_text,
                batch.candidate_text,
            ),
        ):
            if project is not None:
                vectors = project(masked_mean(drop_channels(items, standardize, share))).float()
                found[name] = cosine_similarity(vectors[query], vectors[candidate], dim=-1)
        return found

    def logits(self, cosines: dict[str, Tensor]) -> Tensor:
        """Return the neuron's logits, float32, shape (pairs,), from the cosines."""
        # A plain sum: as a matrix product it would lose digits under autocast.
        return (torch.stack(list(cosines.values()), dim=-1) * self.weight).sum(-1) + self.offset
