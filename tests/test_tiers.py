import math
import re
from collections import Counter

import numpy as np
import pytest
from captioned import items, table, traits
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from mmsim.data.items import ItemTable
from mmsim.data.pairs import PairRules, draw_pairs
from mmsim.data.positives import mix, own_captions, same_entity
from mmsim.data.tiers import hard_negatives

TASKS = ["match", "pair"]
TIERS = ["same_form", "lexical", "nearest_image", "same_type_topic"]
FORMS = ["turkey", "mercury", "jaguar"]
WORDS = ["red", "blue", "green", "house", "river", "night"]


@st.composite
def worlds(draw):
    """Columns of `table`: up to 16 items that have much in common, so that every rule bites."""
    count = draw(st.integers(4, 16))

    def each(strategy):
        return draw(st.lists(strategy, min_size=count, max_size=count))

    gold = each(st.frozensets(st.integers(0, 4), max_size=2))
    names = draw(st.permutations(range(count)))
    forms = []
    for entities in gold:
        meant = {}
        for entity in sorted(entities):
            # Two entities of one caption may have the same name there.
            meant.setdefault(draw(st.sampled_from(FORMS)), set()).add(entity)
        forms.append({form: frozenset(entities) for form, entities in meant.items()})
    words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=5)
    return {
        "world": items(gold, each(st.integers(0, 12)), each(st.integers(0, 12)), names),
        "forms": forms,
        "types": each(st.frozensets(st.sampled_from(["person", "place"]), max_size=2)),
        "topics": each(st.sampled_from(["history", "sports"])),
        "captions": [" ".join(found) for found in each(words)],
        "hashes": each(st.one_of(st.just(""), st.integers(0, 2**64 - 1).map("{:016x}".format))),
    }


def rules(task="match", cap=100, same_entity=False, negatives=1, seed=0):
    return PairRules(task, cap, same_entity, negatives, seed, False)


some_rules = st.builds(
    rules,
    task=st.sampled_from(TASKS),
    cap=st.integers(1, 6),
    same_entity=st.booleans(),
    negatives=st.integers(1, 2),
)


def positives_of(world, task, entities=10, cap=100):
    keys = table(world=world, entities=entities).entity_keys
    found = own_captions(world, keys, cap) if task == "match" else same_entity(world, keys, cap)
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def identity(query, candidate, task):
    return (query, candidate) if task == "match" else (min(query, candidate), max(query, candidate))


def drawn_tiers(columns, task, cap=100):
    """The negatives of each tier, with the positives and nothing else taken."""
    world, rest = columns["world"], {k: v for k, v in columns.items() if k != "world"}
    positives = positives_of(world, task)
    taken = {identity(*pair, task) for pair in positives.tolist()}
    found = hard_negatives(world, traits(world, **rest), positives, taken, cap, task)
    return positives, found


def sides(rows):
    """Positions of query and candidate: in the tables of these tests an item's own number."""
    return list(zip(rows["query_image"], rows["candidate_text"], strict=True))


@given(worlds(), some_rules)
@settings(max_examples=40, deadline=None)
def test_a_hard_negative_has_other_entities_another_image_and_another_caption(columns, chosen):
    world = columns["world"]
    drawn = draw_pairs(table("test", **columns), "test", chosen)
    hard = drawn[drawn["tier"].isin(TIERS)]
    assert (hard["label"] == 0).all()
    for i, j in sides(hard):
        assert not world.gold[i] & world.gold[j]
        assert world.image_group[i] != world.image_group[j]
        assert world.text_group[i] != world.text_group[j]


@given(worlds(), some_rules)
@settings(max_examples=40, deadline=None)
def test_no_pair_stands_twice_in_one_tier_or_in_two(columns, chosen):
    drawn = draw_pairs(table("test", **columns), "test", chosen)
    pairs = [identity(*pair, chosen.task) for pair in sides(drawn)]
    assert len(set(pairs)) == len(pairs)
    assert drawn["pair"].tolist() == list(range(len(drawn)))


