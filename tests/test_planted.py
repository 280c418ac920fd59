"""The report tells planted worlds apart: this is the proof that it measures what it says."""

import pytest

from mmsim.planted.check import measure, planted_table
from mmsim.planted.worlds import WORLDS, make_world

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@pytest.fixture(scope="module")
def found():
    return {name: measure(make_world(name), draws=500) for name in WORLDS}


def covers(figures, name, value):
    return figures[f"{name}_low"] <= value <= figures[f"{name}_high"]


def above(figures, name, value):
    return figures[f"{name}_low"] > value


def test_where_there_is_nothing_the_interval_holds_chance(found):
    assert covers(found["nothing"]["test"], "auc", 0.5)
    assert covers(found["nothing"]["emap"], "gap_auc", 0.0)
    for name in ("text_only", "image_only", "query_only"):
        assert covers(found["nothing"]["baselines"][name], "auc", 0.5)


@pytest.mark.parametrize("world", ["text", "image", "both", "interaction", "matching"])
def test_where_there_is_something_a_head_finds_it(found, world):
    assert above(found[world]["test"], "auc", 0.75)


def test_one_modality_is_found_by_the_regression_on_it_alone(found):
    assert above(found["text"]["baselines"]["text_only"], "auc", 0.75)
    assert found["text"]["baselines"]["image_only"]["auc_high"] < 0.65
    assert above(found["image"]["baselines"]["image_only"], "auc", 0.75)
    assert found["image"]["baselines"]["text_only"]["auc_high"] < 0.65


def test_without_images_the_head_keeps_what_text_says_and_loses_what_images_say(found):
    for control in ("blank_image", "shuffled_image"):
        assert above(found["text"]["controls"][control], "auc", 0.75)
        for world in ("image", "matching"):
            assert found[world]["controls"][control]["auc"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("world", ["text", "image", "both"])
def test_where_the_evidence_adds_up_interaction_adds_nothing(found, world):
    assert found[world]["emap"]["gap_auc_low"] <= 0
    assert found[world]["emap"]["gap_auc"] < 0.02


@pytest.mark.parametrize("world", ["interaction", "matching"])
def test_where_only_both_modalities_together_tell_the_gap_is_large(found, world):
    assert above(found[world]["emap"], "gap_auc", 0.15)
    assert covers(found[world]["emap"], "without_interaction_auc", 0.5)


def test_interaction_is_in_neither_modality_alone(found):
    baselines = found["interaction"]["baselines"]
    for name in ("text_only", "image_only", "query_only", "candidate_only"):
        assert baselines[name]["auc_high"] < 0.65


def test_a_leak_shows_as_skill_on_the_pairs_that_training_has_seen_alone(found):
    slices = found["leak"]["slices"]
    assert above(slices["shared_with_training"], "auc", 0.75)
    assert covers(slices["not_shared_with_training"], "auc", 0.5)
    assert above(found["leak"]["test"], "auc", 0.5)


@pytest.mark.parametrize("world", sorted(set(WORLDS) - {"leak"}))
def test_without_a_leak_no_pair_counts_as_leaked(found, world):
    assert "shared_with_training" not in found[world]["slices"]


def test_one_side_lights_up_at_the_shortcut_and_nowhere_else(found):
    assert above(found["shortcut"]["baselines"]["query_only"], "auc", 0.9)
    for world in sorted(set(WORLDS) - {"shortcut"}):
        assert found[world]["baselines"]["query_only"]["auc"] == pytest.approx(0.5, abs=0.05)


def test_the_table_has_a_row_for_each_world():
    said = []
    table, metrics = planted_table(["nothing"], "cross", said.append)
    lines = table.splitlines()
    assert said == ["nothing"] and list(metrics) == ["nothing"] and len(lines) == 2
    assert f"{metrics['nothing']['test']['auc']:.3f}" in lines[1]
