"""What simple rules score on the same pairs: the figures that a head must beat.

=====================  =========================================================================
baseline               score of a pair
=====================  =========================================================================
majority               a constant
caption_tfidf          pair: TF-IDF cosine of the two captions
frozen_cosine          pair: mean of the cosines of the images' and of the captions' mean features
logistic_cosines       pair: logistic regression on these two cosines
same_image             pair: whether the two images are the same or nearly so
text_only, image_only  pair: logistic regression that compares one modality alone
query_only             logistic regression on the query alone: no comparison is possible
candidate_only         the same of the candidate
=====================  =========================================================================

The last two tell whether one side betrays the label. In task match the query is an image and the
candidate a caption, so they are the image alone and the text alone. There no caption is compared
with a caption, and frozen features of different encoders have no cosine.

Logistic regressions are fitted on the training pairs, but for that on cosines over principal
components of the mean features; their penalty is chosen by validation AUC. Thresholds are from
validation, as a head's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from mmsim.data.words import fit_words
from mmsim.training.memory import FeatureMemory

if TYPE_CHECKING:
    from mmsim.evaluation.inputs import Data

COMPONENTS = 64
COMPONENT_ROWS = 2000
"""Training rows that the components are found on, about."""
PENALTIES = (0.001, 0.01, 0.1, 1.0)
ROWS_AT_A_TIME = 256

Scores = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Scores of the validation pairs and of the test pairs."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class MeanFeatures:
    """One vector for each image and text: the mean of its frozen features.

    Attributes
    ----------
    image, text : ndarray of float32, shapes (images, dim) and (texts, dim)
    """

    image: Vectors
    text: Vectors

    @classmethod
    def of(cls, memory: FeatureMemory) -> MeanFeatures:
        """Average the features of every row of both stores."""
        images = _means(len(memory.grid), lambda rows: memory.images(rows).values.mean(1))
        return cls(images, mean_texts(memory))


def mean_texts(memory: FeatureMemory) -> Vectors:
    """Return the mean of each text's frozen features, shape (texts, dim)."""
    return _means(len(memory.offsets) - 1, lambda rows: _mean_of_texts(memory, rows))


