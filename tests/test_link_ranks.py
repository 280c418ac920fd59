import itertools

import ir_measures
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import RR, Success
from link_tables import NIL, mentions

from mmsim.evaluation.bootstrap import Resampling
from mmsim.evaluation.linking.lists import ABSENT, candidate_lists, mention_clusters
from mmsim.evaluation.linking.ranks import (
    CUTOFFS,
    chance_values,
    list_ranks,
    matrix_ranks,
    rank_values,
    value_figures,
)
from mmsim.training.link_scoring import ranks_among


def test_lists_hold_the_candidates_and_a_gold_that_is_not_among_them_in_a_column_of_its_own():
    table = mentions((3, [5, 3]), (4, [5, 6, 7]), (NIL, [1]), (2, []))
    assert candidate_lists(table).tolist() == [
        [5, 3, ABSENT, ABSENT],
        [5, 6, 7, 4],
        [1, ABSENT, ABSENT, ABSENT],
        [ABSENT, ABSENT, ABSENT, 2],
    ]
    assert candidate_lists(table).dtype == np.int64


def test_lists_of_a_release_without_candidates_hold_the_golds_alone():
    assert candidate_lists(mentions((3, []), (NIL, []))).tolist() == [[3], [ABSENT]]
    assert candidate_lists(mentions()).shape == (0, 1)


def test_defect_candidates_are_the_mentions_own():
    # Published code keeps candidates by gold entity, so that the last mention of it gives all
    # its mentions their list.
    table = mentions((0, [1, 2]), (0, [0, 3]), (0, [4]))
    assert candidate_lists(table).tolist() == [[1, 2, 0], [0, 3, -1], [4, -1, 0]]


def test_mentions_of_an_entity_are_a_cluster_and_each_nil_mention_is_one():
    found = mention_clusters(mentions((3, []), (NIL, []), (3, []), (NIL, []), (0, []), first=7))
    assert found.tolist() == [3, -2 - 8, 3, -2 - 10, 0]


