import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linking import IMAGE_DIM, TEXT_DIM, link_config
from synthetic import memory
from torch import nn

from mmsim.models.link_heads import LINK_HEADS, build_link_head
from mmsim.training import link_scoring
from mmsim.training.link_scoring import (
    entity_index,
    pool_ranks,
    ranks_among,
    retrieve,
    score_lists,
)
from mmsim.training.memory import FeatureMemory
from mmsim.training.mentions import ABSENT, Items, LinkData, Mentions

MENTIONS, ENTITIES = 19, 13
EXACT = {"siamese": True, "mimic": False, "m3el": False, "dwe": True}
RESCORED = [name for name, exact in EXACT.items() if not exact]


def rows_of(count, rng, absent):
    """Row numbers among twelve, some of them `ABSENT` if need be."""
    rows = torch.from_numpy(rng.integers(0, 12, count))
    rows[torch.from_numpy(rng.random(count) < absent)] = ABSENT
    return rows


def world(seed=0):
    """Mentions and entities with features by lot; the mentions 4 and 11 are NIL."""
    rng = np.random.default_rng(seed)
    shares = {"text": 0, "image": 0.3, "name": 0, "objects": 0.4, "scene": 0.4}
    of_mentions = Items(**{name: rows_of(MENTIONS, rng, share) for name, share in shares.items()})
    gold = torch.from_numpy(rng.integers(0, ENTITIES, MENTIONS))
    gold[[4, 11]] = ABSENT
    lists = torch.from_numpy(np.array([rng.permutation(ENTITIES)[:5] for _ in range(MENTIONS)]))
    for row, length in enumerate(rng.integers(0, 6, MENTIONS)):
        lists[row, length:] = ABSENT
    none = torch.full((ENTITIES,), ABSENT)
    images = rows_of(ENTITIES, rng, 0.3)
    of_entities = Items(12 + torch.arange(ENTITIES), images, none, none, none)
    found = memory(12, 12 + ENTITIES, seed, IMAGE_DIM, TEXT_DIM)
    mentions = Mentions(of_mentions, gold, lists, pd.DataFrame())
    return LinkData({"test": mentions}, of_entities, pd.DataFrame(), found, 512), mentions


def head(name, seed=0):
    torch.manual_seed(seed)
    return build_link_head(link_config(name))


@torch.no_grad()
def one_by_one(model, data, mentions):
    """Scores and global scores of each mention with each entity, each pair by itself."""
    model.eval()
    full = np.empty((len(mentions), len(data.entities)))
    broad = np.empty_like(full)
    entities = [
        model.encode_entities(data.entity_features(torch.tensor([row])))
        for row in range(len(data.entities))
    ]
    for row in range(len(mentions)):
        items = data.mention_features(mentions, torch.tensor([row]))
        mention = model.encode_mentions(items)
        for column, entity in enumerate(entities):
            full[row, column] = model.score(mention, entity).item()
            vectors = model.global_vectors(mention)[0], model.global_vectors(entity)[0]
            broad[row, column] = (vectors[0] @ vectors[1]).item()
    return full, broad


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize("name", LINK_HEADS)
def test_scores_of_lists_are_those_of_each_pair_by_itself(monkeypatch, name, block):
    monkeypatch.setattr(link_scoring, "BLOCK_MENTIONS", block)
    (data, mentions), model = world(), head(name)
    expected, _ = one_by_one(model, data, mentions)
    lists = mentions.candidates.clone()
    lists[0] = torch.tensor([2, ABSENT, 2, 5, ABSENT])  # padding may stand anywhere
    scores = score_lists(model, data, mentions, lists)
    assert scores.dtype == torch.float32
    assert scores.shape == lists.shape
    for row, listed in enumerate(lists.tolist()):
        for place, entity in enumerate(listed):
            found = scores[row, place].item()
            if entity == ABSENT:
                assert found == -np.inf
            else:
                assert found == pytest.approx(expected[row, entity], abs=1e-5)
    assert (lists == ABSENT).all(1).any() and (lists != ABSENT).all(1).any()


