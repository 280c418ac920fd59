import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.evaluation.slices import (
    BANDS,
    attribute_rows,
    frequency_rows,
    primary,
    seen_rows,
    tier_rows,
)

PAIR = {
    "label": 1,
    "tier": "own_caption",
    "contrast": "own_caption",
    "entity": 0,
    "query_image": 0,
    "query_text": 0,
    "candidate_image": 0,
    "candidate_text": 0,
    "query_gold": (0,),
    "candidate_gold": (0,),
}


def pairs(*rows):
    return pd.DataFrame([PAIR | row for row in rows])


MENTION = {"split": "test", "image": 0, "text": 0, "entity": 0, "type": "Person", "topic": "sports"}


def mentions(*rows):
    return pd.DataFrame([MENTION | row for row in rows])


def numbers(rows):
    return {name: np.flatnonzero(chosen).tolist() for name, chosen in rows.items()}


def positive(image, **columns):
    return {"query_image": image, "query_text": image} | columns


def negative(image, tier="random", **columns):
    return positive(image, label=0, tier=tier) | columns


def test_the_main_figures_are_of_positives_and_random_negatives():
    table = pairs(
        positive(0),
        positive(1, tier="same_entity"),
        negative(0),
        negative(1, "same_form"),
        negative(2, "lexical"),
    )
    assert primary(table).tolist() == [True, True, True, False, False]
    assert primary(table).dtype == bool


def test_several_tiers_of_positives_are_each_measured_with_the_negatives_of_their_contrast():
    table = pairs(
        positive(0),
        negative(0),
        positive(0, tier="same_entity", contrast="same_entity"),
        negative(1, contrast="same_entity"),
        negative(0, "lexical"),
    )
    found = numbers(tier_rows(table))
    assert found["own_caption"] == [0, 1]
    assert found["same_entity"] == [2, 3]


def test_a_single_tier_of_positives_is_no_tier_of_its_own():
    # It would be the main figures once more.
    assert tier_rows(pairs(positive(0), negative(0))) == {}


def test_hard_negatives_are_measured_against_the_positives_of_their_own_queries():
    table = pairs(
        positive(0),
        positive(1),
        positive(2),
        negative(0),
        negative(1),
        negative(1, "same_form"),
        negative(2, "lexical"),
        negative(0, "lexical"),
    )
    found = numbers(tier_rows(table))
    assert found == {"same_form": [1, 5], "lexical": [0, 2, 6, 7]}


def test_hard_negatives_without_a_positive_of_their_queries_are_measured_against_all():
    table = pairs(positive(0), positive(1), negative(0), negative(7, "same_form"))
    assert numbers(tier_rows(table)) == {"same_form": [0, 1, 3]}


def test_hard_negatives_are_measured_against_their_contrast_alone():
    table = pairs(
        positive(0),
        positive(0, tier="same_entity", contrast="same_entity"),
        negative(0),
        negative(0, "lexical"),
    )
    assert numbers(tier_rows(table))["lexical"] == [0, 3]


def test_in_task_pair_a_positive_has_its_candidate_as_well_as_its_query():
    # The two sides of such a pair are alike, and which is the query is chance.
    both = {"tier": "same_entity", "contrast": "same_entity"}
    table = pairs(
        positive(0, candidate_image=1, candidate_text=1, **both),
        positive(2, candidate_image=3, candidate_text=3, **both),
        positive(4, candidate_image=5, candidate_text=5, **both),
        negative(2, "same_form", candidate_image=6, candidate_text=6, contrast="same_entity"),
        negative(1, "same_form", candidate_image=7, candidate_text=7, contrast="same_entity"),
    )
    assert numbers(tier_rows(table)) == {"same_form": [0, 1, 3, 4]}


def test_a_pair_has_the_type_of_its_entity_in_the_query_and_the_querys_topic():
    instances = mentions(
        {"image": 0, "text": 0, "entity": 4, "type": "Person"},
        {"image": 0, "text": 0, "entity": 5, "type": "Place"},
        {"image": 1, "text": 1, "entity": 4, "type": "Team", "topic": "politics"},
    )
    table = pairs(
        positive(0, entity=4),
        positive(0, entity=5),
        positive(1, entity=4),
        # The candidate's type and topic play no part.
        negative(1, entity=4, candidate_image=0, candidate_text=0),
    )
    assert numbers(attribute_rows(table, instances)) == {
        "Person": [0],
        "Place": [1],
        "Team": [2, 3],
        "sports": [0, 1],
        "politics": [2, 3],
    }


def test_an_item_is_an_image_with_its_caption_and_not_one_of_them():
    instances = mentions(
        {"image": 0, "text": 0, "topic": "sports"},
        {"image": 0, "text": 1, "topic": "politics"},
        {"image": 1, "text": 0, "topic": "history"},
    )
    table = pairs({"query_text": 1}, {"query_image": 1}, {})
    found = numbers(attribute_rows(table, instances))
    assert (found["politics"], found["history"], found["sports"]) == ([0], [1], [2])


