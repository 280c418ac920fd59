from collections import Counter

import numpy as np
import pytest
import torch
from captioned import items, table
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import config, memory, rules

from mmsim.data.folds import fold_pairs
from mmsim.data.pairs import PairRules
from mmsim.errors import UserError
from mmsim.evaluation.cross_validation import cross_validate

FOLDS = 3


def pair_rules(task):
    return PairRules(task, 100, False, 1, 0, False)


def fold_of(world, entity):
    return int(world.entity_keys[entity] % np.uint64(FOLDS))


golds = st.lists(st.frozensets(st.integers(0, 5), max_size=2), min_size=6, max_size=30)
groups = st.lists(st.integers(0, 25), min_size=30, max_size=30)


@pytest.mark.parametrize("task", ["match", "pair"])
@given(gold=golds, images=groups, texts=groups)
@settings(max_examples=60, deadline=None)
def test_no_fold_trains_on_an_entity_an_image_or_a_caption_that_it_tests(task, gold, images, texts):
    drawn = table("train", world=items(gold, images[: len(gold)], texts[: len(gold)]))
    for number, fold in enumerate(fold_pairs(drawn, FOLDS, pair_rules(task))):
        tested = fold["test"]
        if tested["label"].empty:
            continue
        shown = {
            side: {
                (name, int(value))
                for end in ("query", "candidate")
                for name, values in (("image", images), ("text", texts))
                for value in (values[row] for row in fold[side].get(f"{end}_{name}", []))
            }
            for side in ("train", "test")
        }
        assert shown["train"].isdisjoint(shown["test"])
        trained = {e for row in fold["train"].get("query_gold", []) for e in row}
        for row in tested[tested["label"] == 1].itertuples():
            common = set(row.query_gold) & set(row.candidate_gold)
            assert common and all(fold_of(drawn, entity) == number for entity in common)
            assert common.isdisjoint(trained)


def test_every_entity_with_two_items_is_tested_once():
    drawn = table("train", world=items([{e // 2} for e in range(20)]))
    tested = Counter(
        entity
        for fold in fold_pairs(drawn, FOLDS, pair_rules("pair"))
        for entity in fold["test"].query("label == 1")["entity"]
    )
    assert tested == Counter(range(10))


def cross_validated(folds, seeds=(0, 1)):
    return cross_validate(
        folds,
        config("none", "pair"),
        rules(epochs=2),
        memory(images=40, texts=40),
        list(seeds),
        torch.float32,
        100,
        lambda line: None,
    )


def test_figures_are_over_all_folds_and_seeds():
    drawn = table("train", world=items([{e // 2} for e in range(40)]), entities=20)
    folds = fold_pairs(drawn, FOLDS, pair_rules("pair"))
    found = cross_validated(folds)
    positives = sum(int((fold["test"]["label"] == 1).sum()) for fold in folds)
    assert found.metrics["folds"] == FOLDS
    assert found.metrics["test"]["pairs"] == 2 * positives
    assert {"auc", "auc_std", "auc_low", "auc_high"} <= set(found.metrics["test"])
    assert set(found.predictions["fold"]) == {0, 1, 2}
    by_seed = [
        np.average(
            [(rows["called"] == (rows["label"] == 1)).mean() for _, rows in part.groupby("fold")],
            weights=part.groupby("fold").size(),
        )
        for _, part in found.predictions.query("label == 1 or tier == 'random'").groupby("seed")
    ]
    assert found.metrics["test"]["accuracy"] == pytest.approx(np.mean(by_seed))


def test_a_fold_without_pairs_says_which_and_what_to_do():
    drawn = table("train", world=items([{0}, {0}, {1}, {1}]))
    with pytest.raises(
        UserError, match=r"fold \d has no positive or no negative pair.*fewer folds"
    ):
        cross_validated(fold_pairs(drawn, FOLDS, pair_rules("pair")))