def test_scores_are_without_dropout_and_without_gradients():
    data, mentions = world()
    torch.manual_seed(0)
    model = build_link_head(link_config("mimic", dropout=0.5)).train()
    first, second = (score_lists(model, data, mentions, mentions.candidates) for _ in range(2))
    assert torch.equal(first, second)
    assert not model.training and not first.requires_grad
    index = entity_index(model.train(), data)
    assert torch.equal(index, entity_index(model, data))
    ranks = [pool_ranks(model.train(), data, mentions, index, 4)[0] for _ in range(2)]
    assert (ranks[0] == ranks[1]).all()


@pytest.mark.parametrize("block", [1, 5, 1000])
@pytest.mark.parametrize("name", LINK_HEADS)
def test_the_index_holds_the_global_vector_of_each_entity(monkeypatch, name, block):
    monkeypatch.setattr(link_scoring, "BLOCK_ENTITIES", block)
    (data, _), model = world(), head(name)
    index = entity_index(model, data)
    assert len(index) == ENTITIES
    with torch.no_grad():
        for row in range(ENTITIES):
            encoded = model.encode_entities(data.entity_features(torch.tensor([row])))
            expected = model.global_vectors(encoded)[0]
            torch.testing.assert_close(index[row], expected, rtol=1e-4, atol=1e-5)


def rank_by_hand(gold, broad, full, count):
    """Rank of the gold: the `count` best of `broad` by `full`, then the others by `broad`."""
    order = np.argsort(-broad, kind="stable")
    first, rest = order[:count], order[count:]
    place, scores, before = (first, full, 0) if gold in first else (rest, broad, len(first))
    higher = sum(scores[other] > scores[gold] for other in place)
    same = sum(scores[other] == scores[gold] for other in place if other != gold)
    return before + 1 + higher + same / 2, gold in first


@pytest.mark.parametrize("rerank", [1, 4, ENTITIES - 1, ENTITIES, 100])
@pytest.mark.parametrize("name", LINK_HEADS)
def test_ranks_in_the_pool_are_those_of_the_rule(monkeypatch, name, rerank):
    monkeypatch.setattr(link_scoring, "BLOCK_MENTIONS", 6)
    (data, mentions), model = world(), head(name)
    assert model.exact_global == EXACT[name]
    full, broad = one_by_one(model, data, mentions)
    ranks, retrieved = pool_ranks(model, data, mentions, entity_index(model, data), rerank)
    linked = [row for row in range(MENTIONS) if mentions.gold[row] != ABSENT]
    # Where the global score is the full one, all are scored in full.
    depth, full = (ENTITIES, broad) if EXACT[name] else (rerank, full)
    expected = [
        rank_by_hand(int(mentions.gold[row]), broad[row], full[row], depth) for row in linked
    ]
    assert ranks.dtype == np.float64 and retrieved.dtype == np.bool_
    assert list(zip(ranks.tolist(), retrieved.tolist(), strict=True)) == expected
    # What was not scored in full comes behind all that was.
    assert (ranks[~retrieved] > depth).all() and (ranks[retrieved] <= depth).all()
    assert retrieved.all() if depth >= ENTITIES else depth > 4 or not retrieved.all()


@pytest.mark.parametrize("name", LINK_HEADS)
def test_with_all_entities_scored_in_full_it_is_the_rank_by_the_full_score(name):
    (data, mentions), model = world(), head(name)
    ranks, _ = pool_ranks(model, data, mentions, entity_index(model, data), ENTITIES)
    linked = mentions.gold != ABSENT
    everything = torch.arange(ENTITIES).expand(MENTIONS, -1)
    scores = score_lists(model, data, mentions, everything)
    assert ranks.tolist() == ranks_among(scores, everything, mentions.gold)[linked].tolist()


@pytest.mark.parametrize("name", RESCORED)
def test_the_heads_that_are_scored_twice_are_not_ranked_alike_both_times(name):
    """Or the tests above could not tell which score ranks."""
    (data, mentions), model = world(), head(name)
    index = entity_index(model, data)
    once, again = (pool_ranks(model, data, mentions, index, rerank)[0] for rerank in (1, ENTITIES))
    assert (once != again).any()


