import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from mmsim.comparison.paired import delong, difference, mcnemar, randomisation
from mmsim.evaluation.bootstrap import Resampling, decision_draws


def placements(scores, labels):
    """Of each positive the share of negatives below it; of each negative that of positives above.

    A tie counts one half.
    """
    positives, negatives = scores[labels == 1], scores[labels == 0]
    wins = [[(p > n) + (p == n) / 2 for n in negatives] for p in positives]
    of_positives = [statistics.mean(row) for row in wins]
    return of_positives, [statistics.mean(column) for column in zip(*wins, strict=True)]


def covariance(first, second):
    centre = statistics.mean(first), statistics.mean(second)
    products = [(a - centre[0]) * (b - centre[1]) for a, b in zip(first, second, strict=True)]
    return sum(products) / (len(products) - 1)


def slow_delong(scores_a, scores_b, labels):
    """Difference of AUC and its variance, as DeLong, DeLong and Clarke-Pearson write them."""
    both = [placements(scores, labels) for scores in (scores_a, scores_b)]
    variance = 0.0
    for i, j in itertools.product((0, 1), repeat=2):
        sign = 1 if i == j else -1
        for side in (0, 1):
            parts = both[i][side], both[j][side]
            variance += sign * covariance(*parts) / len(parts[0])
    return statistics.mean(both[1][0]) - statistics.mean(both[0][0]), variance


def two_scores(seed, count=60, gap=0.5, steps=None):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    common = rng.normal(size=count)
    scores = [
        strength * labels + common + 0.6 * rng.normal(size=count) for strength in (1, 1 + gap)
    ]
    # In steps, so that there are ties.
    return *(s.round(steps) if steps is not None else s for s in scores), labels


@pytest.mark.parametrize("steps", [None, 0, 1])
@pytest.mark.parametrize("seed", range(3))
def test_delong_is_what_a_double_loop_over_placements_gives(seed, steps):
    scores_a, scores_b, labels = two_scores(seed, steps=steps)
    gap, variance = slow_delong(scores_a, scores_b, labels)
    areas = [roc_auc_score(labels, scores) for scores in (scores_a, scores_b)]
    assert gap == pytest.approx(areas[1] - areas[0])
    expected = 2 * stats.norm.sf(abs(gap) / math.sqrt(variance))
    assert delong(scores_a, scores_b, labels) == pytest.approx(expected)
    assert delong(scores_b, scores_a, labels) == pytest.approx(expected)


def test_the_variance_of_delong_is_that_of_a_bootstrap_over_pairs():
    scores_a, scores_b, labels = two_scores(0, count=300, gap=0.2)
    p = delong(scores_a, scores_b, labels)
    areas = [roc_auc_score(labels, scores) for scores in (scores_a, scores_b)]
    error = (areas[1] - areas[0]) / stats.norm.isf(p / 2)
    both = np.stack([scores_a, scores_b])
    drawn = decision_draws(both, labels, both > 0.5, Resampling(np.arange(300), 1000))["auc"]
    assert (drawn[1] - drawn[0]).std() == pytest.approx(error, rel=0.12)
    # Had the two been drawn apart, it would be much larger.
    assert error < 0.75 * np.hypot(drawn[0].std(), drawn[1].std())


def test_delong_of_the_same_order_is_1_and_of_a_far_better_one_is_small():
    scores_a, scores_b, labels = two_scores(0, count=200, gap=2.0)
    assert delong(scores_a, 3 * scores_a + 1, labels) == 1
    assert delong(scores_a, scores_b, labels) < 1e-4
    # All right against all wrong: no variance, and no doubt.
    assert delong(labels * 1.0, -labels * 1.0, labels) == 0


def test_delong_rejects_one_in_twenty_where_there_is_no_difference():
    p = np.array([delong(*two_scores(seed, count=100, gap=0)) for seed in range(400)])
    # 400 repetitions know 5 % to 1.1 points.
    assert 0.02 <= (p < 0.05).mean() <= 0.085
    assert (p < 0.5).mean() == pytest.approx(0.5, abs=0.1)


def decided(both, only_a, only_b, neither):
    correct_a = [1] * both + [1] * only_a + [0] * only_b + [0] * neither
    correct_b = [1] * both + [0] * only_a + [1] * only_b + [0] * neither
    return np.array(correct_a, dtype=bool), np.array(correct_b, dtype=bool)


@given(st.tuples(*[st.integers(0, 12)] * 4))
@settings(max_examples=60, deadline=None)
def test_mcnemar_is_the_binomial_test_of_the_pairs_on_which_the_two_differ(counts):
    both, only_a, only_b, neither = counts
    apart = only_a + only_b
    expected = stats.binomtest(only_a, apart).pvalue if apart else 1.0
    found = mcnemar(*decided(*counts))
    assert found == pytest.approx(expected)
    assert mcnemar(*decided(both, only_b, only_a, neither)) == pytest.approx(found)


def test_mcnemar_by_hand():
    # Of ten, two or fewer on one side: (1 + 10 + 45) / 1024, twice.
    assert mcnemar(*decided(50, 2, 8, 40)) == pytest.approx(2 * 56 / 1024)
    assert mcnemar(*decided(50, 0, 0, 40)) == 1


