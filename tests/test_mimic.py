import dataclasses

import pytest
import torch
from linking import (
    ablations,
    built,
    check_batch_of_one,
    check_learns,
    check_missing_image,
    check_order,
    check_own_lists,
    check_padding,
    check_same_in_training,
    cross_entropy_by_hand,
    dead_parameters,
    fit,
    hits_at_1,
    in_step_batch,
    layer_norm,
    matching_by_hand,
    mean,
    mixed,
    prepared_tokens,
    ranking_batch,
    scores_of,
    sentence_by_hand,
    softmax,
    some_entities,
    some_mentions,
)

from mmsim.models import matching
from mmsim.models.linking import dot
from mmsim.models.mimic import Mimic

UNITS = ["text", "image", "cross"]
WITHOUT = pytest.mark.parametrize("without", ablations("mimic"))


def mimic(without="nothing", seed=0, **changes):
    return built(Mimic, "mimic", seed, without=without, **changes)


def projected(head, items, row, kind):
    """T or V of one item: a list of vectors."""
    layer = getattr(head, kind)
    return [layer.weight @ x + layer.bias for x in prepared_tokens(head, items, row, kind)]


def direction_by_hand(unit, v_a, cells_b):
    q, k = unit.whole.weight @ v_a, unit.whole.weight @ mean(cells_b)
    p = mean([unit.local.weight @ cell for cell in cells_b])
    z = unit.fuse.weight @ layer_norm(unit.norm_in, p + q)
    g = torch.tanh(unit.gate.weight[0] @ z)
    return layer_norm(unit.norm_out, g * z + k) @ layer_norm(unit.norm_out, q)


def cross_by_hand(unit, words, cells):
    x = unit.text.weight @ mean(words)
    y = [unit.image.weight @ cell for cell in cells]
    context = mixed(softmax([x @ cell for cell in y]), y)
    return layer_norm(unit.norm, torch.tanh(unit.gate.weight[0] @ x) * x + context)