class Lookup(nn.Module):
    """A head that looks whole numbers up: ties are exact."""

    def __init__(self, broad, full, exact_global):
        super().__init__()
        self.broad, self.full = (torch.tensor(scores).float() for scores in (broad, full))
        self.exact_global = exact_global

    def encode_mentions(self, items):
        return {"mention": items.text.values[:, 0, 0].long()}

    def encode_entities(self, items):
        return {"entity": items.text.values[:, 0, 0].long()}

    def global_vectors(self, encoded):
        if "mention" in encoded:
            return self.broad[encoded["mention"]]
        return torch.eye(self.broad.shape[1])[encoded["entity"]]

    def score(self, mentions, entities):
        return self.full[mentions["mention"][:, None], entities["entity"]]


def numbered(golds, entities):
    """Data of which each text says the number of its mention or entity."""
    count = max(len(golds), entities)
    found = FeatureMemory(
        torch.zeros(1, 1, 1).half(),
        torch.arange(count)[:, None].half(),
        torch.arange(count + 1),
        torch.ones(1, dtype=torch.bool),
        torch.ones(count, dtype=torch.bool),
    )
    items = [
        Items(torch.arange(number), *[torch.full((number,), ABSENT)] * 4)
        for number in (len(golds), entities)
    ]
    none = torch.empty(len(golds), 0, dtype=torch.int64)
    mentions = Mentions(items[0], torch.tensor(golds), none, pd.DataFrame())
    return LinkData({"test": mentions}, items[1], pd.DataFrame(), found, 512), mentions


@st.composite
def tied_scores(draw):
    entities, count = draw(st.integers(1, 8)), draw(st.integers(1, 5))
    golds = draw(st.lists(st.integers(ABSENT, entities - 1), min_size=count, max_size=count))
    level = st.integers(-2, 2)
    matrix = st.lists(
        st.lists(level, min_size=entities, max_size=entities), min_size=count, max_size=count
    )
    return golds, draw(matrix), draw(matrix), draw(st.integers(1, 10))


@given(tied_scores(), st.booleans())
@settings(max_examples=120, deadline=None)
def test_equal_scores_share_their_mean_rank_on_either_side_of_the_cut(drawn, exact):
    golds, broad, full, rerank = drawn
    full = broad if exact else full
    data, mentions = numbered(golds, len(broad[0]))
    model = Lookup(broad, full, exact)
    index = entity_index(model, data)
    ranks, retrieved = pool_ranks(model, data, mentions, index, rerank)
    linked = [row for row, gold in enumerate(golds) if gold != ABSENT]
    assert len(ranks) == len(retrieved) == len(linked)
    for place, row in enumerate(linked):
        if exact:
            every = np.array(broad[row])
            expected = rank_by_hand(golds[row], every, every, len(every))
            assert (ranks[place], retrieved[place]) == expected
            continue
        # Of equal ones at the cut either may be taken: the rule is for those that were.
        order, found, scores = retrieve(model, data, mentions, torch.tensor([row]), index, rerank)
        first = set(order[0].tolist())
        rest = set(range(len(broad[row]))) - first
        assert len(first) == min(rerank, len(broad[row]))
        assert found[0].tolist() == broad[row]
        assert scores[0].tolist() == [full[row][entity] for entity in order[0]]
        lowest = min(broad[row][entity] for entity in first)
        assert all(broad[row][entity] <= lowest for entity in rest)
        taken = [100 if entity in first else broad[row][entity] for entity in range(len(found[0]))]
        expected = rank_by_hand(
            golds[row], np.array(taken), np.array(full[row]), min(rerank, len(taken))
        )
        assert (ranks[place], retrieved[place]) == expected


def test_a_constant_score_gains_nothing():
    data, mentions = numbered([0, 3, 6], 7)
    same = [[0] * 7] * 3
    model = Lookup(same, same, False)
    ranks, _ = pool_ranks(model, data, mentions, entity_index(model, data), 7)
    assert ranks.tolist() == [4, 4, 4]


