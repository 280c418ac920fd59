import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import ATTENTIONS, data, head, memory, own_and_next, pairs, same_and_other

from mmsim.evaluation.baselines import caption_tfidf
from mmsim.evaluation.evaluate import evaluate
from mmsim.evaluation.metrics import best_threshold, classification_metrics, over_seeds
from mmsim.evaluation.retrieval import (
    chance_level,
    first_ranks,
    ranking_values,
    retrieval_pool,
    retrieval_ranks,
)
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


@given(rankings)
@settings(max_examples=200, deadline=None)
def test_the_rank_is_the_mean_over_all_orders_of_tied_candidates(row):
    scores, relevant = (np.array([column]) for column in zip(*row, strict=True))
    expected = np.mean([first_relevant(order) for order in orders(row)])
    assert first_ranks(scores, relevant).item() == pytest.approx(expected)


def test_ranks_by_hand():
    scores = np.array([[3.0, 2.0, 2.0, 2.0, 1.0]] * 4)
    relevant = np.array(
        [[1, 0, 0, 0, 1], [0, 1, 0, 0, 0], [0, 1, 1, 0, 1], [0, 1, 1, 1, 0]], dtype=bool
    )
    # The best relevant candidate counts; with it are tied: none, two that are irrelevant and no
    # other relevant one, one and one, and two relevant ones alone.
    assert first_ranks(scores, relevant).tolist() == [1, 2 + 2 / 2, 2 + 1 / 3, 2]


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


def means(values):
    return {name: value.mean() for name, value in values.items()}


def test_ranking_figures_by_hand():
    values = ranking_values(np.array([1.0, 2.0, 5.0, 5.5, 10.0, 11.0]))
    assert {name: value.tolist() for name, value in values.items()} == {
        "recall_at_1": [1, 0, 0, 0, 0, 0],
        "recall_at_5": [1, 1, 1, 0, 0, 0],
        "recall_at_10": [1, 1, 1, 1, 1, 0],
        "mrr": [1, 1 / 2, 1 / 5, 1 / 5.5, 1 / 10, 1 / 11],
    }


def test_a_constant_score_gains_nothing():
    figures = means(ranking_values(first_ranks(np.zeros((40, 40)), np.eye(40, dtype=bool))))
    assert figures == pytest.approx(
        {"recall_at_1": 0, "recall_at_5": 0, "recall_at_10": 0, "mrr": 1 / 20.5}
    )


relevances = st.integers(1, 6).flatmap(
    lambda width: st.lists(
        st.lists(st.booleans(), min_size=width, max_size=width).filter(any), min_size=1, max_size=3
    )
)


@given(relevances)
@settings(max_examples=60, deadline=None)
def test_the_chance_level_is_the_mean_over_all_rankings(rows):
    relevant = np.array(rows)
    ranks = [
        [first_relevant([(0, r) for r in order]) for order in itertools.permutations(row)]
        for row in rows
    ]
    expected = means(ranking_values(np.array(ranks, dtype=np.float64)))
    assert chance_level(relevant) == pytest.approx(expected)


def test_the_chance_level_of_a_large_pool_with_one_right_answer_is_exact():
    found = chance_level(np.eye(3000, dtype=bool))
    harmonic = sum(1 / place for place in range(1, 3001))
    expected = {f"recall_at_{k}": k / 3000 for k in (1, 5, 10)} | {"mrr": harmonic / 3000}
    assert found == pytest.approx(expected, rel=1e-6)


def test_scores_by_lot_reach_the_chance_level():
    rng = np.random.default_rng(0)
    relevant = rng.random((30, 40)) < 0.1
    relevant[:, 0] = True
    ranks = [first_ranks(rng.random((30, 40)), relevant) for _ in range(300)]
    found, expected = means(ranking_values(np.array(ranks))), chance_level(relevant)
    assert found == pytest.approx(expected, abs=0.02)
    assert 0.1 < expected["recall_at_1"] < expected["recall_at_5"] < expected["recall_at_10"] < 1


def scalars(figures):
    for value in figures.values():
        yield from scalars(value) if isinstance(value, dict) else [value]


FIGURES = {"accuracy", "precision", "recall", "f1", "auc", "average_precision"}
RANKING = {"recall_at_1", "recall_at_5", "recall_at_10", "mrr"}
DIRECTIONS = {"image_to_text", "text_to_image"}
SECTIONS = {
    "test",
    "valid",
    "tiers",
    "baselines",
    "controls",
    "emap",
    "slices",
    "ambiguity",
    "calibration",
    "counts",
}


def with_sides(names, seeds=2):
    sides = ("", "_low", "_high") if seeds == 1 else ("", "_std", "_low", "_high")
    return {f"{name}{side}" for name in names for side in sides}


