import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from synthetic import memory

from mmsim.evaluation.baselines import (
    ROWS_AT_A_TIME,
    MeanFeatures,
    baseline_scores,
    caption_tfidf,
)
from mmsim.evaluation.inputs import Data
from mmsim.training.memory import Pairs

ENTITIES = 60
"""Of each split, each with two items."""


def items_of(split):
    """Numbers of the first items of a split's entities; the second is the next one."""
    return 2 * (ENTITIES * split + np.arange(ENTITIES))


def split_pairs(query, same, other):
    """Each query with a candidate of its entity, label 1, and with one of another, label 0."""
    rows = np.concatenate(
        [np.stack([query, query, to, to], axis=1) for to in (same, other)]
    ).astype(np.int64)
    labels = np.repeat([1, 0], len(query))
    return Pairs(torch.from_numpy(rows), torch.from_numpy(labels).float(), None)


def even_pairs(split):
    """Every query and every candidate stands in one positive and in one negative."""
    query = items_of(split)
    return split_pairs(query, query + 1, np.roll(query + 1, 7))


def vectors(shared, rng, dim=8, noise=0.5):
    """A vector for each item, near that of the other item of its entity if `shared`."""
    entities = rng.normal(size=(3 * ENTITIES, dim))
    own = rng.normal(size=(6 * ENTITIES, dim))
    made = np.repeat(entities, 2, axis=0) + noise * own if shared else own
    return made.astype(np.float32)


def data(task="pair", pairs=even_pairs, captions=None, groups=None):
    numbers = np.arange(6 * ENTITIES)
    captions = captions or [f"item number{i}" for i in numbers]
    return Data(
        task,
        *(pairs(split) for split in range(3)),
        instances=None,
        images=pd.DataFrame({"image": numbers, "group": numbers if groups is None else groups}),
        texts=pd.DataFrame({"text": numbers, "content": captions}),
        entities=None,
    )


def aucs(given, features):
    labels = given.test.labels.numpy()
    return {
        name: roc_auc_score(labels, of_test)
        for name, (_, of_test) in baseline_scores(given, features).items()
    }


def features(text=False, image=False, seed=0):
    rng = np.random.default_rng(seed)
    return MeanFeatures(vectors(image, rng), vectors(text, rng))


def test_the_baselines_of_each_task_have_these_names_and_a_score_for_each_pair():
    given = data()
    found = baseline_scores(given, features())
    one_side = {"majority", "query_only", "candidate_only"}
    cosines = {"caption_tfidf", "frozen_cosine", "logistic_cosines"}
    both = cosines | {"same_image", "text_only", "image_only"}
    assert set(found) == one_side | both
    assert set(baseline_scores(data("match"), features())) == one_side
    for of_valid, of_test in found.values():
        assert of_valid.shape == (len(given.valid),)
        assert of_test.shape == (len(given.test),)
        assert np.isfinite(of_valid).all()
        assert np.isfinite(of_test).all()


def test_majority_says_the_same_of_every_pair():
    of_valid, of_test = baseline_scores(data("match"), features())["majority"]
    assert len(set(of_valid)) == len(set(of_test)) == 1


@pytest.mark.parametrize("task", ["match", "pair"])
def test_one_side_alone_is_at_chance_where_every_item_stands_in_both_labels(task):
    # However much the features say of the entities.
    found = aucs(data(task), features(text=True, image=True))
    assert found["query_only"] == pytest.approx(0.5)
    assert found["candidate_only"] == pytest.approx(0.5)


