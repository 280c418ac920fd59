import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import brier_score_loss

from mmsim.evaluation.bootstrap import Resampling
from mmsim.evaluation.calibration import (
    calibration_figures,
    expected_calibration_error,
    probabilities,
    reliability_points,
)


def logistic_data(slope, offset, count=20_000, seed=0, centre=0.0, spread=1.0):
    rng = np.random.default_rng(seed)
    scores = centre + spread * rng.normal(size=count)
    return scores, (rng.random(count) < expit(slope * scores + offset)).astype(np.int64)


@pytest.mark.parametrize(("slope", "offset"), [(2.0, -0.5), (0.5, 1.0), (-1.5, 0.2)])
def test_slope_and_offset_of_logistic_data_are_found_again(slope, offset):
    scores, labels = logistic_data(slope, offset)
    points = np.array([-1.0, 0.0, 1.0])
    chances, temperature = probabilities(scores, labels, points)
    assert 1 / temperature == pytest.approx(slope, abs=0.07)
    assert chances == pytest.approx(expit(slope * points + offset), abs=0.015)


def test_test_scores_are_put_on_the_scale_of_the_validation_scores():
    # Fitted on one set, applied to another: labels of the other are not needed.
    scores, labels = logistic_data(2.0, 0.0)
    chances, _ = probabilities(scores, labels, np.array([10.0, -10.0, 0.0]))
    assert chances == pytest.approx([1, 0, 0.5], abs=0.02)


@pytest.mark.parametrize("centre_and_spread", [(0.3, 0.2), (0.8, 0.05), (0.9, 0.01), (0.99, 0.001)])
@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_where_the_scores_lie_and_how_close_together_does_not_matter(centre_and_spread, precision):
    # Cosines of a head that finds all items alike lie close together, and far from 0; a head
    # gives them in single precision.
    scores, labels = logistic_data(1.5, 0.0, count=4000)
    expected, _ = probabilities(scores, labels, scores)
    centre, spread = centre_and_spread
    moved = (centre + spread * scores).astype(precision)
    chances, temperature = probabilities(moved, labels, moved)
    assert spread / temperature == pytest.approx(1.5, abs=0.15)
    assert chances == pytest.approx(expected, abs=0.005)


def test_constant_scores_get_the_share_of_matches_and_break_nothing():
    labels = (np.arange(50) % 5 == 0).astype(np.int64)
    same = np.full(50, 0.7, dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chances, temperature = probabilities(same, labels, same)
    assert chances == pytest.approx(np.full(50, 0.2), abs=0.001)
    assert np.isfinite(temperature)


def test_scores_that_part_the_labels_entirely_give_finite_chances():
    scores = np.linspace(-1, 1, 40)
    chances, temperature = probabilities(scores, (scores > 0).astype(np.int64), scores)
    assert np.isfinite(chances).all()
    assert np.isfinite(temperature)
    assert ((chances > 0.5) == (scores > 0)).all()


def test_the_calibration_error_by_hand():
    chances = np.array([0.05, 0.08, 0.32, 0.38, 0.95])
    labels = np.array([0, 1, 0, 1, 1])
    # Bins 0.0-0.1: mean chance 0.065, truth 1/2; 0.3-0.4: 0.35 and 1/2; 0.9-1.0: 0.95 and 1.
    expected = 2 / 5 * (0.5 - 0.065) + 2 / 5 * (0.5 - 0.35) + 1 / 5 * (1 - 0.95)
    assert expected_calibration_error(chances, labels) == pytest.approx(expected)


def test_a_chance_of_one_is_in_the_last_bin_and_of_nought_in_the_first():
    assert expected_calibration_error(np.array([1.0, 1.0]), np.array([1, 0])) == pytest.approx(0.5)
    assert expected_calibration_error(np.array([0.0, 0.0]), np.array([1, 0])) == pytest.approx(0.5)
    # In one bin they would make up for each other.
    assert expected_calibration_error(np.array([0.0, 1.0]), np.array([1, 0])) == pytest.approx(1)


def test_too_high_in_one_bin_does_not_make_up_for_too_low_in_another():
    chances, labels = np.array([0.25, 0.75]), np.array([1, 0])
    assert expected_calibration_error(chances, labels) == pytest.approx(0.75)


def test_perfect_chances_have_no_calibration_error():
    assert expected_calibration_error(np.array([0.0, 1.0, 1.0]), np.array([0, 1, 1])) == 0
    # One in five of those with chance 0.2 is a match, three in four of those with 0.75.
    chances = np.array([0.2] * 5 + [0.75] * 4)
    labels = np.array([1, 0, 0, 0, 0, 1, 1, 1, 0])
    assert expected_calibration_error(chances, labels) == pytest.approx(0, abs=1e-12)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_the_calibration_error_is_between_the_gap_of_means_and_one(rows):
    chances, labels = (np.array(column) for column in zip(*rows, strict=True))
    found = expected_calibration_error(chances, labels)
    assert abs(labels.mean() - chances.mean()) - 1e-9 <= found <= 1 + 1e-9


def test_the_brier_score_is_that_of_scikit_learn_over_seeds():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    chances = rng.random((3, 60))
    found = calibration_figures(chances, [0.5, 1.0, 1.5], labels, Resampling(np.arange(60), 200))
    scores = [brier_score_loss(labels, p) for p in chances]
    assert found["brier"] == pytest.approx(np.mean(scores))
    assert found["brier_std"] == pytest.approx(np.std(scores, ddof=1))
    assert found["brier_low"] < found["brier"] < found["brier_high"]
    errors = [expected_calibration_error(p, labels) for p in chances]
    assert found["ece"] == pytest.approx(np.mean(errors))
    assert found["ece_std"] == pytest.approx(np.std(errors, ddof=1))
    assert (found["temperature"], found["temperature_std"]) == pytest.approx((1.0, 0.5))


def test_fitted_chances_are_better_than_the_scores_read_as_they_are():
    # A cosine squeezed into the middle, as heads give it.
    scores, labels = logistic_data(12.0, -1.2, count=4000, centre=0.1, spread=0.2)
    half = np.arange(4000) < 2000
    chances, _ = probabilities(scores[half], labels[half], scores[~half])
    raw = (scores[~half].clip(-1, 1) + 1) / 2
    assert expected_calibration_error(chances, labels[~half]) < 0.04
    assert expected_calibration_error(raw, labels[~half]) > 0.15


def test_reliability_points_by_hand_over_all_seeds():
    chances = np.array([[0.02, 0.5, 0.93], [0.06, 0.58, 1.0]])
    points = reliability_points(chances, np.array([0, 1, 1]))
    assert list(points.columns) == ["predicted", "observed", "pairs"]
    assert points["predicted"].tolist() == pytest.approx([0.04, 0.54, 0.965])
    assert points["observed"].tolist() == [0, 1, 1]
    assert points["pairs"].tolist() == [2, 2, 2]


def test_reliability_points_hold_every_pair_of_every_seed_and_give_the_calibration_error():
    rng = np.random.default_rng(0)
    chances, labels = rng.random((1, 200)), rng.integers(0, 2, 200)
    points = reliability_points(chances, labels)
    assert points["pairs"].sum() == 200
    assert points["predicted"].is_monotonic_increasing
    gaps = (points["predicted"] - points["observed"]).abs() * points["pairs"] / 200
    assert gaps.sum() == pytest.approx(expected_calibration_error(chances[0], labels))