def heads(attention="base", task="match"):
    return {seed: head(attention, task, seed) for seed in (0, 1)}


def run(models, features, splits, **settings):
    return evaluate(models, features, splits, **({"draws": 100} | settings))


def match_splits():
    """Eight captioned images in each split; in test a second tier and one of hard negatives."""
    own = own_and_next(8, first=16)
    second = [[16, 16, 17, 17], [18, 18, 19, 19], [16, 16, 20, 20], [18, 18, 21, 21]]
    hard = [[17, 17, 22, 22], [19, 19, 23, 23]]
    tiers = ["same_entity"] * 2 + ["random"] * 2 + ["lexical"] * 2
    test = pairs(
        np.concatenate([own.rows.numpy(), second, hard]),
        [1] * 8 + [0] * 8 + [1, 1, 0, 0] + [0, 0],
        tiers=["own_caption"] * 8 + ["random"] * 8 + tiers,
        contrasts=["own_caption"] * 16 + ["same_entity"] * 4 + ["own_caption"] * 2,
    )
    return data("match", own_and_next(8), own_and_next(8, first=8), test)


def pair_splits():
    return data("pair", *[same_and_other(8)] * 3)


def with_test(test):
    return data("match", own_and_next(8), own_and_next(8, first=8), test)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_metrics_of_matching_have_these_names(attention):
    metrics = run(heads(attention), memory(24, 24), match_splits()).metrics
    assert set(metrics) == SECTIONS | {"retrieval"}
    assert set(metrics["valid"]) == set(metrics["test"]) == with_sides(FIGURES)
    assert set(metrics["tiers"]) == {"own_caption", "same_entity", "lexical"}
    for tier in metrics["tiers"].values():
        assert set(tier) == {"pairs"} | with_sides({"accuracy", "auc"})
    for baseline in metrics["baselines"].values():
        # A rule without training has no seeds.
        assert set(baseline) == with_sides(FIGURES, seeds=1)
    found = metrics["retrieval"]
    assert set(found) == DIRECTIONS | {"own_caption", "pool_images", "pool_texts"}
    assert set(found["own_caption"]) == DIRECTIONS
    for place in (found, found["own_caption"]):
        for direction in DIRECTIONS:
            assert set(place[direction]) == with_sides(RANKING) | {"chance"}
            assert set(place[direction]["chance"]) == RANKING


def test_the_metrics_of_pairs_have_no_retrieval():
    found = run(heads(task="pair"), memory(16, 16), pair_splits())
    assert set(found.metrics) == SECTIONS
    # One tier of positives alone is what the main figures are of.
    assert found.metrics["tiers"] == {}
    assert len(found.ranks) == 0


def test_without_pairs_for_it_the_projection_is_left_out():
    metrics = run(heads(), memory(24, 24), match_splits(), emap_pairs=0).metrics
    assert set(metrics) == (SECTIONS | {"retrieval"}) - {"emap"}
    metrics = run(heads(task="pair"), memory(16, 16), pair_splits(), emap_pairs=0).metrics
    assert set(metrics) == SECTIONS - {"emap"}


@pytest.mark.parametrize("task", ["match", "pair"])
def test_every_metric_is_a_finite_plain_number(task):
    splits = match_splits() if task == "match" else pair_splits()
    metrics = run(heads(task=task), memory(24, 24), splits).metrics
    values = list(scalars(metrics))
    assert all(type(value) in (int, float) for value in values)
    assert all(math.isfinite(value) for value in values)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_counts_say_what_was_measured():
    models = heads()
    metrics = run(models, memory(24, 24), match_splits()).metrics
    parameters = sum(p.numel() for p in models[0].parameters())
    # The two hard negatives are counted with their tier.
    assert metrics["counts"] == {
        "valid_pairs": 16,
        "test_pairs": 20,
        "test_entities": 8,
        "seeds": 2,
        "parameters": parameters,
    }
    assert metrics["retrieval"]["pool_images"] == metrics["retrieval"]["pool_texts"] == 8
    assert {name: tier["pairs"] for name, tier in metrics["tiers"].items()} == {
        "own_caption": 16,
        "same_entity": 4,
        "lexical": 4,
    }


