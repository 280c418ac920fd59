"""Everything that needs a trained head: scores of pairs and pool, and of the controls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mmsim.evaluation.controls import (
    emap_of_matches,
    emap_of_pairs,
    with_blank_images,
    with_shuffled_images,
)
from mmsim.evaluation.retrieval import Pool
from mmsim.evaluation.slices import primary
from mmsim.models.heads import PairHead
from mmsim.models.siamese import Siamese
from mmsim.training.memory import FeatureMemory, Pairs
from mmsim.training.scoring import score_matrix, score_pairs


@dataclass(frozen=True)
class SeedScores:
    """What the head of one seed says.

    Attributes
    ----------
    valid, test : ndarray of float32, shape (pairs,)
        Scores of the pairs of a split.
    controls : dict of str to ndarray, shape (primary test pairs,)
        Scores of ``blank_image`` and ``shuffled_image``.
    emap : ndarray of float64, shape (pairs of the projection,)
        Projected scores of the pairs of `projected_pairs`.
    pool : ndarray of float32, shape (images, texts)
        Scores of the retrieval pool; empty in task pair.
    """

    valid: NDArray[np.float32]
    test: NDArray[np.float32]
    controls: dict[str, NDArray[np.float32]]
    emap: NDArray[np.float64]
    pool: NDArray[np.float32]


def score_seeds(
    models: dict[int, PairHead],
    memory: FeatureMemory,
    valid: Pairs,
    test: Pairs,
    pool: Pool | None,
    projected: NDArray[np.int64],
) -> dict[int, SeedScores]:
    """Score all that is reported of each seed.

    Parameters
    ----------
    pool : Pool, optional
        Task match: what the images and captions of the test split are ranked in.
    projected : ndarray of int64
        Numbers of the test pairs that EMAP is computed on; may be empty.
    """
    main = test.rows[torch.from_numpy(primary(test.table))]
    controls = {
        "blank_image": (with_blank_images(memory), main),
        "shuffled_image": (memory, with_shuffled_images(main)),
    }
    chosen = test.rows[torch.from_numpy(projected)]
    found = {}
    for seed, model in models.items():
        matrix, emap = np.empty((0, 0), dtype=np.float32), np.empty(0)
        if pool is not None:
            assert isinstance(model, Siamese)  # no other head is of task match
            images, texts = torch.from_numpy(pool.images), torch.from_numpy(pool.texts)
            matrix = score_matrix(model, memory, images, texts)
            if len(chosen):
                emap = emap_of_matches(matrix, pool, chosen.numpy())
        elif len(chosen):
            emap = emap_of_pairs(model, memory, chosen)
        found[seed] = SeedScores(
            score_pairs(model, memory, valid.rows),
            score_pairs(model, memory, test.rows),
            {name: score_pairs(model, *control) for name, control in controls.items()},
            emap,
            matrix,
        )
    return found


def projected_pairs(test: Pairs, most: int, task: str) -> NDArray[np.int64]:
    """Return the numbers of the test pairs that EMAP is computed on, evenly over the labels.

    In task match all own captions with their negatives, whose scores the pool has anyway, as long
    as `most` is not 0; in task pair at most `most` of them, drawn with a fixed seed.
    """
    table = test.table
    main = table["contrast"].to_numpy() == table["contrast"].iloc[0]
    rows = np.flatnonzero(primary(table) & main)
    if task == "match" or most == 0:
        return rows[: len(rows) if most else 0]
    rng = np.random.default_rng(0)
    labels = table["label"].to_numpy()[rows]
    chosen = [rng.permutation(rows[labels == label])[: most // 2] for label in (0, 1)]
    return np.sort(np.concatenate(chosen))