def baseline_scores(data: Data, features: MeanFeatures) -> dict[str, Scores]:
    """Return the scores of every baseline that the task has."""
    train = data.train.rows.numpy()
    images, texts = np.unique(train[:, [0, 2]]), np.unique(train[:, [1, 3]])
    image, text = _standardized(features.image, images), _standardized(features.text, texts)
    few = _Reduced(_components(image, images), _components(text, texts))
    majority = np.zeros(len(data.valid)), np.zeros(len(data.test))
    if data.task == "match":
        return {
            "majority": majority,
            "query_only": _regression(data, lambda rows: few.image[rows[:, 0]]),
            "candidate_only": _regression(data, lambda rows: few.text[rows[:, 3]]),
        }
    captions = data.texts.sort_values("text")["content"].tolist()
    groups = data.images.sort_values("image")["group"].to_numpy()

    def cosines(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        pair = _cosine(image, rows[:, [0, 2]]), _cosine(text, rows[:, [1, 3]])
        return np.stack(pair, axis=1)

    return {
        "majority": majority,
        "caption_tfidf": caption_tfidf(captions, data.train.rows, data.valid.rows, data.test.rows),
        "frozen_cosine": _by_rule(data, lambda rows: cosines(rows).mean(axis=1)),
        "logistic_cosines": _regression(data, cosines),
        "same_image": _by_rule(data, lambda rows: groups[rows[:, 0]] == groups[rows[:, 2]]),
        "text_only": _regression(data, lambda rows: _compared(few.text, rows[:, [1, 3]])),
        "image_only": _regression(data, lambda rows: _compared(few.image, rows[:, [0, 2]])),
        "query_only": _regression(data, lambda rows: few.item(rows[:, :2])),
        "candidate_only": _regression(data, lambda rows: few.item(rows[:, 2:])),
    }


def caption_tfidf(
    captions: Sequence[str], train: torch.Tensor, valid: torch.Tensor, test: torch.Tensor
) -> Scores:
    """Return the TF-IDF cosine of the two captions of each pair.

    Parameters
    ----------
    captions : sequence of str
        By row number of a text.
    train, valid, test : Tensor, int64, shape (pairs, 4)
        Row numbers in the order of `mmsim.training.memory.ROW_COLUMNS`; words and their
        frequencies are those of the training captions.
    """
    known = (captions[row] for row in train[:, [1, 3]].unique().tolist())
    words = fit_words(known).transform(captions)

    def cosine(rows: torch.Tensor) -> NDArray[np.float64]:
        common = words[rows[:, 1].numpy()].multiply(words[rows[:, 3].numpy()])
        return np.asarray(common.sum(axis=1), dtype=np.float64).ravel()

    return cosine(valid), cosine(test)


@dataclass(frozen=True)
class _Reduced:
    """Principal components of the mean features, by row number."""

    image: Vectors
    text: Vectors

    def item(self, rows: NDArray[np.int64]) -> Vectors:
        """Return image and text of captioned images, (n, 2) row numbers, side by side."""
        return np.concatenate([self.image[rows[:, 0]], self.text[rows[:, 1]]], axis=1)


def _means(count: int, gather: Callable[[torch.Tensor], torch.Tensor]) -> Vectors:
    parts = [gather(rows).cpu() for rows in torch.arange(count).split(ROWS_AT_A_TIME)]
    return torch.cat(parts).numpy()


def _mean_of_texts(memory: FeatureMemory, rows: torch.Tensor) -> torch.Tensor:
    texts = memory.texts(rows.to(memory.offsets.device))
    total = texts.values.masked_fill(~texts.mask[..., None], 0).sum(1)
    return total / texts.mask.sum(1, keepdim=True).clamp(min=1)


def _standardized(values: Vectors, train: NDArray[np.int64]) -> Vectors:
    mean, deviation = values[train].mean(0), values[train].std(0)
    return (values - mean) / np.where(deviation > 1e-4, deviation, 1.0)


def _components(values: Vectors, train: NDArray[np.int64]) -> Vectors:
    from sklearn.decomposition import PCA

    fitted_on = values[train[:: max(1, len(train) // COMPONENT_ROWS)]]
    # With as many components as rows, whitening would say nothing of other rows.
    number = max(1, min(COMPONENTS, len(fitted_on) // 4, fitted_on.shape[1]))
    pca = PCA(number, whiten=True, random_state=0).fit(fitted_on)
    reduced: Vectors = pca.transform(values)
    return reduced


def _cosine(values: Vectors, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    first, second = values[rows[:, 0]], values[rows[:, 1]]
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray((first * second).sum(1) / np.maximum(norms, 1e-12), dtype=np.float64)


def _compared(values: Vectors, rows: NDArray[np.int64]) -> Vectors:
    first, second = values[rows[:, 0]], values[rows[:, 1]]
    return np.concatenate([np.abs(first - second), first * second], axis=1)


def _by_rule(data: Data, rule: Callable[[NDArray[np.int64]], NDArray[np.generic]]) -> Scores:
    valid, test = (
        np.asarray(rule(pairs.rows.numpy()), dtype=np.float64) for pairs in (data.valid, data.test)
    )
    return valid, test


def _regression(
    data: Data, describe: Callable[[NDArray[np.int64]], NDArray[np.floating]]
) -> Scores:
    """Fit one logistic regression for each penalty, and keep the best on validation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    train, valid, test = (
        describe(pairs.rows.numpy()) for pairs in (data.train, data.valid, data.test)
    )
    best, scores = -1.0, (np.zeros(len(valid)), np.zeros(len(test)))
    for penalty in PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=1000).fit(train, data.train.labels.numpy())
        found = model.decision_function(valid)
        auc = float(roc_auc_score(data.valid.labels.numpy(), found))
        if auc > best:
            best, scores = auc, (found, model.decision_function(test))
    return scores