def slow_randomisation(values_a, values_b, clusters):
    """Share of all exchanges by cluster that give a difference as large, in either direction."""
    gaps = [
        (values_b[clusters == cluster] - values_a[clusters == cluster]).sum()
        for cluster in np.unique(clusters)
    ]
    found = abs(sum(gaps))
    sums = [
        abs(sum(sign * gap for sign, gap in zip(signs, gaps, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(gaps))
    ]
    return sum(total >= found - 1e-9 for total in sums) / len(sums)


@pytest.mark.parametrize("seed", range(4))
def test_randomisation_counts_all_exchanges_of_few_clusters(seed):
    rng = np.random.default_rng(seed)
    clusters = np.array([7, 7, 7, 2, 2, 5, 9, 9, 11, 11, 4, 30])
    values_a = rng.normal(size=12)
    values_b = values_a + rng.normal(size=12) + 0.5
    expected = slow_randomisation(values_a, values_b, clusters)
    assert randomisation(values_a, values_b, clusters) == pytest.approx(expected)
    assert randomisation(values_b, values_a, clusters) == pytest.approx(expected)


def test_randomisation_by_draws_is_near_the_normal_approximation():
    rng = np.random.default_rng(0)
    gaps = rng.normal(size=200) + 0.12
    found = randomisation(np.zeros(200), gaps, np.arange(200), draws=4000)
    expected = 2 * stats.norm.sf(abs(gaps.sum()) / math.sqrt((gaps**2).sum()))
    assert found == pytest.approx(expected, abs=0.02)


def test_randomisation_of_the_same_values_is_1_and_of_clearly_better_ones_is_small():
    rng = np.random.default_rng(0)
    values = rng.random(300)
    clusters = np.arange(300) // 3
    assert randomisation(values, values, clusters, draws=500) == 1
    better = values + 0.2 + 0.1 * rng.normal(size=300)
    # With 2,000 draws nothing can be below 2 / 2,001.
    assert 0 < randomisation(values, better, clusters, draws=2000) < 0.002


def test_randomisation_exchanges_whole_clusters():
    # One entity with very many queries: one difference, not many.
    rng = np.random.default_rng(0)
    gaps = np.concatenate([np.full(200, 0.3), rng.normal(size=9)])
    clusters = np.concatenate([np.zeros(200), np.arange(1, 10)]).astype(int)
    assert randomisation(np.zeros(209), gaps, clusters) > 0.1
    assert randomisation(np.zeros(209), gaps, np.arange(209), draws=2000) < 0.01


PAIRS, CLUSTERS = 300, 100


def measured(rng, common, seeds, skill, labels, draws=300, strength=1.5, seed=0):
    """AUC of each seed of one model, and in each draw.

    Seeds differ in skill by `skill`, and pair by pair by a noise of their own.
    """
    strengths = strength + skill * rng.normal(size=(seeds, 1))
    noise = 0.7 * rng.normal(size=(seeds, len(labels)))
    scores = strengths * labels + common + noise
    resampling = Resampling(np.arange(len(labels)) // 3, draws, seed)
    drawn = decision_draws(scores, labels, scores >= 0.75, resampling)["auc"]
    return np.array([roc_auc_score(labels, row) for row in scores]), drawn


def two_models(seed=0, seeds=(4, 3), strengths=(1.5, 1.5), skill=0.15):
    rng = np.random.default_rng(seed)
    common, labels = rng.normal(size=PAIRS), np.arange(PAIRS) % 2
    (a, a_draws), (b, b_draws) = (
        measured(rng, common, number, skill, labels, strength=strength)
        for number, strength in zip(seeds, strengths, strict=True)
    )
    return a, b, a_draws, b_draws, CLUSTERS


def test_a_model_compared_with_itself_has_no_difference_and_p_1():
    for seeds in ((4, 4), (1, 1)):
        a, _, draws, _, clusters = two_models(seeds=seeds)
        found = difference(a, a, draws, draws, clusters)
        assert (found.difference, found.p) == (0, 1)
        assert found.a == found.b
        assert found.low <= 0 <= found.high


@pytest.mark.parametrize("seeds", [(4, 3), (1, 1), (5, 1)])
def test_exchanged_models_have_the_opposite_difference_and_the_same_p(seeds):
    a, b, a_draws, b_draws, clusters = two_models(seeds=seeds, strengths=(1.5, 1.6))
    there = difference(a, b, a_draws, b_draws, clusters)
    back = difference(b, a, b_draws, a_draws, clusters)
    assert there.difference != 0
    assert back.difference == pytest.approx(-there.difference)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert (back.p, back.detectable) == pytest.approx((there.p, there.detectable))
    assert (back.a, back.b, back.a_std, back.b_std) == (there.b, there.a, there.b_std, there.a_std)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("seeds", [(4, 3), (1, 1)])
def test_the_interval_brackets_the_difference_and_leaves_out_0_where_p_is_small(seed, seeds):
    strengths = (1.5, 1.5 + 0.15 * seed)
    a, b, a_draws, b_draws, clusters = two_models(seed, seeds, strengths, skill=0.05)
    found = difference(a, b, a_draws, b_draws, clusters)
    assert found.difference == pytest.approx(b.mean() - a.mean())
    assert found.low < found.difference < found.high
    assert (found.low > 0 or found.high < 0) == (found.p < 0.05)
    assert 0 <= found.p <= 1
    # What is found four times in five is more than what is found one time in two.
    assert found.detectable > (found.high - found.low) / 2


def test_a_clearly_better_model_is_found_so():
    found = difference(*two_models(seed=1, strengths=(1.0, 2.5)))
    assert found.p < 0.001
    assert found.low > 0


def test_means_and_deviations_over_seeds_are_those_of_the_points():
    a, b, *draws = two_models()
    found = difference(a, b, *draws)
    assert (found.a, found.b) == pytest.approx((a.mean(), b.mean()))
    assert (found.a_std, found.b_std) == pytest.approx((a.std(ddof=1), b.std(ddof=1)))


def test_one_seed_each_leaves_the_bootstrap_alone():
    a, b, a_draws, b_draws, clusters = two_models(seeds=(1, 1))
    found = difference(a, b, a_draws, b_draws, clusters)
    assert (found.a_std, found.b_std) == (None, None)
    error = (b_draws - a_draws).std(ddof=1)
    student = stats.t(clusters - 1)
    assert found.p == pytest.approx(2 * student.sf(abs(b - a).item() / error))
    assert found.high - found.difference == pytest.approx(student.ppf(0.975) * error)
    assert found.detectable == pytest.approx((student.ppf(0.975) + student.ppf(0.8)) * error)


def test_the_draws_of_the_two_are_paired():
    # What both models have in common in a draw is no uncertainty of their difference.
    rng = np.random.default_rng(0)
    a, b = np.array([0.8]), np.array([0.82])
    common, own = 0.05 * rng.normal(size=400), 0.005 * rng.normal(size=(2, 1, 400))
    paired = difference(a, b, a + common + own[0], b + common + own[1], 100)
    apart = difference(a, b, a + common + own[0], b + rng.permutation(common) + own[1], 100)
    assert paired.p < 0.05 < apart.p


def test_without_anything_left_to_the_test_set_it_is_the_t_test_of_welch():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=5), 2 * rng.normal(size=8) + 1
    found = difference(a, b, np.tile(a[:, None], 50), np.tile(b[:, None], 50), 100)
    expected = stats.ttest_ind(b, a, equal_var=False)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_seeds_that_differ_more_make_the_interval_wider():
    widths = []
    for skill in (0.0, 0.5):
        found = difference(*two_models(skill=skill))
        widths.append(found.high - found.low)
    assert widths[1] > 2 * widths[0]


def test_seeds_that_differ_only_as_the_test_set_makes_them_add_nothing():
    # The same skill, and much noise of their own: all of it is the bootstrap's already.
    rng = np.random.default_rng(3)
    draws = 0.8 + 0.02 * rng.normal(size=(2, 5, 2000))
    a, b = 0.8 + 0.01 * rng.normal(size=(2, 5))
    found = difference(a, b, draws[0], draws[1], 100)
    variance = (draws[1].mean(axis=0) - draws[0].mean(axis=0)).var(ddof=1)
    # Only how sure that variance is suffers: from 99 degrees of freedom to fewer.
    doubt = sum((points.var(ddof=1) / 5) ** 2 / 4 for points in (a, b))
    freedom = variance**2 / (variance**2 / 99 + doubt)
    width = stats.t(freedom).ppf(0.975) * np.sqrt(variance)
    assert found.high - found.difference == pytest.approx(width)
    assert 4 < freedom < 99


def test_draws_without_a_value_are_left_out():
    a, b, a_draws, b_draws, clusters = two_models()
    expected = difference(a, b, a_draws, b_draws, clusters)
    nothing = np.full((4, 20), np.nan), np.full((3, 20), np.nan)
    found = difference(
        a, b, np.hstack([a_draws, nothing[0]]), np.hstack([b_draws, nothing[1]]), clusters
    )
    assert found.p == pytest.approx(expected.p)
    assert found.low == pytest.approx(expected.low)


def test_constant_figures_that_differ_differ_without_doubt():
    ones, twos = np.ones(3), np.full(3, 2.0)
    found = difference(ones, twos, np.ones((3, 10)), np.full((3, 10), 2.0), 5)
    assert (found.difference, found.low, found.high, found.p) == (1, 1, 1, 0)


def test_models_that_differ_by_seed_only_are_told_apart_about_one_time_in_twenty():
    rng = np.random.default_rng(0)
    labels = np.arange(PAIRS) % 2
    p = []
    for _ in range(200):
        common = rng.normal(size=PAIRS)
        (a, a_draws), (b, b_draws) = (measured(rng, common, 5, 0.15, labels) for _ in range(2))
        p.append(difference(a, b, a_draws, b_draws, CLUSTERS).p)
    # 200 comparisons know 5 % to 1.5 points.
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.08
