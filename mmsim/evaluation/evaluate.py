"""One pass over the test pairs with every trained seed: figures, predictions, curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmsim.evaluation.curves import confusion_rows, precision_recall_points, roc_points
from mmsim.evaluation.metrics import best_threshold, classification_metrics, over_seeds
from mmsim.evaluation.retrieval import first_ranks, ranking_metrics
from mmsim.models.siamese import Siamese
from mmsim.training.memory import FeatureMemory, Pairs
from mmsim.training.scoring import score_matrix, score_pairs

if TYPE_CHECKING:
    import pandas as pd

PREDICTION_COLUMNS = ["pair", "label", "tier", "contrast", "entity"]


@dataclass(frozen=True)
class Evaluation:
    """What the evaluation found.

    Attributes
    ----------
    metrics : dict
        Nested, finite scalars only: what ``metrics.json`` holds.
    predictions : DataFrame
        A row for each pair of valid and test and each seed: split, seed, pair, label, tier,
        contrast, entity, score, called.
    curves : dict of str to DataFrame
        ``roc``, ``precision_recall`` and ``confusion`` of the test pairs.
    """

    metrics: dict[str, Any]
    predictions: pd.DataFrame
    curves: dict[str, pd.DataFrame]


def evaluate(
    models: dict[int, Siamese], memory: FeatureMemory, valid: Pairs, test: Pairs
) -> Evaluation:
    """Score the validation and test pairs with the model of each seed.

    The threshold of each seed comes from its validation scores. Figures are means over seeds,
    with the standard deviation beside them.

    Parameters
    ----------
    models : dict of int to Siamese
        Trained heads by seed, on the device of `memory`.
    """
    import pandas as pd

    figures: dict[str, list[dict[str, float]]] = {}
    rows, scores_of_test, called_of_test = [], [], []
    for seed, model in models.items():
        scores = {
            "valid": score_pairs(model, memory, valid.rows),
            "test": score_pairs(model, memory, test.rows),
        }
        threshold = best_threshold(scores["valid"], _labels(valid))
        for split, pairs in (("valid", valid), ("test", test)):
            found = classification_metrics(scores[split], _labels(pairs), threshold)
            figures.setdefault(split, []).append(found)
            columns = {"split": split, "seed": seed, "score": scores[split]}
            rows.append(
                pairs.table[PREDICTION_COLUMNS].assign(**columns, called=scores[split] >= threshold)
            )
        for tier, chosen in _contrasts(test).items():
            found = classification_metrics(scores["test"][chosen], _labels(test)[chosen], threshold)
            figures.setdefault(f"tiers.{tier}", []).append(found)
        if model.config.task == "match":
            for direction, found in _retrieval(model, memory, test).items():
                figures.setdefault(f"retrieval.{direction}", []).append(found)
        scores_of_test.append(scores["test"])
        called_of_test.append(scores["test"] >= threshold)

    metrics: dict[str, Any] = {}
    for key, found_by_seed in figures.items():
        *parents, leaf = key.split(".")
        place = metrics
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = over_seeds(found_by_seed)
    metrics["counts"] = {
        "valid_pairs": len(valid),
        "test_pairs": len(test),
        "seeds": len(models),
        "parameters": sum(value.numel() for value in next(iter(models.values())).parameters()),
    }
    if "retrieval" in metrics:
        images, texts, _ = _pool(test)
        metrics["retrieval"]["pool_images"] = len(images)
        metrics["retrieval"]["pool_texts"] = len(texts)
    labels = _labels(test)
    return Evaluation(
        metrics,
        pd.concat(rows, ignore_index=True),
        {
            "roc": roc_points(labels, scores_of_test),
            "precision_recall": precision_recall_points(labels, scores_of_test),
            "confusion": confusion_rows(labels, called_of_test),
        },
    )


def _labels(pairs: Pairs) -> NDArray[np.int64]:
    return pairs.labels.numpy().astype(np.int64)


def _contrasts(pairs: Pairs) -> dict[str, NDArray[np.bool_]]:
    """Each tier of positives with the negatives that have its marginals, where there are any."""
    contrast, labels = pairs.table["contrast"].to_numpy(), _labels(pairs)
    tiers = {str(tier): contrast == tier for tier in dict.fromkeys(contrast)}
    return {tier: chosen for tier, chosen in tiers.items() if len(np.unique(labels[chosen])) == 2}


def _pool(test: Pairs) -> tuple[Tensor, Tensor, NDArray[np.bool_]]:
    """The images and captions of the own-caption test pairs, and which belong together."""
    own = test.rows[torch.tensor((test.table["tier"] == "own_caption").to_numpy())]
    images, image_positions = torch.unique(own[:, 0], return_inverse=True)
    texts, text_positions = torch.unique(own[:, 3], return_inverse=True)
    relevant = np.zeros((len(images), len(texts)), dtype=bool)
    relevant[image_positions, text_positions] = True
    return images, texts, relevant


def _retrieval(model: Siamese, memory: FeatureMemory, test: Pairs) -> dict[str, dict[str, float]]:
    """Rank all captions of the test pool for each image, and all images for each caption."""
    images, texts, relevant = _pool(test)
    scores = score_matrix(model, memory, images, texts)
    return {
        "image_to_text": ranking_metrics(first_ranks(scores, relevant)),
        "text_to_image": ranking_metrics(first_ranks(scores.T, relevant.T)),
    }