def test_predictions_hold_each_pair_of_valid_and_test_for_each_seed():
    models, features, splits = heads(), memory(24, 24), match_splits()
    found = run(models, features, splits).predictions
    assert found.groupby(["split", "seed"]).size().to_dict() == {
        ("valid", 0): 16,
        ("valid", 1): 16,
        ("test", 0): 22,
        ("test", 1): 22,
    }
    of_seed = found[(found["split"] == "test") & (found["seed"] == 1)]
    assert of_seed["pair"].tolist() == list(range(22))
    assert of_seed["label"].tolist() == splits.test.labels.int().tolist()
    assert of_seed["tier"].tolist() == splits.test.table["tier"].tolist()
    assert (of_seed["score"].to_numpy() == score_pairs(models[1], features, splits.test.rows)).all()


def test_the_threshold_is_that_of_the_validation_pairs():
    model, features = head(), memory(16, 16)
    valid = own_and_next(8)
    # The same pairs, with opposite labels: what suits validation suits test worst.
    test = pairs(valid.rows, [int(1 - label) for label in valid.labels])
    scores = score_pairs(model, features, valid.rows)
    right, wrong = (best_threshold(scores, split.labels.numpy()) for split in (valid, test))
    assert ((scores >= right) != (scores >= wrong)).any()

    found = run({0: model}, features, data("match", valid, valid, test))
    for split in ("valid", "test"):
        called = found.predictions.loc[found.predictions["split"] == split, "called"]
        assert (called.to_numpy() == (scores >= right)).all()
    accuracies = found.metrics["valid"]["accuracy"] + found.metrics["test"]["accuracy"]
    assert accuracies == pytest.approx(1)


def threshold_of(model, features, valid):
    return best_threshold(
        score_pairs(model, features, valid.rows), valid.labels.numpy().astype(int)
    )


def test_test_figures_are_means_over_seeds_each_with_its_own_threshold():
    models, features, splits = heads(), memory(24, 24), match_splits()
    expected = []
    for model in models.values():
        # Without the hard negatives, which are the last two.
        scores = score_pairs(model, features, splits.test.rows)[:20]
        labels = splits.test.labels.numpy().astype(int)[:20]
        threshold = threshold_of(model, features, splits.valid)
        expected.append(classification_metrics(scores, labels, threshold))
    found = run(models, features, splits).metrics["test"]
    assert {name: found[name] for name in over_seeds(expected)} == pytest.approx(
        over_seeds(expected)
    )
    for name in FIGURES:
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]


def test_a_tier_of_positives_is_measured_with_the_negatives_of_its_contrast():
    model, features, splits = head(), memory(24, 24), match_splits()
    metrics = run({0: model}, features, splits).metrics
    threshold = threshold_of(model, features, splits.valid)
    scores = score_pairs(model, features, splits.test.rows)
    labels = splits.test.labels.numpy().astype(int)
    for tier, rows in (("own_caption", slice(0, 16)), ("same_entity", slice(16, 20))):
        expected = classification_metrics(scores[rows], labels[rows], threshold)
        found = metrics["tiers"][tier]
        assert (found["accuracy"], found["auc"]) == pytest.approx(
            (expected["accuracy"], expected["auc"])
        )


def test_hard_negatives_are_measured_with_the_positives_of_their_queries():
    model, features, splits = head(), memory(24, 24), match_splits()
    metrics = run({0: model}, features, splits).metrics
    threshold = threshold_of(model, features, splits.valid)
    scores = score_pairs(model, features, splits.test.rows)
    labels = splits.test.labels.numpy().astype(int)
    # Own captions of images 17 and 19, and the two negatives.
    rows = [1, 3, 20, 21]
    expected = classification_metrics(scores[rows], labels[rows], threshold)
    found = metrics["tiers"]["lexical"]
    assert (found["pairs"], found["accuracy"], found["auc"]) == pytest.approx(
        (4, expected["accuracy"], expected["auc"])
    )


