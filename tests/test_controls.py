import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from synthetic import ATTENTIONS, head, memory, own_and_next, same_and_other

from mmsim.evaluation.controls import (
    BLOCK,
    emap_of_matches,
    emap_of_pairs,
    projection,
    with_blank_images,
    with_shuffled_images,
)
from mmsim.evaluation.retrieval import Pool
from mmsim.training.scoring import score_matrix, score_pairs

image_columns = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(list)


def row_numbers(columns):
    rows = [[query, 100 + place, candidate, 200] for place, (query, candidate) in columns]
    return torch.tensor(rows, dtype=torch.int64)


@given(st.lists(image_columns, min_size=2, max_size=30), st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_shuffling_moves_every_image_to_another_one_of_the_pairs(columns, seed):
    rows = row_numbers(enumerate(columns))
    images = rows[:, [0, 2]]
    assume(len(images.unique()) > 1)
    shuffled = with_shuffled_images(rows, seed)
    assert (shuffled[:, [0, 2]] != images).all()
    # A permutation: the same images, each standing in for one other.
    flat, onto = images.ravel().tolist(), shuffled[:, [0, 2]].ravel().tolist()
    moved = set(zip(flat, onto, strict=True))
    assert sorted({a for a, _ in moved}) == sorted({b for _, b in moved})
    assert len(moved) == len(images.unique())


@given(st.lists(image_columns, min_size=2, max_size=30))
@settings(max_examples=50, deadline=None)
def test_shuffling_keeps_captions_in_place_and_shared_images_shared(columns):
    rows = row_numbers(enumerate(columns))
    before = rows.clone()
    shuffled = with_shuffled_images(rows)
    assert (rows == before).all()
    assert (shuffled[:, [1, 3]] == rows[:, [1, 3]]).all()
    flat, moved = rows[:, [0, 2]].ravel(), shuffled[:, [0, 2]].ravel()
    assert ((flat[:, None] == flat) == (moved[:, None] == moved)).all()


def test_shuffling_is_the_same_each_time_and_other_with_another_seed():
    rows = same_and_other(10).rows
    assert (with_shuffled_images(rows) == with_shuffled_images(rows)).all()
    assert (with_shuffled_images(rows, 1) != with_shuffled_images(rows, 2)).any()


def test_every_blank_image_is_the_mean_of_the_images_that_could_be_encoded():
    features = memory()
    features.images_ok[[2, 5]] = False
    features.grid[[2, 5]] = 1000.0
    blank = with_blank_images(features)
    usable = [row for row in range(12) if row not in (2, 5)]
    expected = features.grid[usable].float().mean(0)
    assert blank.grid.shape == features.grid.shape
    for row in range(12):
        assert torch.allclose(blank.grid[row].float(), expected, atol=2e-3)
    assert (blank.tokens == features.tokens).all()
    # The features themselves are as they were.
    assert (features.grid[2] == 1000).all()


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_with_blank_images_only_the_captions_decide(attention):
    model, features = head(attention, "pair"), memory(20, 20)
    blank = with_blank_images(features)
    rows = same_and_other(10).rows
    scores = score_pairs(model, blank, rows)
    assert scores == pytest.approx(score_pairs(model, blank, with_shuffled_images(rows)), abs=1e-6)
    assert np.abs(scores - score_pairs(model, features, rows)).max() > 0.01


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_with_blank_images_a_caption_has_one_score_whatever_image_it_is_matched_with(attention):
    rows = own_and_next(12).rows
    scores = score_pairs(head(attention), with_blank_images(memory()), rows)
    for text in range(12):
        of_text = scores[(rows[:, 3] == text).numpy()]
        assert of_text == pytest.approx(np.full(2, of_text[0]), abs=1e-6)


sizes = st.integers(1, 8)
seeds = st.integers(0, 999)


@given(sizes, seeds)
@settings(max_examples=100, deadline=None)
def test_of_a_sum_of_a_text_part_and_an_image_part_nothing_is_lost(size, seed):
    rng = np.random.default_rng(seed)
    text, image = rng.normal(size=(2, size))
    assert projection(text[:, None] + image) == pytest.approx(text + image)


@given(sizes, seeds, st.floats(-5, 5))
@settings(max_examples=100, deadline=None)
def test_of_pure_interaction_nothing_is_left_but_its_mean(size, seed, level):
    square = np.random.default_rng(seed).normal(size=(size, size))
    centred = square - square.mean(0) - square.mean(1, keepdims=True) + square.mean()
    assert projection(centred + level) == pytest.approx(np.full(size, level))


@given(sizes, seeds)
@settings(max_examples=50, deadline=None)
def test_the_projection_is_linear_and_a_second_one_changes_nothing(size, seed):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, size, size))
    combined = projection(2 * first - second)
    assert combined == pytest.approx(2 * projection(first) - projection(second))
    additive = first.mean(1, keepdims=True) + first.mean(0) - first.mean()
    assert projection(additive) == pytest.approx(projection(first))