def test_ranks_by_hand():
    lists = torch.tensor([[5, 3, 7, 1], [5, 3, -1, -1], [2, 4, 6, -1], [2, -1, -1, -1], [-1] * 4])
    scores = torch.tensor(
        [
            [0.5, 0.5, 0.9, 0.1],  # one above, one equal
            [0.2, 0.2, -np.inf, -np.inf],  # one equal, and padding
            [0.9, 0.1, 0.5, -np.inf],  # not in the list
            [0.3, -np.inf, -np.inf, -np.inf],  # NIL is no padding
            [-np.inf] * 4,
        ]
    )
    gold = torch.tensor([3, 5, 8, -1, 0])
    ranks = ranks_among(scores, lists, gold)
    assert ranks.dtype == torch.float64
    assert ranks.tolist() == [2.5, 1.5, np.inf, np.inf, np.inf]
    assert (1 / ranks).tolist()[2:] == [0, 0, 0]


def test_the_only_candidate_is_the_first_and_the_lowest_the_last():
    lists = torch.arange(6).expand(3, 6)
    scores = torch.tensor([[6.0, 5, 4, 3, 2, 1]] * 3)
    assert ranks_among(scores, lists, torch.tensor([0, 3, 5])).tolist() == [1, 4, 6]
    assert ranks_among(scores[:1, :1], lists[:1, :1], torch.tensor([0])).tolist() == [1]


def images_of(mentions):
    return mentions.items.image.tolist()


def other_fields(mentions):
    return [getattr(mentions.items, name).tolist() for name in ("text", "name")]


def shown(mentions):
    """The image of each mention with the phrases of it."""
    items = mentions.items
    return torch.stack([items.image, items.objects, items.scene], dim=1).tolist()


@pytest.mark.parametrize("name", LINK_HEADS)
def test_without_images_mentions_score_as_if_they_never_had_any(name):
    (data, mentions), model = world(), head(name)
    before = images_of(mentions)
    bare = mentions.without_images()
    assert set(images_of(bare)) == {ABSENT}
    assert shown(bare) == [[ABSENT] * 3] * len(mentions)
    assert other_fields(bare) == other_fields(mentions)
    assert bare.gold is mentions.gold and bare.candidates is mentions.candidates
    assert images_of(mentions) == before  # a copy
    scores, without = (score_lists(model, data, m, m.candidates) for m in (mentions, bare))
    has_image = torch.tensor([row != [ABSENT] * 3 for row in shown(mentions)])
    there = mentions.candidates != ABSENT
    assert torch.equal(scores[there & ~has_image[:, None]], without[there & ~has_image[:, None]])
    moved = (scores - without).abs()[there & has_image[:, None]]
    assert moved.max() > 1e-4


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_images_are_those_of_others_that_have_one(seed):
    _, mentions = world()
    images = torch.tensor([ABSENT if row % 4 == 0 else 100 + row for row in range(MENTIONS)])
    mentions = dataclasses.replace(
        mentions, items=dataclasses.replace(mentions.items, image=images.clone())
    )
    shuffled = mentions.with_shuffled_images(seed)
    found = shuffled.items.image
    assert torch.equal(found == ABSENT, images == ABSENT)
    assert sorted(found.tolist()) == sorted(images.tolist())
    assert (found != images)[images != ABSENT].all()  # nobody keeps their own
    assert torch.equal(mentions.items.image, images)
    assert other_fields(shuffled) == other_fields(mentions)
    assert sorted(shown(shuffled)) == sorted(shown(mentions))
    assert images_of(mentions.with_shuffled_images(seed)) == found.tolist()
    assert images_of(mentions.with_shuffled_images(seed + 1)) != found.tolist()


@pytest.mark.parametrize("images", [[], [ABSENT] * 3, [7], [ABSENT, 7, ABSENT]])
def test_where_there_is_nobody_to_exchange_with_images_stay(images):
    rows = torch.tensor(images, dtype=torch.int64)
    items = Items(*[torch.zeros(len(rows), dtype=torch.int64)] * 5)
    items = dataclasses.replace(items, image=rows)
    mentions = Mentions(items, rows, rows[:, None], pd.DataFrame())
    assert images_of(mentions.with_shuffled_images()) == images