def test_the_tiers_of_pairs_show_what_word_overlap_scores_there():
    train = same_and_other(8)
    test = pairs(
        np.concatenate([train.rows.numpy(), [[0, 0, 5, 5], [2, 2, 7, 7]]]),
        [1] * 8 + [0] * 10,
        {row: [row // 2] for row in range(16)},
        ["same_entity"] * 8 + ["random"] * 8 + ["lexical"] * 2,
        "same_entity",
    )
    given = data("pair", train, train, test)
    captions = given.texts.sort_values("text")["content"].tolist()
    _, overlap = caption_tfidf(captions, train.rows, train.rows, test.rows)
    rows = [0, 1, 16, 17]
    expected = classification_metrics(overlap[rows], np.array([1, 1, 0, 0]), 0.5)["auc"]
    found = run({0: head(task="pair")}, memory(16, 16), given).metrics["tiers"]
    assert found["lexical"]["caption_tfidf_auc"] == expected
    of_matches = run({0: head()}, memory(24, 24), match_splits()).metrics["tiers"]
    assert all("caption_tfidf_auc" not in tier for tier in of_matches.values())


def test_a_tier_without_negatives_is_not_measured():
    own = own_and_next(8)
    test = pairs(
        np.concatenate([own.rows.numpy(), [[2, 2, 5, 5]]]),
        [1] * 8 + [0] * 8 + [1],
        tiers=["own_caption"] * 8 + ["random"] * 8 + ["same_entity"],
        contrasts=["own_caption"] * 16 + ["same_entity"],
    )
    metrics = run({0: head()}, memory(16, 16), with_test(test)).metrics
    assert set(metrics["tiers"]) == {"own_caption"}
    assert all(math.isfinite(value) for value in scalars(metrics))


def several_captions():
    """Images 0, 2 and 3; image 0 has captions 0 and 1, and captions 1 and 2 share entity 7."""
    rows = [[0, 0, 0, 0], [0, 1, 0, 1], [2, 2, 2, 2], [3, 3, 3, 3]]
    test = pairs([*rows, [0, 0, 2, 2], [2, 2, 3, 3]], [1, 1, 1, 1, 0, 0])
    gold = [[5], [7], [2, 7], []]
    test.table["query_gold"] = [*gold, [5], [2, 7]]
    test.table["candidate_gold"] = [*gold, [2, 7], []]
    test.table["entity"] = [5, 7, 2, -1, 5, 2]
    return test


OWN = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=bool)
RELEVANT = np.array([[1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]], dtype=bool)


def test_the_pool_knows_own_captions_and_those_that_share_an_entity():
    pool = retrieval_pool(several_captions().table)
    assert (pool.images.tolist(), pool.texts.tolist()) == ([0, 2, 3], [0, 1, 2, 3])
    assert (pool.own == OWN).all()
    assert (pool.relevant == RELEVANT).all()
    # Without an entity each is a cluster of its own.
    assert pool.image_clusters[0] in (5, 7)
    assert pool.image_clusters[1] == 2 and pool.image_clusters[2] < 0
    assert pool.text_clusters.tolist()[:3] == [5, 7, 2] and pool.text_clusters[3] < 0


def test_captions_without_an_entity_are_right_for_their_own_image_alone():
    rows = [[number] * 4 for number in range(3)]
    test = pairs(rows, [1, 1, 1], gold={number: [] for number in range(3)})
    test.table["entity"] = -1
    pool = retrieval_pool(test.table)
    assert (pool.relevant == np.eye(3, dtype=bool)).all()
    assert len(set(pool.image_clusters)) == len(set(pool.text_clusters)) == 3


def test_captions_that_share_an_entity_are_right_and_beside_them_own_captions_alone():
    model, features, test = head("cross"), memory(16, 16), several_captions()
    splits = with_test(test)
    metrics = run({0: model}, features, splits).metrics["retrieval"]
    assert (metrics["pool_images"], metrics["pool_texts"]) == (3, 4)
    scores = score_matrix(model, features, torch.tensor([0, 2, 3]), torch.arange(4))
    for place, right in ((metrics, RELEVANT), (metrics["own_caption"], OWN)):
        for direction, s, r in (
            ("image_to_text", scores, right),
            ("text_to_image", scores.T, right.T),
        ):
            expected = means(ranking_values(first_ranks(s, r)))
            found = place[direction]
            assert {name: found[name] for name in RANKING} == pytest.approx(expected)
            assert found["chance"] == pytest.approx(chance_level(r))


def test_ranks_hold_each_query_of_each_direction_for_each_seed():
    models, features = heads(), memory(16, 16)
    splits = with_test(several_captions())
    found = run(models, features, splits).ranks
    pool = retrieval_pool(splits.test.table)
    images, texts = torch.from_numpy(pool.images), torch.from_numpy(pool.texts)
    scores = [score_matrix(model, features, images, texts) for model in models.values()]
    expected = retrieval_ranks(scores, pool)
    for direction, queries in (("image_to_text", pool.images), ("text_to_image", pool.texts)):
        for number, seed in enumerate(models):
            rows = found[(found["direction"] == direction) & (found["seed"] == seed)]
            assert rows["query"].tolist() == queries.tolist()
            assert rows["rank"].tolist() == expected[direction][number].tolist()
    assert len(found) == 2 * (3 + 4)


def test_curves_and_confusion_cover_the_test_pairs():
    found = run(heads(), memory(24, 24), match_splits())
    assert set(found.curves) == {"roc", "precision_recall", "confusion", "reliability"}
    assert len(found.curves["confusion"]) == 2 * 20
    assert (found.curves["confusion"]["actual"] == "match").sum() == 2 * 10
    assert found.curves["reliability"]["pairs"].sum() == 2 * 20
