import math
import statistics
import warnings

import numpy as np
import pytest

from mmsim.evaluation.bootstrap import Resampling, decision_draws, interval, mean_draws
from mmsim.evaluation.metrics import classification_metrics
from mmsim.evaluation.summary import Decisions, summarize, summarize_means, with_interval

FIGURES = {"accuracy", "precision", "recall", "f1", "auc", "average_precision"}


def decisions(seeds=3, pairs=120, clusters=40, seed=0, draws=400):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, pairs)
    scores = rng.normal(size=(seeds, pairs)) + 1.2 * labels
    thresholds = 0.6 + 0.2 * rng.normal(size=seeds)
    entity = rng.integers(0, clusters, pairs)
    return Decisions(scores, labels, thresholds, Resampling(entity, draws))


def by_seed(found):
    return [
        classification_metrics(scores, found.labels, threshold)
        for scores, threshold in zip(found.scores, found.thresholds, strict=True)
    ]


def finite(figures):
    return all(math.isfinite(value) for value in figures.values())


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_of_ordinary_data_has_the_figure_inside_and_some_width(seed):
    summary = summarize(decisions(seed=seed))
    assert set(summary) == {n + end for n in FIGURES for end in ("", "_std", "_low", "_high")}
    for name in FIGURES:
        assert summary[f"{name}_low"] < summary[name] < summary[f"{name}_high"]
        assert 0 <= summary[f"{name}_low"] < summary[f"{name}_high"] <= 1


def test_figures_are_means_over_seeds_and_std_is_their_deviation():
    measured = decisions()
    summary, each = summarize(measured), by_seed(measured)
    for name in FIGURES:
        values = [figures[name] for figures in each]
        assert summary[name] == pytest.approx(statistics.mean(values))
        assert summary[f"{name}_std"] == pytest.approx(statistics.stdev(values))


def test_the_interval_is_that_of_the_mean_over_seeds_and_not_of_one_seed():
    measured = decisions(seeds=6)
    drawn = decision_draws(measured.scores, measured.labels, measured.called, measured.resampling)
    summary = summarize(measured, ("auc",))
    low, high = np.percentile(drawn["auc"].mean(axis=0), [2.5, 97.5])
    assert (summary["auc_low"], summary["auc_high"]) == pytest.approx((low, high))
    # What differs from seed to seed evens out in their mean.
    alone = np.percentile(drawn["auc"], [2.5, 97.5], axis=1)
    assert high - low < (alone[1] - alone[0]).mean()


def test_one_seed_has_an_interval_and_no_deviation():
    summary = summarize(decisions(seeds=1))
    assert set(summary) == {name + end for name in FIGURES for end in ("", "_low", "_high")}


def test_only_the_figures_asked_for_are_returned_and_they_are_the_same():
    measured = decisions()
    everything, some = summarize(measured), summarize(measured, ("accuracy", "auc"))
    assert set(some) == {
        name + end for name in ("accuracy", "auc") for end in ("", "_std", "_low", "_high")
    }
    assert some == {key: everything[key] for key in some}


def test_a_score_at_its_own_seeds_threshold_is_called():
    scores = np.array([[0.2, 0.5], [0.2, 0.5]])
    found = Decisions(scores, np.array([0, 1]), np.array([0.5, 0.2]), Resampling(np.arange(2), 10))
    assert found.called.tolist() == [[False, True], [True, True]]


def test_part_of_the_pairs_keeps_scores_labels_and_thresholds_and_draws_its_own_entities():
    measured = decisions()
    rows = measured.resampling.clusters < 7
    part = measured.of(rows)
    assert (part.scores == measured.scores[:, rows]).all()
    assert (part.labels == measured.labels[rows]).all()
    assert (part.thresholds == measured.thresholds).all()
    assert part.resampling.count == 7
    assert part.resampling.draws == measured.resampling.draws
    fresh = Decisions(
        measured.scores[:, rows],
        measured.labels[rows],
        measured.thresholds,
        Resampling(measured.resampling.clusters[rows], measured.resampling.draws),
    )
    assert summarize(part) == summarize(fresh)