def test_the_projection_by_hand_takes_rows_for_texts_and_columns_for_images():
    square = np.array([[1.0, 2.0], [5.0, 10.0]])
    # Text 0 with every image 1.5, image 0 with every text 3, all 4.5; then 7.5, 6, 4.5.
    assert projection(square).tolist() == [1.5 + 3 - 4.5, 7.5 + 6 - 4.5]


def slow_projection(score, count):
    square = [[score(text, image) for image in range(count)] for text in range(count)]
    everything = sum(map(sum, square)) / count**2
    return [
        sum(square[i]) / count + sum(row[i] for row in square) / count - everything
        for i in range(count)
    ]


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_emap_of_pairs_is_what_scoring_each_combination_alone_gives(attention):
    # More pairs than one block holds, so that blocks are joined; images stand in several pairs.
    model, features = head(attention, "pair"), memory(20, 20)
    rows = same_and_other(10).rows[: BLOCK + 3]
    assert len(rows) > BLOCK

    def score(text, image):
        combined = rows[[image]].clone()
        combined[:, [1, 3]] = rows[[text]][:, [1, 3]]
        return score_pairs(model, features, combined).item()

    expected = slow_projection(score, len(rows))
    found = emap_of_pairs(model, features, rows)
    assert found == pytest.approx(expected, abs=1e-5)
    # These heads do use interaction: the projection is not the scores.
    assert np.abs(found - score_pairs(model, features, rows)).max() > 0.01


def pool_of(images, texts):
    shape = (len(images), len(texts))
    nothing = np.zeros(shape, dtype=bool)
    return Pool(images, texts, nothing, nothing, np.arange(shape[0]), np.arange(shape[1]))


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_emap_of_matches_is_what_scoring_each_combination_alone_gives(attention):
    model, features = head(attention), memory(16, 16)
    # The rows of the pool do not start at 0 and have gaps; an image has two captions.
    pairs = [[3, 3], [3, 4], [8, 8], [9, 9], [3, 8], [8, 3], [9, 4], [8, 9]]
    rows = torch.tensor([[image, 0, 0, text] for image, text in pairs])
    pool = pool_of(np.array([3, 8, 9, 12]), np.array([3, 4, 8, 9, 15]))
    matrix = score_matrix(
        model, features, torch.from_numpy(pool.images), torch.from_numpy(pool.texts)
    )

    def score(text, image):
        combined = rows[[image]].clone()
        combined[:, 3] = rows[text, 3]
        return score_pairs(model, features, combined).item()

    expected = slow_projection(score, len(rows))
    assert emap_of_matches(matrix, pool, rows.numpy()) == pytest.approx(expected, abs=1e-5)


def test_without_interaction_matches_are_no_higher_than_negatives_of_the_same_marginals():
    rows = own_and_next(12).rows.numpy()
    pool = pool_of(np.arange(12), np.arange(12))
    matrix = np.random.default_rng(0).normal(size=(12, 12)) + 3 * np.eye(12)
    found = emap_of_matches(matrix, pool, rows)
    assert found[:12].mean() == pytest.approx(found[12:].mean())
    assert found.std() > 0.1
