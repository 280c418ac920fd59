import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import ATTENTIONS, head, memory, own_and_next, pairs, same_and_other

from mmsim.evaluation.evaluate import evaluate
from mmsim.evaluation.metrics import best_threshold, classification_metrics, over_seeds
from mmsim.evaluation.retrieval import first_ranks, ranking_metrics
from mmsim.training.scoring import score_matrix, score_pairs

# Few levels of score, so that ties are common; each query's first candidate may be made relevant.
rankings = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.booleans()), min_size=1, max_size=5
).filter(lambda row: any(relevant for _, relevant in row))


def orders(row):
    """All orders of the candidates that falling scores allow, ties in any order."""
    for order in itertools.permutations(row):
        if all(a[0] >= b[0] for a, b in itertools.pairwise(order)):
            yield order


def first_relevant(order):
    return 1 + [relevant for _, relevant in order].index(True)


@given(rankings.filter(lambda row: sum(relevant for _, relevant in row) == 1))
@settings(max_examples=100, deadline=None)
def test_the_rank_is_the_mean_over_all_orders_of_tied_candidates(row):
    scores, relevant = (np.array([column]) for column in zip(*row, strict=True))
    expected = np.mean([first_relevant(order) for order in orders(row)])
    assert first_ranks(scores, relevant).item() == pytest.approx(expected)


@given(rankings)
@settings(max_examples=100, deadline=None)
def test_with_several_relevant_candidates_the_best_one_counts(row):
    scores, relevant = (np.array([column]) for column in zip(*row, strict=True))
    best = max(score for score, relevant in row if relevant)
    kept = False
    alone = []
    for score, is_relevant in row:
        if not is_relevant:
            alone.append((score, False))
        elif score == best and not kept:
            kept = True
            alone.append((score, True))
    expected = np.mean([first_relevant(order) for order in orders(alone)])
    assert first_ranks(scores, relevant).item() == pytest.approx(expected)


