"""Everything that needs a trained head: scores of pairs and pool, and of the controls."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    emap : ndarray of float64, shape (pairs of the projection,), or None
        Projected scores of the pairs of `projected_pairs`.
    pool : ndarray of float32, shape (images, texts), or None
        Scores of the retrieval pool (task match).
    """

    valid: NDArray[np.float32]
    test: NDArray[np.float32]
    controls: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    emap: NDArray[np.float64] | None = None
    pool: NDArray[np.float32] | None = None


def score_seed(
    model: Siamese,
    memory: FeatureMemory,
    valid: Pairs,
    test: Pairs,
    pool: Pool | None,
    projected: NDArray[np.int64],
) -> SeedScores:
    """Score all that is reported of one seed.

    Parameters
    ----------
    projected : ndarray of int64
        Numbers of the test pairs that EMAP is computed on; may be empty.
    """
    rows = test.rows[torch.from_numpy(primary(test.table))]
    controls = {
        "blank_image": score_pairs(model, with_blank_images(memory), rows),
        "shuffled_image": score_pairs(model, memory, with_shuffled_images(rows)),
    }
    matrix = emap = None
    if pool is not None:
        images, texts = torch.from_numpy(pool.images), torch.from_numpy(pool.texts)
        matrix = score_matrix(model, memory, images, texts)
    chosen = test.rows[torch.from_numpy(projected)]
    if len(projected):
        emap = (
            emap_of_pairs(model, memory, chosen)
            if pool is None or matrix is None
            else emap_of_matches(matrix, pool, chosen.numpy())
        )
    return SeedScores(
        score_pairs(model, memory, valid.rows),
        score_pairs(model, memory, test.rows),
        controls,
        emap,
        matrix,
    )


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


def retrieval_pool(test: Pairs) -> Pool:
    """Return the images and captions of the own-caption test pairs."""
    table = test.table
    own = table[(table["tier"] == "own_caption").to_numpy()]
    images = np.unique(own["query_image"].to_numpy())
    texts = np.unique(own["candidate_text"].to_numpy())
    shape = (len(images), len(texts))
    places = (
        np.searchsorted(images, own["query_image"]),
        np.searchsorted(texts, own["candidate_text"]),
    )
    belongs = np.zeros(shape, dtype=bool)
    belongs[places] = True
    shown: tuple[list[set[int]], list[set[int]]] = ([set() for _ in images], [set() for _ in texts])
    clusters = (np.full(len(images), -1), np.full(len(texts), -1))
    for image, text, gold, entity in zip(*places, own["query_gold"], own["entity"], strict=True):
        for place, side, cluster in zip((image, text), shown, clusters, strict=True):
            side[place].update(int(value) for value in gold)
            cluster[place] = entity
    relevant = belongs | np.array(
        [[not image.isdisjoint(text) for text in shown[1]] for image in shown[0]]
    ).reshape(shape)
    return Pool(images, texts, belongs, relevant, *(_apart(c) for c in clusters))


def entity_clusters(pairs: Pairs) -> NDArray[np.int64]:
    """Return the cluster of each pair: its entity, or where it has none, its query alone."""
    entity = pairs.table["entity"].to_numpy()
    return np.where(entity >= 0, entity, -2 - pairs.rows[:, 0].numpy())


def _apart(clusters: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give each row without an entity a cluster of its own."""
    return np.where(clusters >= 0, clusters, -1 - np.arange(len(clusters)))
