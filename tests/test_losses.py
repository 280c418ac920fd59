import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy

from mmsim.training.losses import Contrastive, InfoNCE, Logistic


def cosine_at(distance):
    """Cosine of two unit vectors that lie `distance` apart."""
    return 1 - distance**2 / 2


@pytest.mark.parametrize(
    ("distance", "label", "margin", "loss"),
    [
        (0.0, 1, 1.0, 0.0),
        (0.0, 0, 1.0, 1.0),
        (0.5, 1, 1.0, 0.25),
        (0.5, 0, 1.0, 0.25),
        (0.8, 0, 1.0, 0.04),
        (1.0, 0, 1.0, 0.0),
        (1.5, 0, 1.0, 0.0),
        (1.5, 0, 2.0, 0.25),
        (2.0, 1, 1.0, 4.0),
        (2.0, 0, 2.0, 0.0),
    ],
)
def test_contrastive_loss_by_hand(distance, label, margin, loss):
    scores, labels = torch.tensor([cosine_at(distance)]), torch.tensor([float(label)])
    assert Contrastive(margin)(scores, labels).item() == pytest.approx(loss, abs=3e-4)


def test_contrastive_loss_is_the_mean_over_pairs():
    scores = torch.tensor([cosine_at(0.5), cosine_at(0.8), cosine_at(1.5)])
    loss = Contrastive(1.0)(scores, torch.tensor([1.0, 0.0, 0.0]))
    assert loss.item() == pytest.approx((0.25 + 0.04 + 0) / 3, abs=1e-6)


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("score", [1.0, 1.0 + 1e-6, -1.0])
def test_contrastive_gradient_is_finite_at_identical_and_opposite_embeddings(score, label):
    scores = torch.tensor([score], requires_grad=True)
    Contrastive(1.0)(scores, torch.tensor([label])).backward()
    assert scores.grad.isfinite().all()


def test_contrastive_loss_pulls_positives_and_pushes_only_near_negatives():
    scores = torch.tensor([0.2, 0.9, 0.2], requires_grad=True)
    Contrastive(1.0)(scores, torch.tensor([1.0, 0.0, 0.0])).backward()
    assert scores.grad[0] < 0 < scores.grad[1]
    assert scores.grad[2] == 0


def test_logistic_loss_is_cross_entropy_of_a_scaled_and_shifted_cosine():
    loss = Logistic()
    with torch.no_grad():
        loss.scale.fill_(math.log(3.0))
        loss.offset.fill_(-0.7)
    scores, labels = torch.tensor([0.9, -0.3, 0.1, 0.5]), torch.tensor([1.0, 0.0, 1.0, 0.0])
    expected = binary_cross_entropy(torch.sigmoid(3 * scores - 0.7), labels)
    torch.testing.assert_close(loss(scores, labels), expected)


def test_logistic_loss_learns_scale_and_offset():
    loss = Logistic()
    loss(torch.tensor([0.9, 0.3, 0.5]), torch.tensor([1.0, 0.0, 0.0])).backward()
    assert loss.scale.grad != 0
    assert loss.offset.grad != 0


def in_batch_loss(scores, excluded, temperature):
    """Each query against all candidates, each candidate against all queries, one by one."""
    count = len(scores)
    total = 0.0
    for i in range(count):
        right = math.exp(scores[i][i] / temperature)
        candidates = [scores[i][j] for j in range(count) if not excluded[i][j]]
        queries = [scores[j][i] for j in range(count) if not excluded[j][i]]
        for rivals in (candidates, queries):
            total -= math.log(right / sum(math.exp(score / temperature) for score in rivals))
    return total / (2 * count)


def random_batch(count, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.rand(count, count, generator=generator) - 1
    excluded = torch.rand(count, count, generator=generator) < 0.3
    return scores, excluded.fill_diagonal_(False)


@given(st.integers(2, 7), st.integers(0, 999), st.floats(0.05, 2))
@settings(max_examples=30, deadline=None)
def test_infonce_is_cross_entropy_in_both_directions(count, seed, temperature):
    scores, excluded = random_batch(count, seed)
    expected = in_batch_loss(scores.tolist(), excluded.tolist(), temperature)
    assert InfoNCE(temperature)(scores, excluded).item() == pytest.approx(expected, rel=1e-4)


def test_infonce_treats_queries_and_candidates_alike():
    scores, excluded = random_batch(6, 0)
    loss = InfoNCE(0.1)
    torch.testing.assert_close(loss(scores, excluded), loss(scores.T, excluded.T))


def test_infonce_ignores_the_scores_of_excluded_pairs():
    scores, excluded = random_batch(6, 1)
    assert excluded.any()
    elsewhere = torch.where(excluded, torch.ones(()), scores).requires_grad_()
    loss = InfoNCE(0.1)
    value = loss(elsewhere, excluded)
    torch.testing.assert_close(value, loss(scores, excluded))
    value.backward()
    assert (elsewhere.grad[excluded] == 0).all()
    assert (elsewhere.grad[~excluded] != 0).all()


def test_infonce_of_equal_scores_is_that_of_chance():
    loss = InfoNCE(0.07)(torch.full((8, 8), 0.3), torch.zeros(8, 8, dtype=torch.bool))
    assert loss.item() == pytest.approx(math.log(8), rel=1e-5)
