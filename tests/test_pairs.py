import hashlib
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.data.items import Items, ItemTable, content_hash
from mmsim.data.pairs import PairRules, draw_pairs, write_pairs
from mmsim.data.tables import ENTITIES, IMAGES, INSTANCES, TEXTS
from mmsim.errors import UserError


def items(gold, image_group=None, text_group=None, names=None):
    """Items 0, 1, ... with these gold sets; each its own image and caption by default."""
    count = len(gold)
    names = names if names is not None else range(count)
    return Items(
        image=np.arange(count),
        text=np.arange(count),
        image_group=np.array(image_group if image_group is not None else range(count)),
        text_group=np.array(text_group if text_group is not None else range(count)),
        gold=[frozenset(entities) for entities in gold],
        key=np.array([content_hash(str(name)) for name in names], dtype=np.uint64),
    )


def table(train, entities=10):
    keys = np.array([content_hash(f"entity {e}") for e in range(entities)], dtype=np.uint64)
    return ItemTable({"train": train}, keys, {})


def rules(task="match", cap=100, same_entity=False, negatives=1, seed=0):
    return PairRules(task, cap, same_entity, negatives, seed)


golds = st.lists(st.frozensets(st.integers(0, 5), max_size=2), min_size=4, max_size=30)
groups = st.lists(st.integers(0, 25), min_size=30, max_size=30)
some_rules = st.builds(
    rules,
    task=st.sampled_from(["match", "pair"]),
    cap=st.integers(1, 6),
    same_entity=st.booleans(),
    negatives=st.integers(1, 3),
    seed=st.integers(0, 3),
)


@given(golds, groups, groups, some_rules)
@settings(max_examples=150, deadline=None)
def test_rules_of_positives_and_negatives_hold_on_any_data(gold, images, texts, chosen):
    world = items(gold, images[: len(gold)], texts[: len(gold)])
    drawn = draw_pairs(table(world), "train", chosen)
    positives, negatives = drawn[drawn["label"] == 1], drawn[drawn["label"] == 0]

    per_entity = Counter(
        entity
        for i, j in zip(positives["query_image"], positives["candidate_text"], strict=True)
        for entity in world.gold[i] & world.gold[j]
    )
    assert all(count <= chosen.max_pairs_per_entity for count in per_entity.values())

    for row in positives[positives["tier"] == "same_entity"].itertuples():
        i, j = row.query_image, row.candidate_image
        assert world.gold[i] & world.gold[j]
        assert world.image_group[i] != world.image_group[j]
        assert world.text_group[i] != world.text_group[j]
    for row in negatives.itertuples():
        i, j = row.query_image, row.candidate_image
        assert not world.gold[i] & world.gold[j]
        assert world.image_group[i] != world.image_group[j]
        assert world.text_group[i] != world.text_group[j]

    pairs = list(zip(drawn["query_image"], drawn["candidate_text"], strict=True))
    if chosen.task == "pair":
        pairs = [tuple(sorted(pair)) for pair in pairs]
    assert len(set(pairs)) == len(pairs)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_neither_side_alone_tells_the_label(seed):
    rng = np.random.default_rng(seed)
    world = items([{int(e)} for e in rng.integers(0, 8, 60)])
    drawn = draw_pairs(table(world), "train", rules("pair", seed=seed))
    assert drawn["label"].mean() == 0.5
    for side in ("query_image", "candidate_image"):
        of_label = [Counter(drawn.loc[drawn["label"] == label, side]) for label in (0, 1)]
        assert of_label[0] == of_label[1]


@pytest.mark.parametrize("task", ["match", "pair"])
def test_rows_added_elsewhere_change_no_positive(task):
    few = items([{0}] * 12 + [{1}] * 5, names=range(17))
    # New items of a new entity come first, so that every row number moves.
    names = [*range(100, 140), *range(17)]
    many = items([{2}] * 40 + [{0}] * 12 + [{1}] * 5, names=names)
    chosen = rules(task, cap=7, same_entity=True)

    def positives(world, shift):
        drawn = draw_pairs(table(world), "train", chosen)
        drawn = drawn[(drawn["label"] == 1) & (drawn["entity"] != 2)]
        return set(zip(drawn["query_image"] - shift, drawn["candidate_text"] - shift, strict=True))

    assert positives(few, 0) == positives(many, 40)
    assert len(positives(few, 0)) == 7 + 7


def test_the_cap_counts_own_captions_and_other_captions_together():
    world = items([{0}] * 6)
    drawn = draw_pairs(table(world), "train", rules(cap=8, same_entity=True))
    tiers = Counter(drawn.loc[drawn["label"] == 1, "tier"])
    assert tiers == {"own_caption": 6, "same_entity": 2}


def test_items_without_a_gold_entity_are_matched_but_never_paired():
    world = items([set(), set(), {0}, {0}, {1}, {1}])
    own = draw_pairs(table(world), "train", rules("match"))
    assert {0, 1} <= set(own.loc[own["label"] == 1, "query_image"])
    pairs = draw_pairs(table(world), "train", rules("pair"))
    assert not {0, 1} & set(pairs["query_image"]) | {0, 1} & set(pairs["candidate_image"])


def prepared(folder, captions=30, status="ok"):
    """Prepared tables: `captions` items of five entities in each split."""
    rows = [
        {"split": split, "image": base + i, "text": base + i, "entity": i % 5}
        for base, split in ((0, "train"), (captions, "valid"), (2 * captions, "test"))
        for i in range(captions)
    ]
    folder.mkdir()
    pd.DataFrame(rows).to_parquet(folder / INSTANCES)
    count = 3 * captions
    hashes = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(count)]
    images = {"image": range(count), "group": range(count), "sha256": hashes, "status": status}
    pd.DataFrame(images).to_parquet(folder / IMAGES)
    texts = {
        "text": range(count),
        "group": range(count),
        "content": [f"t{i}" for i in range(count)],
    }
    pd.DataFrame(texts).to_parquet(folder / TEXTS)
    pd.DataFrame({"title": list("abcde")}).to_parquet(folder / ENTITIES)
    return folder


def test_the_same_seed_writes_the_same_bytes_and_another_seed_does_not(tmp_path):
    source = prepared(tmp_path / "prepared")
    for name, seed in (("first", 0), ("second", 0), ("third", 1)):
        write_pairs(source, tmp_path / name, rules("pair", seed=seed))
    files = {
        name: (tmp_path / name / "train.parquet").read_bytes()
        for name in ("first", "second", "third")
    }
    assert files["first"] == files["second"]
    assert files["first"] != files["third"]


def test_data_without_images_says_what_is_lacking(tmp_path):
    source = prepared(tmp_path / "prepared", status="missing")
    with pytest.raises(UserError, match=r"without a usable image .*'missing': 90"):
        write_pairs(source, tmp_path / "pairs", rules())
    assert not (tmp_path / "pairs").exists()