@given(worlds(), some_rules)
@settings(max_examples=30, deadline=None)
def test_the_tiers_leave_all_other_pairs_exactly_as_they_are_without_them(columns, chosen):
    world = table("test", **columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmsim.data.pairs.hard_negatives", lambda *_: {})
        without = draw_pairs(world, "test", chosen)
    drawn = draw_pairs(world, "test", chosen)
    assert set(drawn["tier"][len(without) :]) <= set(TIERS)
    # Without any, the column of labels has no type of its own.
    assert drawn[: len(without)].astype(object).equals(without.astype(object))


@pytest.mark.parametrize("task", TASKS)
def test_only_the_test_split_has_hard_negatives(task):
    columns = ambiguous_world(6)
    of_split = {
        split: set(draw_pairs(table(split, **columns), split, rules(task, cap=8))["tier"])
        for split in ("train", "valid", "test")
    }
    main = {"match": "own_caption", "pair": "same_entity"}[task]
    assert of_split["train"] == of_split["valid"] == {main, "random"}
    assert of_split["test"] == {main, "random", *TIERS}


def ambiguous_world(each):
    """Three entities, `each` items of each, all called Turkey, of one topic and type."""
    count = 3 * each
    gold = [{number % 3} for number in range(count)]
    captions = [
        f"turkey {WORDS[n % len(WORDS)]} {WORDS[n // 3 % len(WORDS)]}" for n in range(count)
    ]
    return {
        "world": items(gold),
        "forms": [{"turkey": frozenset(entities)} for entities in gold],
        "types": [frozenset(["person"])] * count,
        "topics": ["history"] * count,
        "captions": captions,
    }


@given(worlds(), some_rules)
@settings(max_examples=40, deadline=None)
def test_both_sides_of_a_same_form_pair_mean_other_entities_by_its_form(columns, chosen):
    drawn = draw_pairs(table("test", **columns), "test", chosen)
    found = drawn[drawn["tier"] == "same_form"]
    for (i, j), form in zip(sides(found), found["form"], strict=True):
        query, candidate = columns["forms"][i][form], columns["forms"][j][form]
        assert query and candidate and not query & candidate
    assert all(count <= chosen.max_pairs_per_entity for count in Counter(found["form"]).values())


@pytest.mark.parametrize("task", TASKS)
@given(columns=worlds())
@settings(max_examples=30, deadline=None)
def test_without_a_cap_every_conflict_of_a_form_is_found(task, columns):
    world, forms = columns["world"], columns["forms"]
    _, found = drawn_tiers(columns, task, cap=10_000)
    expected = {
        identity(i, j, task)
        for i in range(len(world))
        for j in range(len(world))
        if not world.gold[i] & world.gold[j]
        and world.image_group[i] != world.image_group[j]
        and world.text_group[i] != world.text_group[j]
        and forms[i].keys() & forms[j].keys()
    }
    pairs = [identity(*pair, task) for pair in found["same_form"].pairs.tolist()]
    assert sorted(pairs) == sorted(expected)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("cap", [1, 5])
def test_of_a_form_with_many_conflicts_as_many_pairs_are_kept_as_the_cap_says(task, cap):
    _, found = drawn_tiers(ambiguous_world(6), task, cap)
    assert found["same_form"].forms == ["turkey"] * cap
    _, all_of_them = drawn_tiers(ambiguous_world(6), task)
    kept, possible = (set(map(tuple, f["same_form"].pairs)) for f in (found, all_of_them))
    assert kept < possible


def tfidf(captions):
    """TF-IDF vectors by hand: counts, smooth idf, length 1; words of two letters on, rare ones."""
    said = [Counter(re.findall(r"\w\w+", caption.lower())) for caption in captions]
    frequency = Counter(word for words in said for word in words)
    vectors = []
    for words in said:
        weights = {
            word: count * (1 + math.log((1 + len(said)) / (1 + frequency[word])))
            for word, count in words.items()
            if word not in ENGLISH_STOP_WORDS
        }
        length = math.sqrt(sum(weight**2 for weight in weights.values()))
        vectors.append({word: weight / length for word, weight in weights.items()})
    return vectors


def distances(tier, columns, task):
    """Return a function that tells how unfit a candidate is, infinite if it may not be taken."""
    hashes, topics, types = columns["hashes"], columns["topics"], columns["types"]
    vectors = tfidf(columns["captions"])

    def similarity(i, j):
        return sum(weight * vectors[j].get(word, 0) for word, weight in vectors[i].items())

    def lexical(query, positive, candidate):
        wanted = similarity(query, positive) if task == "pair" else 1
        return abs(similarity(query, candidate) - wanted)

    def nearest_image(query, _, candidate):
        if not hashes[query] or not hashes[candidate]:
            return math.inf
        return bin(int(hashes[query], 16) ^ int(hashes[candidate], 16)).count("1")

    def same_type_topic(query, _, candidate):
        fit = topics[query] == topics[candidate] and types[query] & types[candidate]
        return 0 if fit else math.inf

    found = {
        "lexical": lexical,
        "nearest_image": nearest_image,
        "same_type_topic": same_type_topic,
    }
    return found[tier]


def in_order_of_content(world, positives):
    """The positives as they choose their negatives, one after the other."""
    keys = world.key[positives]
    return positives[np.argsort(mix(keys[:, 0], keys[:, 1]), kind="stable")].tolist()


@pytest.mark.parametrize("task", TASKS)
@given(columns=worlds())
@settings(max_examples=40, deadline=None)
def test_each_positive_gets_the_nearest_candidate_that_is_left(task, columns):
    world = columns["world"]
    positives, found = drawn_tiers(columns, task)
    taken = {identity(*pair, task) for pair in positives.tolist()}
    taken |= {identity(*pair, task) for pair in found["same_form"].pairs.tolist()}
    for tier in TIERS[1:]:
        distance, chosen = distances(tier, columns, task), found[tier].pairs.tolist()
        for query, positive in in_order_of_content(world, positives):
            left = {
                candidate: distance(query, positive, candidate)
                for candidate in range(len(world))
                if not world.gold[query] & world.gold[candidate]
                and world.image_group[query] != world.image_group[candidate]
                and world.text_group[query] != world.text_group[candidate]
                and identity(query, candidate, task) not in taken
            }
            nearest = min(left.values(), default=math.inf)
            if nearest == math.inf:
                continue
            assert chosen[0][0] == query
            candidate = chosen.pop(0)[1]
            assert left[candidate] == pytest.approx(nearest, abs=1e-9)
            taken.add(identity(query, candidate, task))
        assert chosen == []
        assert found[tier].forms == [""] * len(found[tier].pairs)


def test_the_lexical_negative_of_a_pair_is_as_near_as_its_positive_and_not_the_nearest():
    gold = [{0}, {0}, {1}, {2}, {3}]
    captions = [
        "red house by the river",
        "red house at night",
        "red house by the river again",
        "red house near here",
        "nothing in common",
    ]
    columns = {"world": items(gold), "captions": captions}
    _, found = drawn_tiers(columns, "pair")
    # Whichever of the two is the query: caption 3 shares "red house" with it, as the other does.
    ((query, candidate),) = found["lexical"].pairs.tolist()
    assert query in (0, 1) and candidate == 3
    _, found = drawn_tiers(columns, "match")
    assert dict(found["lexical"].pairs.tolist())[0] == 2


def test_images_without_a_perceptual_hash_are_in_no_pair_of_near_images():
    hashes = ["0" * 16, "", "f" * 16, "0" * 15 + "1"]
    columns = {"world": items([{0}, {1}, {2}, {3}]), "hashes": hashes}
    _, found = drawn_tiers(columns, "match")
    assert sorted(found["nearest_image"].pairs[:, 0].tolist()) == [0, 2, 3]
    assert 1 not in found["nearest_image"].pairs


def reordered(columns, order):
    """The same items in another order of rows."""
    world = columns["world"]
    moved = {k: [v[i] for i in order] for k, v in columns.items() if k != "world"}
    groups = world.image_group[order], world.text_group[order]
    same = items([world.gold[i] for i in order], *groups, key=world.key[order])
    return {"world": same} | moved


def contents(columns, found):
    """The pairs of each tier by the hashes of the two items' content."""
    key = columns["world"].key
    return {
        tier: sorted((int(key[i]), int(key[j])) for i, j in negatives.pairs)
        for tier, negatives in found.items()
    }


@given(worlds(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_rows_does_not_matter_in_matching(columns, random):
    order = random.sample(range(len(columns["world"])), len(columns["world"]))
    other = reordered(columns, np.array(order))
    of_first, of_other = (drawn_tiers(c, "match", cap=3)[1] for c in (columns, other))
    assert contents(columns, of_first) == contents(other, of_other)


def test_the_order_of_rows_does_not_matter_where_two_queries_are_each_other_s_nearest():
    # Items 0 and 2 are the queries of the two positives, and their images differ in one bit; those
    # of 4 and 5 are the next.
    codes = [0b0000, 0b1111 << 60, 0b0001, 0b1111 << 56, 0b0110, 0b11001]
    world = items([{0}, {0}, {1}, {1}, {2}, {3}], key=range(6))
    columns = {"world": world, "hashes": [f"{code:016x}" for code in codes]}
    other = reordered(columns, np.arange(6)[::-1])
    of_first, of_other = (drawn_tiers(c, "pair")[1] for c in (columns, other))
    assert len(of_first["nearest_image"].pairs) == 2
    assert contents(columns, of_first) == contents(other, of_other)


@pytest.mark.parametrize("task", TASKS)
def test_rows_added_in_another_split_change_no_pair_of_the_test_split(task):
    alone = table("test", **ambiguous_world(6))
    train = table("train", **ambiguous_world(20))
    both = ItemTable(
        alone.splits | train.splits, alone.traits | train.traits, alone.entity_keys, {}
    )
    drawn = [draw_pairs(world, "test", rules(task)) for world in (alone, both)]
    assert drawn[0].equals(drawn[1])


@pytest.mark.parametrize("task", TASKS)
def test_hard_negatives_are_measured_with_the_main_tier_of_positives(task):
    chosen = rules(task, cap=12, same_entity=True)
    drawn = draw_pairs(table("test", **ambiguous_world(6)), "test", chosen)
    main = drawn.loc[drawn["label"] == 1, "tier"].iloc[0]
    assert set(drawn.loc[drawn["tier"].isin(TIERS), "contrast"]) == {main}


@pytest.mark.parametrize("task", TASKS)
def test_one_item_or_items_of_one_entity_have_no_hard_negative(task):
    for gold in ([{0}], [{0}] * 5):
        _, found = drawn_tiers({"world": items(gold)}, task)
        assert {tier: len(negatives.pairs) for tier, negatives in found.items()} == dict.fromkeys(
            TIERS, 0
        )


def test_captions_of_stop_words_alone_have_lexical_negatives_too():
    columns = {"world": items([{e} for e in range(4)]), "captions": ["the", "the a", "of", "?"]}
    _, found = drawn_tiers(columns, "match")
    assert dict(found["lexical"].pairs.tolist())[0] == 1
