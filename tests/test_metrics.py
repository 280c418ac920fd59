import json
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.evaluation.curves import confusion_rows, precision_recall_points, roc_points
from mmsim.evaluation.metrics import best_threshold, classification_metrics, over_seeds

# Few levels of score, so that ties are common.
scored = st.lists(
    st.tuples(st.sampled_from([-0.5, -0.25, 0.0, 0.125, 0.5, 0.75]), st.integers(0, 1)),
    min_size=1,
    max_size=25,
)
scored_both = scored.filter(lambda rows: {label for _, label in rows} == {0, 1})


def arrays(rows):
    scores, labels = zip(*rows, strict=True)
    return np.array(scores, dtype=np.float32), np.array(labels)


def accuracy(scores, labels, threshold):
    return np.mean((scores >= threshold) == labels)


@given(scored)
@settings(max_examples=200, deadline=None)
def test_no_threshold_is_more_accurate_than_the_best(rows):
    scores, labels = arrays(rows)
    found = accuracy(scores, labels, best_threshold(scores, labels))
    others = [*scores, -np.inf, np.inf]
    assert found == max(accuracy(scores, labels, threshold) for threshold in others)


@given(scored)
@settings(max_examples=100, deadline=None)
def test_the_threshold_lies_between_scores_and_never_on_one(rows):
    scores, labels = arrays(rows)
    threshold = best_threshold(scores, labels)
    assert np.isfinite(threshold)
    assert threshold not in scores


@given(scored, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_order_of_pairs_does_not_move_the_threshold(rows, random):
    shuffled = random.sample(rows, len(rows))
    assert best_threshold(*arrays(shuffled)) == best_threshold(*arrays(rows))


def test_the_threshold_by_hand():
    scores = np.array([0.9, 0.2, 0.6, 0.1])
    assert best_threshold(scores, np.array([1, 0, 1, 0])) == pytest.approx(0.4)
    # All negative, all positive: beyond the highest or lowest score.
    assert best_threshold(scores, np.zeros(4, dtype=int)) == pytest.approx(1.4)
    assert best_threshold(scores, np.ones(4, dtype=int)) == pytest.approx(-0.4)


def test_of_equally_good_thresholds_the_middle_one_is_taken():
    scores, labels = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 1, 0, 1])
    # 3 of 4 right at 1.5 and 3.5; at 2.5 only 2.
    assert best_threshold(scores, labels) == 3.5


def test_figures_by_hand():
    scores = np.array([0.9, 0.8, 0.7, 0.4, 0.3, 0.2])
    labels = np.array([1, 0, 1, 1, 0, 0])
    # Called from 0.5 on: right 0.9 and 0.7, wrong 0.8; missed 0.4; rejected 0.3 and 0.2.
    figures = classification_metrics(scores, labels, 0.5)
    assert figures == pytest.approx(
        {
            "accuracy": 4 / 6,
            "precision": 2 / 3,
            "recall": 2 / 3,
            "f1": 2 / 3,
            "auc": 7 / 9,
            "average_precision": (1 / 1 + 2 / 3 + 3 / 4) / 3,
        }
    )


def test_a_score_at_the_threshold_is_a_match():
    figures = classification_metrics(np.array([0.5, 0.4]), np.array([1, 0]), 0.5)
    assert figures["accuracy"] == 1
    assert figures["recall"] == 1


def test_precision_is_0_where_nothing_is_called():
    figures = classification_metrics(np.array([0.5, 0.4]), np.array([1, 0]), 9.0)
    assert (figures["precision"], figures["recall"], figures["f1"]) == (0, 0, 0)


@pytest.mark.parametrize("label", [0, 1])
def test_where_one_label_is_lacking_there_is_no_figure_that_needs_both(label):
    figures = classification_metrics(np.array([0.9, 0.1, 0.6, 0.7]), np.full(4, label), 0.5)
    assert set(figures) == {"accuracy", "precision", "recall", "f1"}
    assert figures["accuracy"] == (3 / 4 if label else 1 / 4)