def test_hard_negatives_are_in_no_slice():
    table = pairs(positive(0), negative(0), negative(0, "same_form"))
    train = pairs({"query_gold": (0,), "candidate_gold": (0,)})
    instances = mentions({"split": "train"}, {})
    slices = [
        attribute_rows(table, instances),
        seen_rows(table, train),
        frequency_rows(table, instances),
    ]
    for found in slices:
        assert any(rows.any() for rows in found.values())
        assert not any(rows[2] for rows in found.values())


def test_a_pair_without_an_entity_has_a_topic_and_no_type():
    # The mention without an entity has a type, which is not that of an entity of the pair.
    instances = mentions({"entity": -1, "type": "Person", "topic": "sports"})
    table = pairs(positive(0, entity=-1, query_gold=()))
    assert numbers(attribute_rows(table, instances)) == {"sports": [0]}


def test_keys_of_slices_have_no_dots_no_blanks_and_join_what_then_is_one():
    instances = mentions(
        {"image": 0, "text": 0, "topic": "U.S. politics", "type": ""},
        {"image": 1, "text": 1, "topic": "U S politics", "type": ""},
    )
    found = numbers(attribute_rows(pairs(positive(0), positive(1)), instances))
    assert found == {"U_S_politics": [0, 1]}


@given(st.text(min_size=1).filter(lambda name: name.replace(".", " ").strip()))
@settings(max_examples=100, deadline=None)
def test_no_name_makes_a_key_with_a_dot(name):
    found = attribute_rows(pairs(positive(0)), mentions({"topic": name, "type": ""}))
    (key,) = found
    assert key
    assert "." not in key
    assert len(key.split()) == 1


def test_empty_and_missing_names_make_no_slice():
    instances = mentions({"topic": "", "type": ""}, {"image": 1, "text": 1, "topic": None})
    # The second pair is of an item that the table of mentions does not have.
    table = pairs(positive(0), positive(9), positive(1, entity=3))
    assert attribute_rows(table, instances) == {}


def test_seen_and_unseen_by_hand():
    train = pairs(
        {"query_gold": (1, 2), "candidate_gold": (1,)},
        {"query_gold": (), "candidate_gold": (3,)},
    )
    table = pairs(
        {"query_gold": (1,), "candidate_gold": (2, 3)},
        {"query_gold": (1,), "candidate_gold": (8,)},
        {"query_gold": (8,), "candidate_gold": (9,)},
        {"query_gold": (), "candidate_gold": (3,)},
        {"query_gold": (8,), "candidate_gold": ()},
        {"query_gold": (), "candidate_gold": ()},
        {"query_gold": (8, 1), "candidate_gold": (8,)},
    )
    found = numbers(seen_rows(table, train))
    assert found == {"seen_entity": [0, 3], "unseen_entity": [2, 4]}


def test_entities_of_negatives_in_training_are_seen_as_well():
    train = pairs(negative(0, query_gold=(5,), candidate_gold=(6,)))
    table = pairs({"query_gold": (5,), "candidate_gold": (6,)})
    assert numbers(seen_rows(table, train)) == {"seen_entity": [0], "unseen_entity": []}


gold = st.lists(st.integers(0, 6), max_size=2).map(tuple)
sides = st.fixed_dictionaries({"query_gold": gold, "candidate_gold": gold})


@given(st.lists(sides, min_size=1, max_size=8), st.lists(sides, min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_no_pair_is_seen_and_unseen_and_without_training_none_is_seen(test, train):
    found = seen_rows(pairs(*test), pairs(*train))
    assert not (found["seen_entity"] & found["unseen_entity"]).any()
    nothing = seen_rows(pairs(*test), pairs(*train)[:0])
    assert not nothing["seen_entity"].any()
    shown = [bool(row["query_gold"] or row["candidate_gold"]) for row in test]
    assert nothing["unseen_entity"].tolist() == shown


@pytest.mark.parametrize(
    ("times", "name"),
    [
        (0, "0"),
        (1, "1"),
        (2, "2_to_5"),
        (5, "2_to_5"),
        (6, "6_to_20"),
        (20, "6_to_20"),
        (21, "over_20"),
        (500, "over_20"),
    ],
)
def test_a_pair_is_in_the_band_of_its_entitys_training_mentions(times, name):
    # Mentions in other splits and of other entities are not counted.
    others = [{"split": "valid"}, {}, {"split": "train", "entity": 1}]
    instances = mentions(*[{"split": "train"}] * times, *others)
    found = numbers(frequency_rows(pairs(positive(0)), instances))
    assert found.pop(f"training_mentions_{name}") == [0]
    assert all(rows == [] for rows in found.values())


@given(
    st.dictionaries(st.integers(-1, 8), st.integers(1, 30), min_size=1),
    st.lists(st.tuples(st.integers(-1, 10), st.booleans()), min_size=1, max_size=12),
)
@settings(max_examples=50, deadline=None)
def test_the_bands_part_the_primary_pairs_that_have_an_entity(counts, drawn):
    instances = mentions(
        *[{"split": "train", "entity": e} for e, times in counts.items() for _ in range(times)]
    )
    table = pairs(
        *[
            positive(0, entity=entity) if main else negative(0, "lexical", entity=entity)
            for entity, main in drawn
        ]
    )
    found = frequency_rows(table, instances)
    assert len(found) == len(BANDS) + 1
    times = np.sum(list(found.values()), axis=0)
    assert times.tolist() == [int(main and entity >= 0) for entity, main in drawn]
