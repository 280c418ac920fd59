import contextlib
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from mmsim.evaluation import bootstrap
from mmsim.evaluation.bootstrap import (
    Resampling,
    decision_draws,
    interval,
    mean_draws,
)
from mmsim.evaluation.metrics import WeightedDecisions

# Few levels of score, so that ties are common; weights of 0 are what most draws hold.
levels = st.sampled_from([-0.5, -0.25, 0.0, 0.125, 0.5, 0.75])
whole = st.sampled_from([0.0, 0.0, 1.0, 2.0, 3.0, 5.0])
real = st.floats(0.01, 10.0)


def weighted(weights):
    row = st.tuples(levels, st.integers(0, 1), weights)
    return st.lists(row, min_size=2, max_size=25).filter(has_both_labels)


def has_both_labels(rows):
    return {label for _, label, weight in rows if weight > 0} == {0, 1}


def by_scikit_learn(scores, labels, called, weights):
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, called, average="binary", sample_weight=weights, zero_division=0
    )
    return {
        "accuracy": accuracy_score(labels, called, sample_weight=weights),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "auc": roc_auc_score(labels, scores, sample_weight=weights),
        "average_precision": average_precision_score(labels, scores, sample_weight=weights),
    }


@given(st.one_of(weighted(whole), weighted(real)), levels)
@settings(max_examples=200, deadline=None)
def test_weighted_figures_are_those_of_scikit_learn_with_sample_weight(rows, threshold):
    scores, labels, weights = (np.array(column) for column in zip(*rows, strict=True))
    called = scores >= threshold
    found = WeightedDecisions(scores, labels, called).figures(weights[None])
    expected = by_scikit_learn(scores, labels, called, weights)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected)


@given(weighted(st.sampled_from([0, 1, 2, 3])), levels)
@settings(max_examples=50, deadline=None)
def test_a_weight_of_n_is_n_copies_of_the_row(rows, threshold):
    scores, labels, weights = (np.array(column) for column in zip(*rows, strict=True))
    once = WeightedDecisions(scores, labels, scores >= threshold).figures(weights[None] * 1.0)
    many, of_many = np.repeat(scores, weights), np.repeat(labels, weights)
    copies = WeightedDecisions(many, of_many, many >= threshold).figures(np.ones((1, len(many))))
    for name, value in once.items():
        assert value == pytest.approx(copies[name])


def test_many_weightings_at_a_time_give_what_each_gives_alone():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=30).round(1), rng.integers(0, 2, 30)
    decisions = WeightedDecisions(scores, labels, scores >= 0)
    weights = rng.random((7, 30))
    together = decisions.figures(weights)
    for number, alone in enumerate(weights):
        for name, value in decisions.figures(alone[None]).items():
            assert together[name][number] == pytest.approx(value.item())


def test_the_figures_asked_for_are_the_same_alone_as_among_all():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=30).round(1), rng.integers(0, 2, 30)
    decisions, weights = WeightedDecisions(scores, labels, scores >= 0), rng.random((7, 30))
    everything = decisions.figures(weights)
    for name, values in everything.items():
        alone = decisions.figures(weights, (name,))
        assert list(alone) == [name]
        assert (alone[name] == values).all()


def test_scores_that_are_no_numbers_have_no_auc():
    # In lists of pairs the positives come first, so that "no order" must not be read as theirs.
    labels, nothing = np.repeat([1, 0], 5), np.full(10, np.nan)
    with contextlib.suppress(ValueError):
        found = WeightedDecisions(nothing, labels, nothing >= 0).figures(np.ones((1, 10)))
        assert np.isnan(found["auc"]).all()


