import hashlib
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from captioned import items, table
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.data.items import load_items
from mmsim.data.pairs import PairRules, draw_pairs, write_pairs
from mmsim.data.tables import ENTITIES, IMAGES, INSTANCES, TEXTS
from mmsim.errors import UserError


def rules(
    task="match", cap=100, same_entity=False, negatives=1, seed=0, seed_protocol=False
) -> PairRules:
    return PairRules(task, cap, same_entity, negatives, seed, seed_protocol)


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


@given(golds, groups, groups, some_rules, st.sampled_from(["train", "test"]))
@settings(max_examples=80, deadline=None)
def test_rules_of_positives_and_negatives_hold_on_any_data(gold, images, texts, chosen, split):
    world = items(gold, images[: len(gold)], texts[: len(gold)])
    drawn = draw_pairs(table(split, world=world), split, chosen)
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


@given(st.integers(0, 1000), st.sampled_from(["train", "test"]))
@settings(max_examples=20, deadline=None)
def test_neither_side_alone_tells_the_label(seed, split):
    rng = np.random.default_rng(seed)
    world = items([{int(e)} for e in rng.integers(0, 8, 60)])
    drawn = draw_pairs(table(split, world=world), split, rules("pair", seed=seed))
    # Hard negatives are reported apart: their marginals are their own.
    drawn = drawn[drawn["tier"].isin(["same_entity", "random"])]
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
        drawn = draw_pairs(table(world=world), "train", chosen)
        drawn = drawn[(drawn["label"] == 1) & (drawn["entity"] != 2)]
        return set(zip(drawn["query_image"] - shift, drawn["candidate_text"] - shift, strict=True))

    assert positives(few, 0) == positives(many, 40)
    assert len(positives(few, 0)) == 7 + 7


def test_the_cap_counts_own_captions_and_other_captions_together():
    world = items([{0}] * 6)
    drawn = draw_pairs(table(world=world), "train", rules(cap=8, same_entity=True))
    tiers = Counter(drawn.loc[drawn["label"] == 1, "tier"])
    assert tiers == {"own_caption": 6, "same_entity": 2}


def test_items_without_a_gold_entity_are_matched_but_never_paired():
    world = items([set(), set(), {0}, {0}, {1}, {1}])
    own = draw_pairs(table(world=world), "train", rules("match"))
    assert {0, 1} <= set(own.loc[own["label"] == 1, "query_image"])
    pairs = draw_pairs(table(world=world), "train", rules("pair"))
    assert not {0, 1} & set(pairs["query_image"]) | {0, 1} & set(pairs["candidate_image"])


@pytest.mark.parametrize("task", ["match", "pair"])
def test_a_positive_has_the_form_by_which_its_query_calls_the_pairs_entity(task):
    world = items([{0, 1}, {0}, {0, 1}, set()])
    forms = [
        {"turkey": frozenset([1]), "zebra": frozenset([0]), "ankara": frozenset([0])},
        {"home": frozenset([0])},
        {"turkey": frozenset([0]), "bird": frozenset([1])},
        {},
    ]
    drawn = draw_pairs(table(world=world, forms=forms), "train", rules(task, same_entity=True))
    found = {
        (row.query_image, row.candidate_image): row.form
        for row in drawn[drawn["label"] == 1].itertuples()
    }
    # The pair's entity is 0; of several forms the first in the alphabet. "turkey" of item 0 and
    # "bird" of item 2 mean another one.
    expected = {
        (0, 1): "ankara",
        (1, 0): "home",
        (0, 2): "ankara",
        (2, 0): "turkey",
        (1, 2): "home",
        (2, 1): "turkey",
    }
    own = {(0, 0): "ankara", (1, 1): "home", (2, 2): "turkey", (3, 3): ""}
    if task == "match":
        assert found == expected | own
    else:
        assert len(found) == 3
        assert found.items() <= expected.items()


def test_random_negatives_have_no_form():
    world = items([{0}, {1}, {0}, {1}])
    drawn = draw_pairs(table(world=world), "train", rules())
    assert (drawn.loc[drawn["label"] == 1, "form"] != "").all()
    assert (drawn.loc[drawn["label"] == 0, "form"] == "").all()


def prepared(folder, captions=30, status="ok"):
    """Prepared tables: `captions` items of five entities in each split."""
    rows = [
        {
            "split": split,
            "image": base + i,
            "text": base + i,
            "mention": f"Name {i % 5}",
            "type": "person",
            "topic": "sports",
            "entity": i % 5,
        }
        for base, split in ((0, "train"), (captions, "valid"), (2 * captions, "test"))
        for i in range(captions)
    ]
    folder.mkdir()
    pd.DataFrame(rows).to_parquet(folder / INSTANCES)
    count = 3 * captions
    hashes = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(count)]
    images = {
        "image": range(count),
        "group": range(count),
        "sha256": hashes,
        "status": status,
        "perceptual_hash": [name[:16] for name in hashes],
    }
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
    for split in ("train", "test"):
        files = {
            name: (tmp_path / name / f"{split}.parquet").read_bytes()
            for name in ("first", "second", "third")
        }
        assert files["first"] == files["second"]
        assert files["first"] != files["third"]


def test_data_without_images_says_what_is_lacking(tmp_path):
    source = prepared(tmp_path / "prepared", status="missing")
    with pytest.raises(UserError, match=r"without a usable image .*'missing': 90"):
        write_pairs(source, tmp_path / "pairs", rules())
    assert not (tmp_path / "pairs").exists()


COLUMNS = [
    "pair",
    "label",
    "tier",
    "contrast",
    "entity",
    "query_image",
    "query_text",
    "candidate_image",
    "candidate_text",
    "query_gold",
    "candidate_gold",
    "form",
]


