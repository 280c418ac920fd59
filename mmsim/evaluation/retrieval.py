"""Retrieval over a pool: ranks with several right answers, ties, chance, and intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from mmsim.evaluation.bootstrap import Resampling
from mmsim.evaluation.summary import Figures, summarize_means

if TYPE_CHECKING:
    import pandas as pd

CUTOFFS = (1, 5, 10)


@dataclass(frozen=True)
class Pool:
    """The images and captions of the test split, and which belong together.

    Attributes
    ----------
    images, texts : ndarray of int64, shapes (n,) and (m,)
        Row numbers.
    own : ndarray of bool, shape (n, m)
        The caption is the image's own.
    relevant : ndarray of bool, shape (n, m)
        It is, or shows an entity that the image's own caption shows.
    image_clusters, text_clusters : ndarray of int64, shapes (n,) and (m,)
        Entity of each, for the bootstrap.
    """

    images: NDArray[np.int64]
    texts: NDArray[np.int64]
    own: NDArray[np.bool_]
    relevant: NDArray[np.bool_]
    image_clusters: NDArray[np.int64]
    text_clusters: NDArray[np.int64]


def retrieval_pool(test: pd.DataFrame) -> Pool:
    """Return the images and captions of the own-caption test pairs."""
    import pandas as pd

    own = test[test["tier"] == "own_caption"]
    images, image = np.unique(own["query_image"].to_numpy(), return_inverse=True)
    texts, text = np.unique(own["candidate_text"].to_numpy(), return_inverse=True)
    belongs = np.zeros((len(images), len(texts)), dtype=bool)
    belongs[image, text] = True
    shown = pd.DataFrame({"image": image, "text": text, "entity": own["query_gold"].to_numpy()})
    shown = shown.explode("entity").dropna()
    same = shown.merge(shown, on="entity")
    relevant = belongs.copy()
    relevant[same["image_x"], same["text_y"]] = True
    entity = own["entity"].to_numpy()
    clusters = _clusters(image, entity), _clusters(text, entity)
    return Pool(images, texts, belongs, relevant, *clusters)


def _clusters(places: NDArray[np.int64], entity: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the entity last seen at each place, where there is none a cluster of its own."""
    clusters = -1 - np.arange(places.max(initial=-1) + 1)
    clusters[places] = np.where(entity >= 0, entity, clusters[places])
    return clusters


def first_ranks(scores: NDArray[np.floating], relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the rank of each query's best relevant candidate.

    rank = 1 + (candidates with a higher score) + the mean number of irrelevant candidates of the
    same score that stand before the first relevant one, if ties are settled by lot: with t
    irrelevant and r relevant candidates of one score it is t / (r + 1). A constant score can
    thus not put it first.

    Parameters
    ----------
    scores : ndarray of float, shape (queries, candidates)
    relevant : ndarray of bool, shape (queries, candidates)
        Each query has at least one.

    Returns
    -------
    ndarray of float64, shape (queries,)
    """
    best = np.where(relevant, scores, -np.inf).max(axis=1, keepdims=True)
    higher = (scores > best).sum(axis=1)
    same = scores == best
    tied, right = (same & ~relevant).sum(axis=1), (same & relevant).sum(axis=1)
    return np.asarray(1 + higher + tied / (right + 1), dtype=np.float64)


def ranking_values(ranks: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return each query's recall_at_1, recall_at_5, recall_at_10 and mrr; their means are reported.

    recall_at_k is 1 where the first relevant candidate is among the first k; mrr is 1 / rank (as
    trec_eval's success_k and recip_rank).
    """
    values = {f"recall_at_{k}": (ranks <= k).astype(np.float64) for k in CUTOFFS}
    return values | {"mrr": 1 / ranks}


def chance_level(relevant: NDArray[np.bool_]) -> Figures:
    """Return what a ranking by lot gives on average, exactly.

    With r of N candidates relevant, the first relevant one stands after place k with probability
    C(N - k, r) / C(N, r).
    """
    number = relevant.shape[1]
    right = relevant.sum(axis=1)[:, None]
    places = np.arange(number + 1)[None, :]
    rest = number - places
    with np.errstate(invalid="ignore", divide="ignore"):
        logarithm = (
            gammaln(rest + 1)
            - gammaln(rest - right + 1)
            - gammaln(number + 1)
            + gammaln(number - right + 1)
        )
    later = np.where(rest >= right, np.exp(logarithm), 0.0)  # (queries, places): rank > place
    at_place = later[:, :-1] - later[:, 1:]
    figures = {f"recall_at_{k}": float((1 - later[:, min(k, number)]).mean()) for k in CUTOFFS}
    return figures | {"mrr": float((at_place / np.arange(1, number + 1)).sum(axis=1).mean())}


def retrieval_ranks(
    scores: list[NDArray[np.floating]], pool: Pool
) -> dict[str, NDArray[np.float64]]:
    """Return the ranks of each direction, each of shape (seeds, queries).

    Keys: ``image_to_text``, ``text_to_image``, and both with ``own_caption.`` before: there only
    the image's own caption is right, and other captions of its entities are wrong.
    """
    ranks = {}
    for prefix, right in (("", pool.relevant), ("own_caption.", pool.own)):
        ranks[f"{prefix}image_to_text"] = np.array([first_ranks(s, right) for s in scores])
        ranks[f"{prefix}text_to_image"] = np.array([first_ranks(s.T, right.T) for s in scores])
    return ranks


def retrieval_figures(
    ranks: dict[str, NDArray[np.float64]], pool: Pool, draws: int
) -> dict[str, Figures]:
    """Return the figures of each direction with intervals, and the chance level beside them."""
    figures: dict[str, Figures] = {}
    for name, found in ranks.items():
        backwards = name.endswith("text_to_image")
        right = pool.own if name.startswith("own_caption.") else pool.relevant
        clusters = pool.text_clusters if backwards else pool.image_clusters
        figures[name] = summarize_means(ranking_values(found), Resampling(clusters, draws))
        chance = chance_level(right.T if backwards else right)
        figures[f"{name}.chance"] = chance
    return figures