def test_a_draw_without_positives_has_no_auc_and_no_recall_and_says_so_quietly():
    decisions = WeightedDecisions(np.array([0.9, 0.1]), np.array([1, 0]), np.array([True, False]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = decisions.figures(np.array([[0.0, 2.0], [1.0, 1.0]]))
    for name in ("recall", "auc", "average_precision"):
        assert np.isnan(found[name][0])
        assert found[name][1] == 1
    assert found["accuracy"].tolist() == [1, 1]
    assert found["precision"].tolist() == [0, 1]


def all_weights(resampling):
    return np.concatenate(list(resampling.weights()))


clusterings = st.lists(st.integers(-5, 9), min_size=1, max_size=30).map(np.array)


@given(clusterings, st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_each_draw_takes_as_many_clusters_as_there_are_and_keeps_their_rows_together(groups, seed):
    resampling = Resampling(groups, 12, seed)
    weights = all_weights(resampling)
    assert weights.shape == (12, len(groups))
    _, firsts = np.unique(groups, return_index=True)
    assert resampling.count == len(firsts)
    # One row for each cluster: how often it was drawn.
    assert (weights[:, firsts].sum(axis=1) == len(firsts)).all()
    for cluster, first in zip(groups[firsts], firsts, strict=True):
        assert (weights[:, groups == cluster] == weights[:, [first]]).all()


def test_clusters_are_drawn_evenly_and_with_replacement():
    weights = all_weights(Resampling(np.arange(20), 4000))
    # Each count is binomial(20, 1/20): mean 1, deviation 0.97, over 4,000 draws 0.015.
    assert weights.mean(axis=0) == pytest.approx(np.ones(20), abs=0.07)
    assert weights.var(axis=0) == pytest.approx(np.full(20, 0.95), abs=0.15)
    # The draws differ from one another.
    assert len(np.unique(weights, axis=0)) > 3900


def test_one_seed_gives_the_same_draws_and_another_gives_others():
    groups = np.random.default_rng(0).integers(0, 15, 40)
    first = all_weights(Resampling(groups, 20, seed=3))
    assert (first == all_weights(Resampling(groups, 20, seed=3))).all()
    assert (first != all_weights(Resampling(groups, 20, seed=4))).any()


def test_the_numbers_of_the_clusters_play_no_part_as_long_as_their_order_stays():
    groups = np.random.default_rng(0).integers(0, 15, 40)
    first = all_weights(Resampling(groups, 20))
    assert (first == all_weights(Resampling(1000 * groups - 7, 20))).all()


def test_two_tables_with_the_same_clusters_meet_the_same_draws_of_them():
    # However many rows each cluster has in either: comparisons are paired by this.
    few, many = np.arange(12), np.repeat(np.arange(12), 5)
    assert (all_weights(Resampling(few, 20)) == all_weights(Resampling(many, 20))[:, ::5]).all()


def test_part_of_the_rows_is_drawn_by_its_own_clusters_alone():
    resampling = Resampling(np.array([4, 4, 7, 9, 9, 9]), 50, seed=2)
    part = resampling.of(np.array([False, False, True, True, True, False]))
    assert (part.count, part.draws, part.seed) == (2, 50, 2)
    weights = all_weights(part)
    assert ((weights[:, 0] + weights[:, 1]) == 2).all()
    assert (weights[:, 1] == weights[:, 2]).all()


@pytest.mark.parametrize("chunk", [1, 10, 333, 5000])
def test_how_many_weights_are_held_at_a_time_changes_nothing(monkeypatch, chunk):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 23, 60)
    scores, labels = rng.normal(size=(2, 60)), rng.integers(0, 2, 60)
    resampling = Resampling(groups, 101)

    def everything():
        drawn = decision_draws(scores, labels, scores >= 0, resampling)
        return all_weights(resampling), drawn, mean_draws(scores, resampling)

    at_once = everything()
    assert len(list(resampling.weights())) == 1
    monkeypatch.setattr(bootstrap, "CHUNK", chunk)
    in_parts = everything()
    assert len(list(resampling.weights())) > 1
    assert max(weights.size for weights in resampling.weights()) <= max(chunk, 60)
    assert (at_once[0] == in_parts[0]).all()
    for name, values in at_once[1].items():
        assert in_parts[1][name] == pytest.approx(values)
    assert in_parts[2] == pytest.approx(at_once[2])


def test_means_are_weighted_by_how_often_each_row_was_drawn():
    values = np.random.default_rng(0).normal(size=(3, 25))
    resampling = Resampling(np.arange(25) // 3, 40)
    found = mean_draws(values, resampling)
    assert found.shape == (3, 40)
    for draw, weights in enumerate(all_weights(resampling).astype(int)):
        expected = np.repeat(values, weights, axis=1).mean(axis=1)
        assert found[:, draw] == pytest.approx(expected)


def test_every_model_meets_the_same_draws():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=40), np.arange(40) % 2
    both = np.stack([scores, scores])
    drawn = decision_draws(both, labels, both >= 0, Resampling(np.arange(40) // 2, 30))
    for values in drawn.values():
        assert values.shape == (2, 30)
        assert (values[0] == values[1]).all()


def auc_by_ranks(scores, labels):
    ranks = stats.rankdata(scores, axis=-1)
    right, wrong = (labels == 1).sum(axis=-1), (labels == 0).sum(axis=-1)
    total = np.where(labels == 1, ranks, 0).sum(axis=-1)
    return (total - right * (right + 1) / 2) / (right * wrong)


@pytest.mark.parametrize("name", ["accuracy", "auc"])
def test_where_each_row_is_its_own_cluster_the_interval_is_that_of_scipy(name):
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 2
    scores = rng.normal(size=150) + labels
    drawn = decision_draws(
        scores[None], labels, (scores >= 0.5)[None], Resampling(np.arange(150), 8000)
    )[name][0]

    def figure(scores, labels, axis):
        if name == "auc":
            return auc_by_ranks(scores, labels)
        return ((scores >= 0.5) == (labels == 1)).mean(axis=axis)

    expected = stats.bootstrap(
        (scores, labels),
        figure,
        paired=True,
        vectorized=True,
        n_resamples=8000,
        batch=1000,
        method="percentile",
        rng=np.random.default_rng(1),
    )
    # A 2.5 % point of 8,000 draws is known to 0.03 deviations, the gap of two such to 0.042.
    error = expected.standard_error
    # Accuracy moves in steps of one row, so two intervals may differ by a step.
    close = 0.15 * error + (1.001 / 150 if name == "accuracy" else 0)
    assert interval(drawn) == pytest.approx(tuple(expected.confidence_interval), abs=close)
    assert drawn.std() == pytest.approx(error, rel=0.05)


def world(rng, entities):
    """Scores of pairs of entities that have effects of their own on both sides of a pair.

    Entities differ in size; the candidates of the positives are dealt anew for the negatives.
    """
    size = np.minimum(rng.zipf(2, entities), 30)
    query = np.repeat(np.arange(entities), size)
    candidate = rng.permutation(query)
    while len(same := np.flatnonzero(candidate == query)):
        for i, j in zip(same, rng.integers(0, len(query), len(same)), strict=True):
            if candidate[j] != query[i] and candidate[i] != query[j]:
                candidate[[i, j]] = candidate[[j, i]]
    of_query, of_candidate, of_both = 0.5 * rng.normal(size=(3, entities))
    noise = rng.normal(size=(2, len(query)))
    positives = 1 + of_query[query] + of_candidate[query] + of_both[query] + noise[0]
    negatives = of_query[query] + of_candidate[candidate] + noise[1]
    labels = np.repeat([1, 0], len(query))
    return np.concatenate([positives, negatives]), labels, np.concatenate([query, query])


def test_of_many_test_sets_about_95_in_100_have_an_interval_that_holds_the_truth():
    rng = np.random.default_rng(1)
    truth = auc_by_ranks(*world(rng, 100_000)[:2])
    # Of different entities, positive less negative is normal with mean 1 and variance 3.25.
    assert truth == pytest.approx(stats.norm.cdf(1 / np.sqrt(3.25)), abs=0.004)
    truth = stats.norm.cdf(1 / np.sqrt(3.25))
    covered = 0
    for number in range(200):
        scores, labels, entity = world(rng, 120)
        drawn = decision_draws(
            scores[None], labels, (scores >= 0.5)[None], Resampling(entity, 400, number)
        )
        low, high = interval(drawn["auc"][0])
        covered += low <= truth <= high
    # 200 repetitions know a share of 95 % to 1.5 points; of pairs taken as independent it is 90 %.
    assert 0.93 <= covered / 200 <= 0.985


def test_draws_without_a_value_are_left_out_of_the_interval():
    values = np.arange(101.0)
    assert interval(values) == pytest.approx((2.5, 97.5))
    some = np.concatenate([values, np.full(100, np.nan)])
    assert interval(some) == pytest.approx((2.5, 97.5))


def test_a_figure_without_a_value_in_most_draws_has_no_interval():
    assert interval(np.array([np.nan, np.nan, 0.5])) is None
    assert interval(np.full(10, np.nan)) is None
    assert interval(np.array([])) is None


def test_the_interval_holds_19_in_20_draws():
    values = np.random.default_rng(0).normal(size=20_000)
    low, high = interval(values)
    assert ((values >= low) & (values <= high)).mean() == pytest.approx(0.95, abs=0.001)
    assert (values < low).mean() == pytest.approx(0.025, abs=0.001)
