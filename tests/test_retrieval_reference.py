import itertools

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import RR, Success

from mmsim.evaluation.bootstrap import Resampling
from mmsim.evaluation.retrieval import (
    CUTOFFS,
    Pool,
    chance_level,
    first_ranks,
    ranking_values,
    retrieval_figures,
    retrieval_ranks,
)
from mmsim.evaluation.summary import summarize_means

MEASURES = {f"recall_at_{k}": Success @ k for k in CUTOFFS} | {"mrr": RR}


def by_trec_eval(scores, relevant):
    """Each query's figures as trec_eval gives them, by way of ir_measures."""
    right = [ir_measures.Qrel(str(q), str(c), 1) for q, c in np.argwhere(relevant)]
    run = [
        ir_measures.ScoredDoc(str(q), str(c), float(score))
        for (q, c), score in np.ndenumerate(scores)
    ]
    found = {name: np.full(len(scores), np.nan) for name in MEASURES}
    names = {measure: name for name, measure in MEASURES.items()}
    for metric in ir_measures.iter_calc(list(MEASURES.values()), right, run):
        found[names[metric.measure]][int(metric.query_id)] = metric.value
    return found


def random_pool(seed, queries, candidates, share):
    """Scores without ties, and several relevant candidates for most queries, one at least."""
    rng = np.random.default_rng(seed)
    scores = rng.permutation(queries * candidates).reshape(queries, candidates).astype(float)
    relevant = rng.random((queries, candidates)) < share
    relevant[np.arange(queries), rng.integers(0, candidates, queries)] = True
    return scores, relevant


@given(st.integers(0, 999), st.integers(1, 20), st.integers(1, 40), st.sampled_from([0, 0.05, 0.3]))
@settings(max_examples=40, deadline=None)
def test_recall_and_mrr_of_each_query_are_those_of_trec_eval(seed, queries, candidates, share):
    scores, relevant = random_pool(seed, queries, candidates, share)
    found, expected = ranking_values(first_ranks(scores, relevant)), by_trec_eval(scores, relevant)
    assert set(found) == set(expected)
    for name, values in found.items():
        assert values == pytest.approx(expected[name])


def pool(relevant, own):
    images, texts = relevant.shape
    return Pool(
        np.arange(images), np.arange(texts), own, relevant, np.arange(images), np.arange(texts)
    )


def test_the_figures_of_each_direction_are_those_of_trec_eval():
    scores, relevant = random_pool(0, 25, 25, 0.1)
    own = np.eye(25, dtype=bool)
    relevant |= own
    seeds = [scores, random_pool(1, 25, 25, 0)[0]]
    made = pool(relevant, own)
    figures = retrieval_figures(retrieval_ranks(seeds, made), made, 50)
    expected = {
        "image_to_text": [by_trec_eval(s, relevant) for s in seeds],
        "text_to_image": [by_trec_eval(s.T, relevant.T) for s in seeds],
        "own_caption.image_to_text": [by_trec_eval(s, own) for s in seeds],
        "own_caption.text_to_image": [by_trec_eval(s.T, own.T) for s in seeds],
    }
    assert set(figures) == set(expected) | {f"{name}.chance" for name in expected}
    for direction, by_seed in expected.items():
        for name in MEASURES:
            mean = np.mean([values[name].mean() for values in by_seed])
            assert figures[direction][name] == pytest.approx(mean)
    # The two directions, and the two meanings of right, are not the same figures.
    assert len({figures[direction]["mrr"] for direction in expected}) == 4


def test_each_direction_draws_the_entities_of_its_own_queries():
    rng = np.random.default_rng(0)
    scores, own = rng.normal(size=(20, 30)), np.zeros((20, 30), dtype=bool)
    own[np.arange(20), np.arange(20)] = own[np.arange(10), 20 + np.arange(10)] = True
    of_images, of_texts = np.arange(20) // 2, np.arange(30) // 5
    made = Pool(np.arange(20), np.arange(30), own, own, of_images, of_texts)
    ranks = retrieval_ranks([scores], made)
    figures = retrieval_figures(ranks, made, 100)
    for name, clusters in (("image_to_text", of_images), ("text_to_image", of_texts)):
        expected = summarize_means(ranking_values(ranks[name]), Resampling(clusters, 100))
        assert figures[name] == pytest.approx(expected)
    # By lot: an image has one or two of 30 captions, a caption one of 20 images.
    assert figures["image_to_text.chance"] == pytest.approx(chance_level(own))
    assert figures["text_to_image.chance"] == pytest.approx(chance_level(own.T))
    assert figures["image_to_text.chance"] != figures["text_to_image.chance"]
    assert ranks["image_to_text"].shape == (1, 20)
    assert ranks["text_to_image"].shape == (1, 30)


@given(
    st.integers(1, 6).flatmap(
        lambda n: st.lists(st.integers(1, n), min_size=1, max_size=3).map(lambda right: (n, right))
    )
)
@settings(max_examples=30, deadline=None)
def test_the_chance_level_is_the_mean_over_all_orders_of_the_candidates(case):
    number, right = case
    relevant = np.arange(number) < np.array(right)[:, None]
    orders = -np.array(list(itertools.permutations(range(number))), dtype=float)
    expected = {}
    for row in relevant:
        ranks = first_ranks(orders, np.tile(row, (len(orders), 1)))
        for name, values in ranking_values(ranks).items():
            expected.setdefault(name, []).append(values.mean())
    found = chance_level(relevant)
    assert found == pytest.approx({name: np.mean(values) for name, values in expected.items()})


def test_the_chance_level_of_one_right_answer_in_n_by_hand():
    found = chance_level(np.eye(40, dtype=bool))
    assert found["recall_at_1"] == pytest.approx(1 / 40)
    assert found["recall_at_5"] == pytest.approx(5 / 40)
    assert found["recall_at_10"] == pytest.approx(10 / 40)
    assert found["mrr"] == pytest.approx(sum(1 / rank for rank in range(1, 41)) / 40)


def test_the_chance_level_of_a_large_pool_is_that_of_random_scores():
    rng = np.random.default_rng(0)
    relevant = rng.random((600, 1500)) < 0.004
    relevant[np.arange(600), np.arange(600)] = True
    found = chance_level(relevant)
    values = ranking_values(first_ranks(rng.normal(size=relevant.shape), relevant))
    for name, value in found.items():
        # Of a share the deviation is known; that of the reciprocal rank is taken from the values.
        error = values[name].std() if name == "mrr" else np.sqrt(value * (1 - value))
        assert value == pytest.approx(values[name].mean(), abs=4 * error / np.sqrt(600))
        assert 0 < value < 1


def test_where_everything_is_relevant_chance_is_certain():
    assert set(chance_level(np.ones((3, 4), dtype=bool)).values()) == {1.0}