@torch.no_grad()
def units_by_hand(head, mentions, row, entities, column):
    """The equations of the module for one mention and one entity."""
    words, cells = (projected(head, mentions, row, kind) for kind in ("text", "image"))
    entity_words, entity_cells = (
        projected(head, entities, column, kind) for kind in ("text", "image")
    )
    vision, cross = head.units["image"], head.units["cross"]
    to_mention = direction_by_hand(vision.to_mention, mean(entity_cells), cells)
    to_entity = direction_by_hand(vision.to_entity, mean(cells), entity_cells)
    sentences = (
        sentence_by_hand(head, mentions, row),
        sentence_by_hand(head, entities, column),
    )
    return {
        "text": matching_by_hand(head.units["text"], words, entity_words, sentences),
        "image": (to_mention + to_entity) / 2,
        "cross": cross_by_hand(cross, words, cells)
        @ cross_by_hand(cross, entity_words, entity_cells),
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_units_are_the_equations_of_the_docstring(seed):
    head, mentions, entities = mimic(seed=seed), some_mentions(seed), some_entities(seed + 50)
    units = head.unit_scores(head.encode_mentions(mentions), head.encode_entities(entities))
    assert list(units) == UNITS
    for row in range(5):
        for column in range(7):
            expected = units_by_hand(head, mentions, row, entities, column)
            for name, scores in units.items():
                torch.testing.assert_close(scores[row, column], expected[name])


@WITHOUT
def test_the_score_is_the_mean_of_the_units_that_are_left(without):
    head = mimic(without)
    encoded = head.encode_mentions(some_mentions()), head.encode_entities(some_entities())
    units = head.unit_scores(*encoded)
    assert list(units) == [name for name in UNITS if name != without]
    torch.testing.assert_close(head.score(*encoded), sum(units.values()) / len(units))


@WITHOUT
def test_the_loss_is_that_of_the_score_plus_those_of_the_units(without):
    head, batch = mimic(without), ranking_batch()
    encoded = head.encode_mentions(batch.mentions), head.encode_entities(batch.entities)
    expected = cross_entropy_by_hand(head.score(*encoded), batch)
    if without != "unit_losses":
        units = head.unit_scores(*encoded).values()
        expected += sum(cross_entropy_by_hand(scores, batch) for scores in units)
    assert head.loss(batch).item() == pytest.approx(expected, rel=1e-5)


@WITHOUT
def test_order_does_not_matter(without):
    check_order(mimic(without))


@WITHOUT
def test_own_lists_and_all_against_all_agree(without):
    check_own_lists(mimic(without))


@WITHOUT
def test_no_parameter_is_dead(without):
    assert dead_parameters(mimic(without), ranking_batch()) == []


@WITHOUT
def test_the_global_vectors_give_the_decomposable_part_of_the_score(without):
    head = mimic(without)
    mentions, entities = some_mentions(), some_entities()
    m, e = head.encode_mentions(mentions), head.encode_entities(entities)
    text = [head.features(items).broad["text"] for items in (mentions, entities)]
    parts = {"text": dot(*text) / 2}
    if without != "cross":
        parts["cross"] = head.unit_scores(m, e)["cross"]
    parts.pop(without, None)
    expected = sum(parts.values()) / len(head.units)
    torch.testing.assert_close(dot(head.global_vectors(m), head.global_vectors(e)), expected)


def test_the_number_of_mentions_at_once_does_not_matter(monkeypatch):
    head, batch = mimic(), ranking_batch()
    scores, loss = scores_of(head, batch.mentions, batch.entities), head.loss(batch)
    monkeypatch.setattr(matching, "MENTIONS_AT_ONCE", 2)
    torch.testing.assert_close(scores_of(head, batch.mentions, batch.entities), scores)
    torch.testing.assert_close(head.loss(batch), loss)


def test_the_two_directions_of_the_vision_unit_have_weights_of_their_own():
    head, batch = mimic(), ranking_batch()
    before = scores_of(head, batch.mentions, batch.entities)
    head.units["image"].to_mention.whole.weight.data.neg_()
    once = scores_of(head, batch.mentions, batch.entities)
    head.units["image"].to_entity.whole.weight.data.neg_()
    twice = scores_of(head, batch.mentions, batch.entities)
    assert (once - before).abs().max() > 1e-3
    assert (twice - once).abs().max() > 1e-3


def test_sixteen_mentions_are_learnt_by_heart():
    head, batch = mimic(), in_step_batch(16)
    assert hits_at_1(head, batch) < 0.5
    fit(head.train(), batch, 40)
    assert hits_at_1(head, batch) == 1


@pytest.mark.parametrize("mention_images", [None, [0] * 16])
@pytest.mark.parametrize("entity_images", [None, [0] * 16])
def test_it_learns_without_images_on_either_side(mention_images, entity_images):
    batch = in_step_batch(16, 1, mention_images, entity_images)
    check_learns(mimic(dropout=0.1), batch, 40)


def test_defect_training_and_ranking_use_the_same_scores():
    check_same_in_training(mimic())


@WITHOUT
def test_defect_padding_takes_part_in_nothing(without):
    check_padding(mimic(without))


def test_defect_a_gold_of_two_mentions_is_no_negative_of_either():
    # The third candidate of the second mention is a gold; masked, it may be any entity.
    head, batch = mimic(), ranking_batch()
    candidates = batch.candidates.clone()
    candidates[1, 2] = 5
    other = dataclasses.replace(batch, candidates=candidates)
    assert torch.equal(head.loss(other), head.loss(batch))
    # Two mentions alone, of one gold: with no other candidate, there is nothing to lose.
    twice = in_step_batch(2)
    same = dataclasses.replace(twice, golds=1, gold=torch.tensor([0, 0]))
    assert head.loss(same).item() == 0
    assert head.loss(twice).item() > 0


@WITHOUT
def test_defect_a_missing_image_is_not_a_black_one(without):
    check_missing_image(mimic(without))


@WITHOUT
def test_defect_a_batch_of_one_works(without):
    check_batch_of_one(mimic(without))
