"""What is left of a trained head when something is taken from it.

blank_image : every image is the mean of all: what the text alone carries.
shuffled_image : every image is another one of the test split: the same, with real images.
EMAP : the head's own scores without what only image *and* text together say.

Source of EMAP: Hessel and Lee 2020, "Does my multimodal model learn cross-modal interactions?",
section 3. The projection of a score f(t, v) onto sums of a function of the text and a function
of the image, over pairs i = 1..n, is

    g(t_i, v_i) = mean_j f(t_i, v_j) + mean_j f(t_j, v_i) - mean_jk f(t_j, v_k).

If g decides as well as f, the head makes no use of interaction between the modalities. In task
pair, t is the two captions and v the two images; in task match, t is the caption and v the image,
and any success at all is interaction.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmsim.evaluation.retrieval import Pool
from mmsim.models.heads import PairHead
from mmsim.training.memory import FeatureMemory
from mmsim.training.scoring import score_pairs

BLOCK = 16
"""Text pairs and image pairs of one block of EMAP's square: 256 combinations."""


def with_blank_images(memory: FeatureMemory) -> FeatureMemory:
    """Return features in which every image is the mean image of the store."""
    mean = memory.grid[memory.images_ok.to(memory.grid.device)].float().mean(0).half()
    return dataclasses.replace(memory, grid=mean.expand_as(memory.grid))


def with_shuffled_images(rows: Tensor, seed: int = 0) -> Tensor:
    """Return the pairs' row numbers with each image replaced by another of them.

    Every image goes to one other place, wherever it stands: pairs that share an image still do.
    """
    images = rows[:, [0, 2]].unique()
    order = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))]
    other = torch.empty(int(images.max()) + 1, dtype=torch.int64)
    # One cycle through all images in random order: none stays where it is.
    other[order] = order.roll(1)
    shuffled = rows.clone()
    shuffled[:, [0, 2]] = other[rows[:, [0, 2]]]
    return shuffled


def projection(square: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return EMAP of the diagonal.

    Parameters
    ----------
    square : ndarray of float, shape (pairs, pairs)
        Entry (i, j) is the score of pair i's texts with pair j's images.
    """
    values = square.astype(np.float64)
    return np.asarray(values.mean(axis=1) + values.mean(axis=0) - values.mean())


def emap_of_matches(
    matrix: NDArray[np.floating], pool: Pool, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return EMAP of pairs of task match from the scores of the whole pool.

    Parameters
    ----------
    matrix : ndarray of float, shape (images, texts)
        Scores of the pool.
    rows : ndarray of int64, shape (pairs, 4)
        Pairs whose query image and candidate text are in the pool.
    """
    images = np.searchsorted(pool.images, rows[:, 0])
    texts = np.searchsorted(pool.texts, rows[:, 3])
    return projection(matrix[images][:, texts].T)


def emap_of_pairs(model: PairHead, memory: FeatureMemory, rows: Tensor) -> NDArray[np.float64]:
    """Return EMAP of pairs of task pair; each one's captions meet each other one's images.

    Parameters
    ----------
    rows : Tensor, int64, shape (pairs, 4)
    """
    square = np.empty((len(rows), len(rows)), dtype=np.float32)
    for texts in torch.arange(len(rows)).split(BLOCK):
        for images in torch.arange(len(rows)).split(BLOCK):
            combined = rows[images].repeat(len(texts), 1)
            combined[:, [1, 3]] = rows[texts][:, [1, 3]].repeat_interleave(len(images), dim=0)
            scores = score_pairs(model, memory, combined)
            block = np.ix_(texts.numpy(), images.numpy())
            square[block] = scores.reshape(len(texts), len(images))
    return projection(square)