def mean_rank_over_all_orders(scores, gold):
    """The place of candidate `gold`, over all orders that falling scores allow."""
    places = [
        1 + order.index(gold)
        for order in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    return np.mean(places)


# Few levels of score, so that ties are common.
levels = st.sampled_from([0.0, 0.5, 1.0])


@given(st.lists(levels, min_size=1, max_size=5), st.data())
@settings(max_examples=150, deadline=None)
def test_the_rank_is_the_mean_over_all_orders_of_tied_candidates(scores, data):
    gold = data.draw(st.integers(0, len(scores) - 1))
    lists = np.arange(len(scores))[None]
    found = list_ranks(np.array([scores]), lists, np.array([gold]))
    assert found.item() == pytest.approx(mean_rank_over_all_orders(scores, gold))


@st.composite
def ranked_lists(draw):
    """Lists with ties, padding, absent golds and NIL; entities are 0 to 7."""
    width = draw(st.integers(1, 6))
    rows = draw(st.integers(1, 6))
    lists = np.full((rows, width), ABSENT)
    for row in lists:
        own = draw(st.lists(st.integers(0, 7), max_size=width, unique=True))
        row[: len(own)] = own
    cells = draw(st.lists(levels, min_size=rows * width, max_size=rows * width))
    scores = np.where(lists >= 0, np.reshape(cells, lists.shape), -np.inf)
    gold = draw(st.lists(st.integers(NIL, 7), min_size=rows, max_size=rows))
    return scores, lists, np.array(gold)


@given(ranked_lists(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_neither_the_order_of_candidates_nor_that_of_mentions_plays_a_part(ranked, random):
    scores, lists, gold = ranked
    found = list_ranks(scores, lists, gold)
    columns, rows = list(range(lists.shape[1])), list(range(len(lists)))
    random.shuffle(columns)
    random.shuffle(rows)
    moved = list_ranks(scores[rows][:, columns], lists[rows][:, columns], gold[rows])
    assert moved.tolist() == found[rows].tolist()


@given(ranked_lists(), st.sampled_from([-np.inf, 0.5, 100.0, np.nan]))
@settings(max_examples=60, deadline=None)
def test_what_stands_at_padding_plays_no_part(ranked, anything):
    scores, lists, gold = ranked
    wider = np.pad(np.where(lists >= 0, scores, anything), ((0, 0), (0, 2)), constant_values=0.5)
    padded = np.pad(lists, ((0, 0), (0, 2)), constant_values=ABSENT)
    assert list_ranks(wider, padded, gold).tolist() == list_ranks(scores, lists, gold).tolist()


@given(ranked_lists())
@settings(max_examples=60, deadline=None)
def test_the_ranks_of_all_candidates_of_a_list_share_its_places(ranked):
    scores, lists, _ = ranked
    for row, listed in zip(scores, lists, strict=True):
        own = listed[listed >= 0]
        again = len(own), 1
        found = list_ranks(np.tile(row, again), np.tile(listed, again), own)
        assert found.sum() == len(own) * (len(own) + 1) / 2


@given(ranked_lists())
@settings(max_examples=60, deadline=None)
def test_a_gold_has_no_rank_where_it_is_not_in_the_list(ranked):
    scores, lists, gold = ranked
    there = [entity in listed and entity != NIL for entity, listed in zip(gold, lists, strict=True)]
    assert np.isfinite(list_ranks(scores, lists, gold)).tolist() == there


@given(ranked_lists())
@settings(max_examples=60, deadline=None)
def test_the_rule_is_that_of_the_ranks_that_training_is_stopped_by(ranked):
    expected = ranks_among(*(torch.from_numpy(part) for part in ranked))
    assert list_ranks(*ranked).tolist() == expected.tolist()


@given(st.integers(0, 99), st.integers(1, 6), st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_the_rank_in_the_pool_is_that_in_a_list_of_all_entities(seed, count, entities):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (count, entities)).astype(np.float32)
    gold = rng.integers(0, entities, count)
    lists = np.tile(np.arange(entities), (count, 1))
    assert matrix_ranks(scores, gold).tolist() == list_ranks(scores, lists, gold).tolist()


def by_trec_eval(scores, lists, gold):
    """Each mention's figures as trec_eval gives them, by way of ir_measures."""
    measures = {f"hits_at_{k}": Success @ k for k in CUTOFFS} | {"mrr": RR}
    right = [ir_measures.Qrel(str(row), str(entity), 1) for row, entity in enumerate(gold)]
    run = [
        ir_measures.ScoredDoc(str(row), str(lists[row, place]), float(scores[row, place]))
        for row, place in np.argwhere(lists >= 0)
    ]
    names = {measure: name for name, measure in measures.items()}
    found = {name: np.full(len(scores), np.nan) for name in measures}
    for metric in ir_measures.iter_calc(list(names), right, run):
        found[names[metric.measure]][int(metric.query_id)] = metric.value
    return found


@given(st.integers(0, 999), st.integers(1, 15), st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_without_ties_hits_and_mrr_of_each_mention_are_those_of_trec_eval(seed, count, width):
    rng = np.random.default_rng(seed)
    scores = rng.permutation(count * width).reshape(count, width).astype(float)
    lists = np.array([rng.permutation(width + 5)[:width] for _ in range(count)])
    # Some lists are short; some golds, of up to width + 4, are in none.
    lists[:, 1:][rng.random((count, width - 1)) < 0.2] = ABSENT
    gold = rng.integers(0, width + 5, count)
    found = rank_values(list_ranks(scores, lists, gold)[None])
    for name, expected in by_trec_eval(scores, lists, gold).items():
        assert found[name][0] == pytest.approx(expected), name


def test_values_of_ranks_by_hand():
    found = rank_values(np.array([[1.0, 1.5, 3.0, 20.0, 21.0, np.inf]]))
    assert {name: values[0].tolist() for name, values in found.items()} == {
        "hits_at_1": [1, 0, 0, 0, 0, 0],
        "hits_at_3": [1, 1, 1, 0, 0, 0],
        "hits_at_5": [1, 1, 1, 0, 0, 0],
        "hits_at_10": [1, 1, 1, 0, 0, 0],
        "hits_at_20": [1, 1, 1, 1, 0, 0],
        "mrr": [1, 1 / 1.5, 1 / 3, 1 / 20, 1 / 21, 0],
        "mean_rank": [1, 1.5, 3, 20, 21, np.inf],
        "candidate_recall": [1, 1, 1, 1, 1, 0],
    }


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused(wrong):
    # Nothing is higher than nan: such a gold would come first.
    scores = np.array([[1.0, wrong]])
    with pytest.raises(ValueError, match="not finite"):
        list_ranks(scores, np.array([[0, 1]]), np.array([1]))
    with pytest.raises(ValueError, match="not finite"):
        matrix_ranks(scores, np.array([1]))


def test_scores_of_other_lists_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 3\).*\(1, 2\)"):
        list_ranks(np.zeros((1, 3)), np.array([[0, 1]]), np.array([1]))


def test_figures_are_means_over_mentions_and_seeds_with_their_spread():
    ranks = np.array([[1.0, 2.0, np.inf, 4.0], [1.0, 1.0, np.inf, 5.0]])
    figures = value_figures(rank_values(ranks), Resampling(np.array([0, 1, 2, 3]), 200))
    assert figures["hits_at_1"] == pytest.approx((1 / 4 + 2 / 4) / 2)
    assert figures["hits_at_1_std"] == pytest.approx(np.std([1 / 4, 2 / 4], ddof=1))
    assert figures["mrr"] == pytest.approx(((1 + 1 / 2 + 1 / 4) / 4 + (1 + 1 + 1 / 5) / 4) / 2)
    assert figures["hits_at_1_low"] < figures["hits_at_1"] < figures["hits_at_1_high"]


def test_the_mean_rank_is_of_the_mentions_whose_gold_is_in_the_list():
    ranks = np.array([[1.0, np.inf, 4.0], [2.0, np.inf, 4.0]])
    figures = value_figures(rank_values(ranks), Resampling(np.array([0, 1, 2]), 200))
    assert figures["mean_rank"] == pytest.approx((2.5 + 3) / 2)
    assert figures["candidate_recall"] == pytest.approx(2 / 3)
    assert 1 <= figures["mean_rank_low"] <= figures["mean_rank_high"] <= 4


def test_a_mention_without_a_value_in_one_seed_is_left_out_in_all():
    ranks = np.array([[1.0, np.inf, 4.0], [2.0, 9.0, 4.0]])
    figures = value_figures(rank_values(ranks), Resampling(np.arange(3), 50), ("mean_rank",))
    assert figures["mean_rank"] == pytest.approx((2.5 + 3) / 2)


def test_figures_of_no_mention_are_left_out():
    nothing = value_figures(rank_values(np.zeros((2, 0))), Resampling(np.zeros(0, np.int64), 50))
    assert nothing == {}
    missed = value_figures(rank_values(np.full((1, 3), np.inf)), Resampling(np.arange(3), 50))
    assert missed["hits_at_20"] == missed["mrr"] == missed["candidate_recall"] == 0
    assert not any(name.startswith("mean_rank") for name in missed)


@given(st.integers(1, 6), st.booleans())
@settings(max_examples=20, deadline=None)
def test_chance_is_the_mean_over_all_orders(size, listed):
    found = chance_values(np.array([size]), np.array([listed]))
    places = np.arange(1.0, size + 1) if listed else np.full(size, np.inf)
    expected = rank_values(places[None])
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name].shape == (1, 1)
        assert found[name].item() == pytest.approx(values.mean()), name


def test_scores_by_lot_reach_chance():
    rng = np.random.default_rng(0)
    lists = np.array([[4, 2, 7, -1], [1, 3, -1, -1], [5, 6, 0, 2], [0, 1, 2, 3], [-1] * 4])
    gold = np.array([7, 1, 2, 9, NIL])
    ranks = np.array([list_ranks(rng.random(lists.shape), lists, gold) for _ in range(4000)])
    right = (lists == gold[:, None]) & (lists >= 0)
    expected = chance_values((lists >= 0).sum(1), right.any(1))
    for name, values in rank_values(ranks).items():
        assert values.mean(0) == pytest.approx(expected[name][0], abs=0.05), name