def figures_by_counting(scores, labels, threshold):
    pairs = list(zip(scores.tolist(), labels.tolist(), strict=True))
    right = sum(label == 1 and score >= threshold for score, label in pairs)
    wrong = sum(label == 0 and score >= threshold for score, label in pairs)
    missed = sum(label == 1 and score < threshold for score, label in pairs)
    positives = [score for score, label in pairs if label == 1]
    negatives = [score for score, label in pairs if label == 0]
    wins = sum((p > n) + (p == n) / 2 for p in positives for n in negatives)
    average, before = 0.0, 0.0
    for level in sorted(set(scores.tolist()), reverse=True):
        called = [label for score, label in pairs if score >= level]
        recall = sum(called) / len(positives)
        average += (recall - before) * sum(called) / len(called)
        before = recall
    precision = right / (right + wrong) if right + wrong else 0.0
    recall = right / (right + missed)
    return {
        "accuracy": (len(pairs) - wrong - missed) / len(pairs),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if right else 0.0,
        "auc": wins / (len(positives) * len(negatives)),
        "average_precision": average,
    }


@given(scored_both, st.sampled_from([-1.0, 0.0, 0.3, 2.0]))
@settings(max_examples=60, deadline=None)
def test_figures_equal_those_counted_pair_by_pair(rows, threshold):
    scores, labels = arrays(rows)
    found = classification_metrics(scores, labels, threshold)
    assert found == pytest.approx(figures_by_counting(scores, labels, threshold))
    json.dumps(found, allow_nan=False)


def test_mean_and_deviation_over_seeds():
    values = [0.5, 0.7, 0.9]
    found = over_seeds([{"auc": value, "f1": 1.0} for value in values])
    assert found == pytest.approx(
        {"auc": 0.7, "auc_std": statistics.stdev(values), "f1": 1.0, "f1_std": 0.0}
    )


def test_one_seed_has_no_deviation():
    assert over_seeds([{"auc": 0.5}]) == {"auc": 0.5}


def area(x, y):
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


def noisy_scores(count=3):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    return labels, [labels + rng.normal(0, 1, 400) for _ in range(count)]


def test_the_area_under_the_roc_curve_is_the_mean_auc():
    labels, scores = noisy_scores()
    curve = roc_points(labels, scores)
    mean_auc = np.mean([classification_metrics(s, labels, 0.5)["auc"] for s in scores])
    assert area(curve["fpr"].to_numpy(), curve["tpr"].to_numpy()) == pytest.approx(
        mean_auc, abs=0.01
    )
    assert curve["tpr"].is_monotonic_increasing
    assert curve["tpr"].iloc[-1] == 1


def test_the_area_under_precision_and_recall_is_about_the_mean_average_precision():
    labels, scores = noisy_scores()
    curve = precision_recall_points(labels, scores)
    mean = np.mean([classification_metrics(s, labels, 0.5)["average_precision"] for s in scores])
    found = area(curve["recall"].to_numpy(), curve["precision"].to_numpy())
    assert found == pytest.approx(mean, abs=0.02)
    # Interpolated: never better at a higher recall.
    assert curve["precision"].is_monotonic_decreasing


def test_curves_of_perfect_scores_are_perfect():
    labels = np.array([0, 0, 1, 1])
    scores = [np.array([0.1, 0.2, 0.8, 0.9])]
    assert (roc_points(labels, scores)["tpr"] == 1).all()
    assert (precision_recall_points(labels, scores)["precision"] == 1).all()


def test_confusion_has_a_row_for_each_pair_and_seed():
    labels = np.array([1, 0, 1])
    called = [np.array([True, True, False]), np.array([True, False, True])]
    rows = confusion_rows(labels, called)
    assert rows.value_counts().to_dict() == {
        ("match", "match"): 3,
        ("no match", "match"): 1,
        ("no match", "no match"): 1,
        ("match", "no match"): 1,
    }
