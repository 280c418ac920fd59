"""Scores of many pairs by a trained head, a batch at a time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmsim.models.heads import PairHead
from mmsim.models.siamese import Siamese
from mmsim.training.memory import FeatureMemory

BATCH_PAIRS = 256
"""Pairs scored at a time."""

BLOCK_ITEMS = 32
"""Queries and candidates of one block of a score matrix: 1,024 pairs at a time."""


@torch.inference_mode()
def score_pairs(model: PairHead, memory: FeatureMemory, rows: Tensor) -> NDArray[np.float32]:
    """Score pairs.

    Parameters
    ----------
    model : PairHead
        On the device of `memory`.
    rows : Tensor, int64, shape (pairs, 4)
        Row numbers in the order of `mmsim.training.memory.ROW_COLUMNS`.

    Returns
    -------
    ndarray of float32, shape (pairs,)
    """
    model.eval()
    scores = [
        model(memory.batch(part, model.config.task)).float().cpu()
        for part in rows.split(BATCH_PAIRS)
    ]
    return torch.cat(scores).numpy()


@torch.inference_mode()
def score_matrix(
    model: Siamese, memory: FeatureMemory, images: Tensor, texts: Tensor
) -> NDArray[np.float32]:
    """Score each image against each text (task match), a block at a time.

    Parameters
    ----------
    images, texts : Tensor, int64, shapes (n,) and (m,)
        Row numbers.

    Returns
    -------
    ndarray of float32, shape (n, m)
    """
    model.eval()
    matrix = np.empty((len(images), len(texts)), dtype=np.float32)
    for top in range(0, len(images), BLOCK_ITEMS):
        for left in range(0, len(texts), BLOCK_ITEMS):
            rows = images[top : top + BLOCK_ITEMS]
            columns = texts[left : left + BLOCK_ITEMS]
            scores = model.score_all(memory.match_block(rows, columns))
            matrix[top : top + len(rows), left : left + len(columns)] = scores.float().cpu()
    return matrix