def test_pairs_that_stand_or_fall_together_make_a_wider_interval():
    # 20 entities of 20 pairs of one label each, whose scores go up and down together.
    rng = np.random.default_rng(0)
    entity = np.arange(400) // 20
    labels = entity % 2
    scores = (rng.normal(size=400) + rng.normal(size=20)[entity] + labels)[None]
    widths = []
    for clusters in (np.arange(400), entity):
        measured = Decisions(scores, labels, np.array([0.5]), Resampling(clusters, 400))
        summary = summarize(measured, ("accuracy",))
        widths.append(summary["accuracy_high"] - summary["accuracy_low"])
    assert widths[1] > 2 * widths[0]


@pytest.mark.parametrize("label", [0, 1])
def test_with_one_label_there_is_no_auc_and_no_warning(label):
    measured = decisions()
    part = measured.of(measured.labels == label)
    assert measured.has_both_labels
    assert not part.has_both_labels
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = summarize(part)
    assert {key.removesuffix("_std") for key in summary} & {"auc", "average_precision"} == set()
    assert summary["accuracy_low"] <= summary["accuracy"] <= summary["accuracy_high"]
    # A model that calls no pair a match has no precision in that draw, which is 0.
    assert finite(summary)


def test_some_draws_of_few_entities_lack_a_label_and_the_figures_stay_finite():
    # Two entities, one with positives only and one with negatives only: half of the draws take
    # one of them twice.
    scores = np.array([[0.9, 0.8, 0.2, 0.7]])
    found = Decisions(
        scores, np.array([1, 1, 0, 0]), np.array([0.5]), Resampling(np.array([0, 0, 1, 1]), 300)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = summarize(found)
    assert finite(summary)
    assert summary["auc"] == 1
    assert (summary["accuracy_low"], summary["accuracy_high"]) == (0.5, 1)


def test_of_one_entity_nothing_is_known_of_others_and_nothing_breaks():
    measured = decisions()
    alone = Decisions(
        measured.scores,
        measured.labels,
        measured.thresholds,
        Resampling(np.zeros(len(measured.labels), dtype=np.int64), 50),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = summarize(alone)
    assert finite(summary)
    # Whatever is drawn is this one entity: an interval, if any, is the figure itself.
    for name in FIGURES:
        assert summary.get(f"{name}_low", summary[name]) == pytest.approx(summary[name])
        assert summary.get(f"{name}_high", summary[name]) == pytest.approx(summary[name])


def test_means_over_rows_have_the_same_four_values():
    values = np.random.default_rng(0).random((3, 90))
    summary = summarize_means({"mrr": values}, Resampling(np.arange(90) // 3, 400))
    assert set(summary) == {"mrr", "mrr_std", "mrr_low", "mrr_high"}
    assert summary["mrr"] == pytest.approx(values.mean())
    assert summary["mrr_std"] == pytest.approx(values.mean(axis=1).std(ddof=1))
    assert summary["mrr_low"] < summary["mrr"] < summary["mrr_high"]
    drawn = mean_draws(values.mean(axis=0)[None], Resampling(np.arange(90) // 3, 400))
    assert (summary["mrr_low"], summary["mrr_high"]) == pytest.approx(interval(drawn[0]))


def test_an_interval_of_a_mean_is_as_wide_as_its_standard_error_says():
    values = np.random.default_rng(0).normal(size=(1, 400))
    summary = summarize_means({"x": values}, Resampling(np.arange(400), 4000))
    error = values.std() / 20
    assert summary["x_high"] - summary["x_low"] == pytest.approx(2 * 1.96 * error, rel=0.06)
    # In pairs of equal rows there are half as many to go by.
    doubled = summarize_means(
        {"x": np.repeat(values, 2, axis=1)}, Resampling(np.repeat(np.arange(400), 2), 4000)
    )
    assert doubled == pytest.approx(summary)


def test_a_figure_without_value_in_most_draws_stands_without_interval():
    drawn = np.array([np.nan, np.nan, 0.5])
    assert with_interval("auc", {"auc": 0.5}, drawn, 9) == {"auc": 0.5}
    assert with_interval("auc", {"auc": 0.5, "auc_std": 0.1}, drawn, 9) == {
        "auc": 0.5,
        "auc_std": 0.1,
    }


def test_a_single_cluster_says_nothing_of_others_and_has_no_interval():
    drawn = np.full(200, 0.7)
    assert with_interval("auc", {"auc": 0.7}, drawn, 1) == {"auc": 0.7}
    assert with_interval("auc", {"auc": 0.7}, drawn, 2)["auc_low"] == 0.7