@pytest.mark.parametrize("seed_protocol", [False, True])
def test_the_pairs_are_written_with_these_columns_and_counted_by_tier(seed_protocol, tmp_path):
    source = prepared(tmp_path / "prepared")
    chosen = rules("pair", cap=4, seed_protocol=seed_protocol)
    counts = write_pairs(source, tmp_path / "pairs", chosen)
    for split in ("train", "valid", "test"):
        written = pd.read_parquet(tmp_path / "pairs" / f"{split}.parquet")
        assert sorted(written.columns) == sorted(COLUMNS)
        of_split = counts[counts["split"] == split]
        assert of_split.set_index("tier")["pairs"].to_dict() == Counter(written["tier"])


def test_the_seed_protocol_draws_from_mentions_with_usable_images_alone(tmp_path):
    source = prepared(tmp_path / "prepared")
    instances, images = pd.read_parquet(source / INSTANCES), pd.read_parquet(source / IMAGES)
    # In each split of 30 captions: one image is missing, two captions have no mention.
    images.loc[images["image"] % 30 == 4, "status"] = "missing"
    instances.loc[instances["image"] % 30 % 15 == 9, ["mention", "entity"]] = ["", -1]
    instances.to_parquet(source / INSTANCES)
    images.to_parquet(source / IMAGES)
    write_pairs(source, tmp_path / "pairs", rules("pair", seed_protocol=True))
    for first, split in ((0, "train"), (30, "valid"), (60, "test")):
        pairs = pd.read_parquet(tmp_path / "pairs" / f"{split}.parquet")
        assert set(pairs["tier"]) == {"same_entity", "random"}
        used = set(pairs["query_image"]) | set(pairs["candidate_image"])
        # Three of the six mentions of entity 4 are left, all of the others'.
        assert used == set(range(first, first + 30)) - {first + 4, first + 9, first + 24}
        assert (pairs["label"] == 1).sum() == (pairs["label"] == 0).sum() == 4 * 15 + 3


def test_the_seed_protocol_draws_other_pairs_in_each_split_and_with_each_seed(tmp_path):
    source = prepared(tmp_path / "prepared")
    drawn = {}
    for seed in (0, 1):
        write_pairs(source, tmp_path / "pairs", rules("pair", 4, seed=seed, seed_protocol=True))
        for split, first in (("train", 0), ("valid", 30)):
            pairs = pd.read_parquet(tmp_path / "pairs" / f"{split}.parquet")
            columns = ["query_image", "candidate_image"]
            drawn[split, seed] = str((pairs[columns] - first).to_numpy().tolist())
    assert len(set(drawn.values())) == 4


def test_rows_added_to_other_splits_change_no_pair_of_the_test_split(tmp_path):
    # Every row number moves, of images, texts and entities: they are the same pairs by content.
    drawn = []
    for extra in (0, 20):
        source = prepared(tmp_path / f"prepared{extra}")
        if extra:
            put_first(source, extra)
        write_pairs(source, tmp_path / "pairs", rules("pair", cap=6))
        pairs = pd.read_parquet(tmp_path / "pairs" / "test.parquet")
        columns = ["query_image", "query_text", "candidate_image", "candidate_text"]
        pairs[columns] -= extra
        drawn.append(pairs[["label", "tier", "contrast", "form", *columns]])
    assert set(drawn[0]["tier"]) > {"same_entity", "random", "lexical"}
    assert drawn[0].equals(drawn[1])


def put_first(source, extra):
    """Put captions of the training split, and two entities, before all that are there."""
    instances = pd.read_parquet(source / INSTANCES)
    new = instances.head(extra).assign(split="train", entity=[0, 1] * (extra // 2), mention="New")
    shift = {"image": extra, "text": extra, "entity": 2}
    old = instances.assign(**{name: instances[name] + by for name, by in shift.items()})
    pd.concat([new, old], ignore_index=True).to_parquet(source / INSTANCES)
    images, texts = pd.read_parquet(source / IMAGES), pd.read_parquet(source / TEXTS)
    for path, rows, content in ((IMAGES, images, "sha256"), (TEXTS, texts, "content")):
        name = rows.columns[0]
        fresh = rows.head(extra).assign(**{content: [f"fresh{i}" for i in range(extra)]})
        moved = rows.assign(**{name: rows[name] + extra, "group": rows["group"] + extra})
        pd.concat([fresh, moved], ignore_index=True).to_parquet(source / path)
    pd.DataFrame({"title": ["new", "newer", *"abcde"]}).to_parquet(source / ENTITIES)


def test_traits_of_an_item_gather_all_its_mentions(tmp_path):
    source = prepared(tmp_path / "prepared")
    rows = [
        ("Turkey", 0, "place"),
        ("  TURKEY ", 1, "bird"),
        ("New\u00a0 York", 2, "place"),
        ("Nobody", -1, "person"),
        ("Straße", 3, ""),
    ]
    mentions = pd.DataFrame(rows, columns=["mention", "entity", "type"])
    mentions = mentions.assign(split="test", image=0, text=0, topic="history")
    mentions.to_parquet(source / INSTANCES)
    loaded = load_items(source)
    traits = loaded.traits["test"]
    # NIL is no meaning, but its mention has a type.
    assert traits.forms == [
        {
            "turkey": frozenset([0, 1]),
            "new york": frozenset([2]),
            "strasse": frozenset([3]),
        }
    ]
    assert traits.types == [frozenset(["place", "bird", "person"])]
    assert loaded.splits["test"].gold == [frozenset([0, 1, 2, 3])]
    images = pd.read_parquet(source / IMAGES)
    assert (traits.topics, traits.captions) == (["history"], ["t0"])
    assert traits.image_hashes == [images["perceptual_hash"][0]]
