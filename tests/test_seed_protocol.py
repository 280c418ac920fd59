from collections import Counter
from math import comb

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.data.seed_protocol import seed_pairs

NIL = -1


def mentions(entities, images=None, index=None):
    """Mentions of these entities; each has a caption of its own, and by default an image."""
    count = len(entities)
    table = pd.DataFrame(
        {
            "image": range(count) if images is None else images,
            "text": range(100, 100 + count),
            "entity": entities,
        }
    )
    return table if index is None else table.set_index(pd.Index(index))


def drawn(table, cap=100, seed=0):
    return seed_pairs(table, cap, np.random.default_rng(seed))


def by_label(pairs):
    return pairs[pairs["label"] == 1], pairs[pairs["label"] == 0]


def entities_of(pairs, side, table):
    """The entities of the mentions on one side, found by their caption."""
    return table.set_index("text")["entity"].loc[pairs[f"{side}_text"]].tolist()


many = st.lists(st.integers(NIL, 4), max_size=25)


@given(many, st.integers(1, 12), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_each_entity_has_all_pairs_of_its_mentions_or_as_many_as_the_cap_says(entities, cap, seed):
    table = mentions(entities)
    positives, _ = by_label(drawn(table, cap, seed))
    expected = {entity: min(cap, comb(n, 2)) for entity, n in Counter(entities).items() if n > 1}
    assert Counter(entities_of(positives, "query", table)) == expected
    assert entities_of(positives, "query", table) == entities_of(positives, "candidate", table)
    pairs = [frozenset(p) for p in positives[["query_text", "candidate_text"]].to_numpy().tolist()]
    assert len(set(pairs)) == len(pairs)
    assert all(len(pair) == 2 for pair in pairs)


@given(many, st.integers(1, 12), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_there_are_as_many_negatives_as_positives_and_each_is_of_two_entities(entities, cap, seed):
    table = mentions(entities)
    positives, negatives = by_label(drawn(table, cap, seed))
    several = [entity for entity, n in Counter(entities).items() if n > 1]
    assert len(negatives) == (len(positives) if len(several) > 1 else 0)
    query, candidate = (entities_of(negatives, side, table) for side in ("query", "candidate"))
    assert all(a != b for a, b in zip(query, candidate, strict=True))
    # Entities of one mention have no positive, and no part in negatives.
    assert set(query) | set(candidate) <= set(several)


@given(many, st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_every_row_tells_of_its_mentions_what_the_table_says(entities, seed):
    # Rows of a split keep the numbers that they have in the whole table.
    table = mentions(entities, index=range(7, 7 + 3 * len(entities), 3))
    pairs = drawn(table, 5, seed)
    assert pairs["pair"].tolist() == list(range(len(pairs)))
    assert pairs["label"].is_monotonic_decreasing
    assert pairs["entity"].tolist() == entities_of(pairs, "query", table)
    for side in ("query", "candidate"):
        assert (pairs[f"{side}_image"] == pairs[f"{side}_text"] - 100).all()
        gold = [[e] if e != NIL else [] for e in entities_of(pairs, side, table)]
        assert pairs[f"{side}_gold"].tolist() == gold
    assert (pairs["form"] == "").all()
    assert set(zip(pairs["label"], pairs["tier"], strict=True)) <= {
        (1, "same_entity"),
        (0, "random"),
    }
    assert (pairs["contrast"] == "same_entity").all()


def test_nil_is_an_entity_like_any_other():
    table = mentions([NIL] * 4 + [0] * 3)
    positives, negatives = by_label(drawn(table))
    assert Counter(entities_of(positives, "query", table)) == {NIL: comb(4, 2), 0: comb(3, 2)}
    query, candidate = (entities_of(negatives, side, table) for side in ("query", "candidate"))
    assert {frozenset(pair) for pair in zip(query, candidate, strict=True)} == {frozenset([NIL, 0])}


def test_the_two_mentions_of_a_pair_may_share_their_image():
    images = [0, 0, 1, 0, 1, 1]
    positives, negatives = by_label(drawn(mentions([0, 0, 0, 1, 1, 1], images)))
    for pairs in (positives, negatives):
        assert (pairs["query_image"] == pairs["candidate_image"]).any()


def test_entities_of_negatives_are_drawn_evenly_and_not_by_their_frequency():
    # 100 positives of each of three frequent entities, and one of each of three rare ones.
    entities = [e for e in range(3) for _ in range(40)] + [e for e in range(3, 6) for _ in range(2)]
    table = mentions(entities)
    positives, negatives = by_label(drawn(table, cap=100))
    assert len(positives) == len(negatives) == 303
    rare = [np.mean(np.array(entities_of(p, "query", table)) >= 3) for p in (positives, negatives)]
    assert rare[0] < 0.02
    assert 0.4 < rare[1] < 0.6


def test_the_same_seed_draws_the_same_pairs_and_another_seed_others():
    table = mentions([e for e in range(4) for _ in range(8)])
    first, again, other = (drawn(table, 10, seed) for seed in (0, 0, 1))
    assert first.equals(again)
    for of_first, of_other in zip(by_label(first), by_label(other), strict=True):
        chosen = ["query_text", "candidate_text"]
        assert of_first[chosen].to_numpy().tolist() != of_other[chosen].to_numpy().tolist()


def test_mentions_of_one_entity_have_no_negative_and_the_draw_ends():
    assert drawn(mentions([3] * 4))["label"].tolist() == [1] * comb(4, 2)
    # Entities of one mention make no second one.
    assert drawn(mentions([3] * 4 + [4, 5, NIL]))["label"].tolist() == [1] * comb(4, 2)


def test_no_mention_or_only_single_ones_give_no_pair():
    assert len(drawn(mentions([]))) == len(drawn(mentions([0, 1, NIL]))) == 0