def betraying_pairs(side):
    """Positives and negatives take the items of one side from two halves of the entities."""

    def pairs(split):
        query = items_of(split)
        first, second = query[: ENTITIES // 2], query[ENTITIES // 2 :]
        even = np.roll(first, 3)
        if side == "candidate":
            return split_pairs(first, first + 1, second + 1)
        rows = np.concatenate(
            [np.stack([q, q, c, c], axis=1) for q, c in ((first, even + 1), (second, even + 1))]
        )
        labels = np.repeat([1, 0], ENTITIES // 2)
        return Pairs(torch.from_numpy(rows), torch.from_numpy(labels).float(), None)

    return pairs


def marked(modality):
    """Items of the first half of each split's entities have a mark in one modality."""
    made = features()
    half = (np.arange(6 * ENTITIES) // 2) % ENTITIES < ENTITIES // 2
    values = getattr(made, modality)
    values[:, 0] += np.where(half, 3, -3)
    return made


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("side", ["query", "candidate"])
def test_in_task_pair_one_side_lights_up_where_image_or_caption_betrays_the_label(side, modality):
    found = aucs(data("pair", betraying_pairs(side)), marked(modality))
    other = {"query": "candidate", "candidate": "query"}[side]
    assert found[f"{side}_only"] > 0.95
    assert found[f"{other}_only"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("side", "modality", "seen"),
    [
        ("query", "image", True),
        ("query", "text", False),
        ("candidate", "text", True),
        ("candidate", "image", False),
    ],
)
def test_in_task_match_the_query_is_its_image_and_the_candidate_its_caption(side, modality, seen):
    found = aucs(data("match", betraying_pairs(side)), marked(modality))[f"{side}_only"]
    assert found > 0.95 if seen else found == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize(
    ("text", "image"), [(True, False), (False, True), (True, True), (False, False)]
)
def test_a_comparison_of_one_modality_sees_that_modality_and_no_other(text, image):
    found = aucs(data(), features(text=text, image=image))
    for name, there in (("text_only", text), ("image_only", image)):
        # Of 120 pairs, the AUC of noise is within 0.05 of one half two times in three.
        assert found[name] > 0.85 if there else found[name] == pytest.approx(0.5, abs=0.16)
    if text or image:
        assert found["frozen_cosine"] > 0.8


@pytest.mark.parametrize("entities", [20, 40])
def test_few_training_items_with_wide_features_are_enough_for_a_strong_signal(entities):
    # As many principal components as training items would say nothing of other items.
    def pairs(split):
        query = items_of(split)[: entities if split == 0 else ENTITIES]
        return split_pairs(query, query + 1, np.roll(query + 1, 7))

    rng = np.random.default_rng(0)
    found = aucs(data(pairs=pairs), MeanFeatures(*(vectors(True, rng, dim=128) for _ in "ab")))
    assert found["frozen_cosine"] > 0.95
    assert found["text_only"] > 0.9
    assert found["image_only"] > 0.9


def test_regressions_learn_from_training_pairs_and_not_from_those_they_score():
    given = data()
    changed = replace(given, test=Pairs(given.test.rows, 1 - given.test.labels, None))
    made = features(text=True)
    for name, (_, of_test) in baseline_scores(changed, made).items():
        assert (of_test == baseline_scores(given, made)[name][1]).all()


def test_the_frozen_cosine_is_the_mean_of_that_of_the_images_and_that_of_the_captions():
    given, made = data(), features()
    positive = given.test.labels.numpy() == 1
    # Both items of an entity have one image, and captions that are opposite about a centre,
    # which then is the mean of the training captions: cosines of 1 and -1.
    made.image[1::2] = made.image[::2]
    made.text[1::2] = 0.7 - made.text[::2]
    _, of_test = baseline_scores(given, made)["frozen_cosine"]
    assert of_test[positive] == pytest.approx(np.zeros(positive.sum()), abs=1e-3)
    made.text[1::2] = made.text[::2]
    _, of_test = baseline_scores(given, made)["frozen_cosine"]
    assert of_test[positive] == pytest.approx(np.ones(positive.sum()), abs=1e-5)
    assert np.abs(of_test[~positive]).max() < 0.99


def test_the_frozen_cosine_takes_off_what_all_training_items_have_in_common():
    made = features(text=True, image=True)
    moved = MeanFeatures(made.image + 50, made.text * np.float32(20) - 9)
    expected = baseline_scores(data(), made)["frozen_cosine"][1]
    assert baseline_scores(data(), moved)["frozen_cosine"][1] == pytest.approx(expected, abs=1e-3)


def test_the_logistic_cosines_are_weighed_as_the_training_pairs_say():
    # Of one entity, images are alike and captions opposite: the mean of the cosines says nothing.
    made = features()
    made.image[1::2] = made.image[::2]
    made.text[1::2] = 0.7 - made.text[::2]
    found = aucs(data(), made)
    assert found["frozen_cosine"] < 0.7
    assert found["logistic_cosines"] > 0.99


@pytest.mark.parametrize(("text", "image"), [(True, False), (False, True)])
def test_a_modality_that_tells_nothing_has_little_weight_among_the_logistic_cosines(text, image):
    found = aucs(data(), features(text=text, image=image))
    assert found["logistic_cosines"] > found["frozen_cosine"]


def test_the_logistic_cosines_see_no_more_than_the_two_cosines():
    given, made = data(), features(text=True, image=True)
    # A multiple of a vector about the centre of the training items has the same cosines.
    items = items_of(2)
    farther = MeanFeatures(made.image.copy(), made.text.copy())
    for values in (farther.image, farther.text):
        centre = values[: 2 * ENTITIES].mean(0)
        values[items] = centre + 3 * (values[items] - centre)
    expected, found = (baseline_scores(given, f)["logistic_cosines"][1] for f in (made, farther))
    assert found == pytest.approx(expected, abs=1e-4)


def test_same_image_tells_near_identical_images_and_nothing_else():
    groups = np.arange(6 * ENTITIES)
    twins = items_of(2)[:10]
    groups[twins + 1] = groups[twins]
    given = data(groups=groups)
    of_valid, of_test = baseline_scores(given, features())["same_image"]
    assert (of_valid == 0).all()
    assert of_test[:10].tolist() == [1] * 10
    assert of_test.sum() == 10


def test_caption_tfidf_by_hand():
    captions = ["red car", "red boat", "blue car", "green bird", "red car bird"]
    rows = torch.tensor([[0, 0, 0, 1], [0, 1, 0, 2]])
    scored = torch.tensor([[0, 4, 0, 0], [0, 4, 0, 3], [0, 0, 0, 0]])
    # Of the three training captions two have "red" and two "car"; "bird" is none of their words.
    common = math.log(4 / 3) + 1
    rare = math.log(4 / 2) + 1
    of_valid, of_test = caption_tfidf(captions, rows, torch.tensor([[0, 0, 0, 1]]), scored)
    expected = common**2 / (math.sqrt(2 * common**2) * math.hypot(common, rare))
    assert of_valid == pytest.approx([expected])
    assert of_test == pytest.approx([1, 0, 1])


def test_caption_tfidf_takes_words_from_both_sides_and_not_the_images():
    captions = ["cat", "dog", "bird", "cow"]
    train = torch.tensor([[0, 0, 0, 1]])
    test = torch.tensor([[2, 0, 3, 0], [2, 1, 3, 1], [2, 2, 3, 2], [2, 0, 3, 1]])
    _, of_test = caption_tfidf(captions, train, test, test)
    # Words that no training caption has are not counted, even where both captions are equal.
    assert of_test == pytest.approx([1, 1, 0, 0])


def test_common_words_count_for_less_than_rare_ones_and_little_words_for_nothing():
    captions = ["grey cat", "grey dog", "grey bird", "the grey cow", "cat cow", "the dog"]
    train = torch.tensor([[0, 0, 0, 1], [0, 2, 0, 3]])
    test = torch.tensor([[0, 0, 0, 1], [0, 0, 0, 4], [0, 3, 0, 5]])
    _, of_test = caption_tfidf(captions, train, train, test)
    assert of_test[1] > of_test[0] > 0
    assert of_test[2] == 0


def test_mean_features_are_means_over_cells_and_over_each_texts_own_tokens():
    features = memory(5, 7)
    found = MeanFeatures.of(features)
    assert found.image == pytest.approx(features.grid.float().mean(1).numpy(), abs=1e-5)
    offsets = features.offsets.tolist()
    assert len({b - a for a, b in itertools.pairwise(offsets)}) > 1
    for text in range(7):
        own = features.tokens[offsets[text] : offsets[text + 1]].float()
        assert found.text[text] == pytest.approx(own.mean(0).numpy(), abs=1e-5)


def test_mean_features_of_more_rows_than_are_gathered_at_a_time_are_in_order():
    count = ROWS_AT_A_TIME + 10
    features = memory(count, count)
    found = MeanFeatures.of(features)
    assert found.image.shape == (count, 6)
    assert found.text.shape == (count, 5)
    assert found.image == pytest.approx(features.grid.float().mean(1).numpy(), abs=1e-5)
    last = features.tokens[features.offsets[-2] :].float().mean(0)
    assert found.text[-1] == pytest.approx(last.numpy(), abs=1e-5)