@given(st.integers(0, 99), st.integers(1, 6), st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_without_ties_the_rank_is_the_place_in_the_sorted_list(seed, queries, candidates):
    rng = np.random.default_rng(seed)
    scores = rng.permutation(queries * candidates).reshape(queries, candidates).astype(float)
    relevant = rng.random((queries, candidates)) < 0.4
    relevant[:, 0] = True
    expected = [
        1 + next(place for place, column in enumerate(np.argsort(-row)) if right[column])
        for row, right in zip(scores, relevant, strict=True)
    ]
    assert first_ranks(scores, relevant).tolist() == expected


def test_ranking_figures_by_hand():
    assert ranking_metrics(np.array([1.0, 2.0, 5.0, 10.0, 11.0])) == pytest.approx(
        {
            "recall_at_1": 1 / 5,
            "recall_at_5": 3 / 5,
            "recall_at_10": 4 / 5,
            "mrr": (1 + 1 / 2 + 1 / 5 + 1 / 10 + 1 / 11) / 5,
        }
    )


def test_a_constant_score_gains_nothing():
    figures = ranking_metrics(first_ranks(np.zeros((40, 40)), np.eye(40, dtype=bool)))
    assert figures == pytest.approx(
        {"recall_at_1": 0, "recall_at_5": 0, "recall_at_10": 0, "mrr": 1 / 20.5}
    )


def scalars(figures):
    for value in figures.values():
        yield from scalars(value) if isinstance(value, dict) else [value]


FIGURES = {"accuracy", "precision", "recall", "f1", "auc", "average_precision"}
RANKING = {"recall_at_1", "recall_at_5", "recall_at_10", "mrr"}


def with_deviation(names):
    return names | {f"{name}_std" for name in names}


def heads(attention="base", task="match"):
    return {seed: head(attention, task, seed) for seed in (0, 1)}


def match_splits():
    """Eight captioned images in each split; in test a second tier of two pairs each."""
    valid, own = own_and_next(8), own_and_next(8, first=8)
    extra = [[8, 8, 9, 9], [10, 10, 11, 11], [8, 8, 12, 12], [10, 10, 13, 13]]
    test = pairs(
        np.concatenate([own.rows.numpy(), extra]),
        [1] * 8 + [0] * 8 + [1, 1, 0, 0],
        tiers=["own_caption"] * 8 + ["random"] * 8 + ["same_entity"] * 2 + ["random"] * 2,
        contrasts=["own_caption"] * 16 + ["same_entity"] * 4,
    )
    return valid, test


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_metrics_of_matching_have_these_names(attention):
    metrics = evaluate(heads(attention), memory(16, 16), *match_splits()).metrics
    assert set(metrics) == {"valid", "test", "tiers", "retrieval", "counts"}
    assert set(metrics["valid"]) == set(metrics["test"]) == with_deviation(FIGURES)
    assert set(metrics["tiers"]) == {"own_caption", "same_entity"}
    for tier in metrics["tiers"].values():
        assert set(tier) == with_deviation(FIGURES)
    assert set(metrics["retrieval"]) == {
        "image_to_text",
        "text_to_image",
        "pool_images",
        "pool_texts",
    }
    for direction in ("image_to_text", "text_to_image"):
        assert set(metrics["retrieval"][direction]) == with_deviation(RANKING)


def test_the_metrics_of_pairs_have_no_retrieval():
    data = same_and_other(8)
    metrics = evaluate(heads(task="pair"), memory(16, 16), data, data).metrics
    assert set(metrics) == {"valid", "test", "tiers", "counts"}
    assert set(metrics["tiers"]) == {"same_entity"}


@pytest.mark.parametrize("task", ["match", "pair"])
def test_every_metric_is_a_finite_plain_number(task):
    splits = match_splits() if task == "match" else (same_and_other(8), same_and_other(8))
    metrics = evaluate(heads(task=task), memory(16, 16), *splits).metrics
    values = list(scalars(metrics))
    assert all(type(value) in (int, float) for value in values)
    assert all(math.isfinite(value) for value in values)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_counts_say_what_was_measured():
    models = heads()
    valid, test = match_splits()
    metrics = evaluate(models, memory(16, 16), valid, test).metrics
    parameters = sum(p.numel() for p in models[0].parameters())
    assert metrics["counts"] == {
        "valid_pairs": 16,
        "test_pairs": 20,
        "seeds": 2,
        "parameters": parameters,
    }
    assert metrics["retrieval"]["pool_images"] == metrics["retrieval"]["pool_texts"] == 8


def test_predictions_hold_each_pair_of_valid_and_test_for_each_seed():
    models, features = heads(), memory(16, 16)
    valid, test = match_splits()
    found = evaluate(models, features, valid, test).predictions
    assert len(found) == 2 * (16 + 20)
    assert found.groupby(["split", "seed"]).size().to_dict() == {
        ("valid", 0): 16,
        ("valid", 1): 16,
        ("test", 0): 20,
        ("test", 1): 20,
    }
    of_seed = found[(found["split"] == "test") & (found["seed"] == 1)]
    assert of_seed["pair"].tolist() == list(range(20))
    assert of_seed["label"].tolist() == test.labels.int().tolist()
    assert (of_seed["score"].to_numpy() == score_pairs(models[1], features, test.rows)).all()


def test_the_threshold_is_that_of_the_validation_pairs():
    model, features = head(), memory(16, 16)
    valid = own_and_next(8)
    # The same pairs, with opposite labels: what suits validation suits test worst.
    test = pairs(valid.rows, [int(1 - label) for label in valid.labels])
    scores = score_pairs(model, features, valid.rows)
    right, wrong = (best_threshold(scores, split.labels.numpy()) for split in (valid, test))
    assert ((scores >= right) != (scores >= wrong)).any()

    test.table["tier"] = valid.table["tier"]
    found = evaluate({0: model}, features, valid, test)
    for split in ("valid", "test"):
        called = found.predictions.loc[found.predictions["split"] == split, "called"]
        assert (called.to_numpy() == (scores >= right)).all()
    accuracies = found.metrics["valid"]["accuracy"] + found.metrics["test"]["accuracy"]
    assert accuracies == pytest.approx(1)


def test_test_figures_are_means_over_seeds_each_with_its_own_threshold():
    models, features = heads(), memory(16, 16)
    valid, test = match_splits()
    expected = []
    for model in models.values():
        scores = {s: score_pairs(model, features, p.rows) for s, p in (("v", valid), ("t", test))}
        threshold = best_threshold(scores["v"], valid.labels.numpy())
        labels = test.labels.numpy().astype(int)
        expected.append(classification_metrics(scores["t"], labels, threshold))
    metrics = evaluate(models, features, valid, test).metrics
    assert metrics["test"] == pytest.approx(over_seeds(expected))


def test_each_tier_is_measured_with_the_negatives_of_its_contrast():
    model, features = head(), memory(16, 16)
    valid, test = match_splits()
    metrics = evaluate({0: model}, features, valid, test).metrics
    threshold = best_threshold(
        score_pairs(model, features, valid.rows), valid.labels.numpy().astype(int)
    )
    scores, labels = score_pairs(model, features, test.rows), test.labels.numpy().astype(int)
    for tier, rows in (("own_caption", slice(0, 16)), ("same_entity", slice(16, 20))):
        expected = classification_metrics(scores[rows], labels[rows], threshold)
        assert metrics["tiers"][tier] == pytest.approx(expected)


def test_a_tier_without_negatives_is_not_measured():
    own = own_and_next(8)
    test = pairs(
        np.concatenate([own.rows.numpy(), [[2, 2, 5, 5]]]),
        [1] * 8 + [0] * 8 + [1],
        tiers=["own_caption"] * 8 + ["random"] * 8 + ["same_entity"],
        contrasts=["own_caption"] * 16 + ["same_entity"],
    )
    metrics = evaluate({0: head()}, memory(16, 16), own, test).metrics
    assert set(metrics["tiers"]) == {"own_caption"}
    assert all(math.isfinite(value) for value in scalars(metrics))


def test_all_captions_of_an_image_are_relevant_to_it():
    model, features = head("cross"), memory(16, 16)
    rows = [[0, 0, 0, 0], [0, 1, 0, 1], [2, 2, 2, 2], [3, 3, 3, 3]]
    test = pairs([*rows, [0, 0, 2, 2], [2, 2, 3, 3]], [1, 1, 1, 1, 0, 0])
    metrics = evaluate({0: model}, features, own_and_next(8), test).metrics["retrieval"]
    assert (metrics["pool_images"], metrics["pool_texts"]) == (3, 4)
    scores = score_matrix(model, features, torch.tensor([0, 2, 3]), torch.arange(4))
    relevant = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=bool)
    expected = ranking_metrics(first_ranks(scores, relevant))
    assert metrics["image_to_text"] == pytest.approx(expected)
    expected = ranking_metrics(first_ranks(scores.T, relevant.T))
    assert metrics["text_to_image"] == pytest.approx(expected)


def test_curves_and_confusion_cover_the_test_pairs():
    found = evaluate(heads(), memory(16, 16), *match_splits())
    assert set(found.curves) == {"roc", "precision_recall", "confusion"}
    assert len(found.curves["confusion"]) == 2 * 20
    assert (found.curves["confusion"]["actual"] == "match").sum() == 2 * 10
