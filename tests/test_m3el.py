import dataclasses
import math

import pytest
import torch
from linking import (
    ablations,
    built,
    changed,
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
    ragged,
    ranking_batch,
    reordered,
    scores_of,
    sentence_by_hand,
    softmax,
    some_entities,
    some_mentions,
    without_images,
)

from mmsim.models.batch import Sequences
from mmsim.models.linking import dot
from mmsim.models.m3el import M3EL, contrast, soft_maxima

UNITS = ["text", "image", "text_image", "image_text"]
CROSS = ["text_image", "image_text"]
WITHOUT = pytest.mark.parametrize("without", ablations("m3el"))


def m3el(without="nothing", seed=0, **changes):
    return built(M3EL, "m3el", seed, without=without, **changes)


def projected(head, items, row, kind):
    """T or V of one item: a list of vectors."""
    layer = getattr(head, kind)
    return [layer.weight @ x + layer.bias for x in prepared_tokens(head, items, row, kind)]


def look_by_hand(unit, query, keys):
    """One row of M(p, q)."""
    mapped = [unit.attend.weight @ key for key in keys]
    weights = softmax([query @ key for key in mapped])
    return (unit.attend.weight @ mixed(weights, keys)).clamp(min=0)


def looks_by_hand(unit, own, other):
    """The global x, and the rows of Z, of one item's leading and other tokens."""
    x = unit.lead.weight @ mean(own)
    keys = [x, *(unit.lead.weight @ token for token in own)]
    y = [unit.follow.weight @ token for token in other]
    return x, [look_by_hand(unit, x, y), *(look_by_hand(unit, token, keys) for token in y)]


def soft_maxima_by_hand(rows):
    channels = []
    for values in zip(*[row.tolist() for row in rows], strict=True):
        pooled = [mixed(softmax([t * z for z in values]), values) for t in (2, 2.5, 3.5, 4.5)]
        pooled.append(max(values))
        channels.append(sum(sum(values) / len(values) + soft for soft in pooled) / 5)
    return torch.tensor(channels, dtype=torch.float64)


def cross_by_hand(unit, own, other):
    x, z = looks_by_hand(unit, own, other)
    gate = torch.tanh(unit.gate.weight[0] @ x)
    return layer_norm(unit.norm, gate * x + soft_maxima_by_hand(z))


@torch.no_grad()
def units_by_hand(head, mentions, row, entities, column):
    """The equations of the module for one mention and one entity."""
    words, cells = (projected(head, mentions, row, kind) for kind in ("text", "image"))
    entity_words, entity_cells = (
        projected(head, entities, column, kind) for kind in ("text", "image")
    )
    by_text, by_image = head.units["text_image"], head.units["image_text"]
    sentences = (
        sentence_by_hand(head, mentions, row),
        sentence_by_hand(head, entities, column),
    )
    return {
        "text": matching_by_hand(head.units["text"], words, entity_words, sentences),
        "image": matching_by_hand(head.units["image"], cells, entity_cells),
        "text_image": cross_by_hand(by_text, words, cells)
        @ cross_by_hand(by_text, entity_words, entity_cells),
        "image_text": cross_by_hand(by_image, cells, words)
        @ cross_by_hand(by_image, entity_cells, entity_words),
    }


def contrast_by_hand(mentions, golds, gold):
    """The loss of its equations, row after row; rows of one gold are skipped as negatives."""
    m = [vector / vector.norm() for vector in mentions]
    e = [vector / vector.norm() for vector in golds]
    losses = []
    for one, other in ((e, m), (m, e)):
        for i in range(len(gold)):
            positive = math.exp(one[i] @ other[i] / 0.03)
            total = positive
            for j in range(len(gold)):
                if gold[j] != gold[i]:
                    total += math.exp(one[i] @ other[j] / 0.03)
                    total += math.exp(0.8 * one[i] @ one[j] / 0.03)
            losses.append(-math.log(positive / total))
    return sum(losses) / len(losses)


def contrastive_loss(head, batch):
    return head.contrastive_loss(
        head.features(batch.mentions), head.features(batch.entities), batch
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_units_are_the_equations_of_the_docstring(seed):
    head, mentions, entities = m3el(seed=seed), some_mentions(seed), some_entities(seed + 50)
    units = head.unit_scores(head.encode_mentions(mentions), head.encode_entities(entities))
    assert list(units) == UNITS
    for row in range(5):
        for column in range(7):
            expected = units_by_hand(head, mentions, row, entities, column)
            for name, scores in units.items():
                torch.testing.assert_close(scores[row, column], expected[name])


@WITHOUT
def test_the_score_is_the_mean_of_the_units_that_are_left(without):
    head = m3el(without)
    encoded = head.encode_mentions(some_mentions()), head.encode_entities(some_entities())
    units = head.unit_scores(*encoded)
    assert list(units) == [name for name in UNITS if name != without]
    torch.testing.assert_close(head.score(*encoded), sum(units.values()) / len(units))


@WITHOUT
def test_the_loss_is_that_of_the_score_the_units_and_the_contrast(without):
    head, batch = m3el(without), ranking_batch()
    encoded = head.encode_mentions(batch.mentions), head.encode_entities(batch.entities)
    expected = cross_entropy_by_hand(head.score(*encoded), batch)
    if without != "unit_losses":
        units = head.unit_scores(*encoded).values()
        expected += sum(cross_entropy_by_hand(scores, batch) for scores in units)
    if without != "contrastive":
        expected += contrastive_loss(head, batch).item()
    assert head.loss(batch).item() == pytest.approx(expected, rel=1e-5)


@WITHOUT
def test_order_does_not_matter(without):
    check_order(m3el(without))


@WITHOUT
def test_own_lists_and_all_against_all_agree(without):
    check_own_lists(m3el(without))


@WITHOUT
def test_no_parameter_is_dead(without):
    assert dead_parameters(m3el(without), ranking_batch()) == []


@WITHOUT
def test_the_global_vectors_give_the_decomposable_part_of_the_score(without):
    head = m3el(without)
    mentions, entities = some_mentions(), some_entities()
    m, e = head.encode_mentions(mentions), head.encode_entities(entities)
    units = head.unit_scores(m, e)
    parts = {name: units[name] for name in CROSS if name != without}
    for kind in ("text", "image"):
        whole = [head.features(items).broad[kind] for items in (mentions, entities)]
        parts[kind] = dot(*whole) / 2
    parts.pop(without, None)
    expected = sum(parts.values()) / len(units)
    torch.testing.assert_close(dot(head.global_vectors(m), head.global_vectors(e)), expected)


def test_soft_maxima_lie_between_mean_and_maximum():
    z = ragged([4, 2, 3], 5, seed=3)
    for row in range(3):
        real = z.values[row][z.mask[row]]
        pooled = soft_maxima(z)[row]
        torch.testing.assert_close(pooled, soft_maxima_by_hand(real))
        assert (pooled > 2 * real.mean(0)).all()
        assert (pooled < real.mean(0) + real.amax(0)).all()
    only = ragged([1], 5)
    torch.testing.assert_close(soft_maxima(only), 2 * only.values[:, 0])


@pytest.mark.parametrize("gold", [[0, 1, 2, 3, 4], [0, 1, 0, 2, 0], [3, 3, 3, 3, 3], [7]])
def test_contrast_is_the_equation_of_the_docstring(gold):
    generator = torch.Generator().manual_seed(2)
    vectors = torch.randn(2, 8, 4, generator=generator, dtype=torch.float64)
    mentions, golds = vectors[0, : len(gold)], vectors[1, gold]
    expected = contrast_by_hand(mentions, golds, gold)
    loss = contrast(mentions, golds, torch.tensor(gold))
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_contrast_is_low_where_mentions_lie_at_their_golds_and_apart_from_the_others():
    apart, close = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.9, 0.4]])
    gold = torch.tensor([0, 1])
    at_gold = contrast(apart, apart, gold)
    assert at_gold < contrast(apart.flip(0), apart, gold)
    assert at_gold < contrast(close, close, gold)
    assert contrast(3 * apart, apart / 2, gold) == at_gold


def test_the_contrastive_loss_is_of_texts_and_of_images_that_are_there_on_both_sides():
    head, batch = m3el(), ranking_batch()
    gold = batch.gold.tolist()
    both = [
        row
        for row in range(5)
        if batch.mentions.image.mask[row].any() and batch.entities.image.mask[gold[row]].any()
    ]
    assert 2 <= len(both) < 5

    def broad(kind, items, row):
        if kind == "text":
            return sentence_by_hand(head, items, row)
        return mean(projected(head, items, row, kind))

    def by_hand(kind, rows):
        with torch.no_grad():
            mentions = [broad(kind, batch.mentions, row) for row in rows]
            golds = [broad(kind, batch.entities, gold[row]) for row in rows]
        return contrast_by_hand(mentions, golds, [gold[row] for row in rows])

    expected = (by_hand("text", range(5)) + by_hand("image", both)) / 2
    assert contrastive_loss(head, batch).item() == pytest.approx(expected, rel=1e-5)


def test_the_vector_of_a_missing_image_has_no_part_in_the_contrast():
    head, batch = m3el(), ranking_batch()
    contrastive_loss(head, batch).backward()
    assert not head.inputs.no_image.grad.any()
    assert head.image.weight.grad.any()
    assert head.sentence.weight.grad.any()


@pytest.mark.parametrize("side", ["mentions", "entities"])
def test_without_images_the_contrast_is_of_texts_alone(side):
    head, batch = m3el(), ranking_batch()
    bare = dataclasses.replace(batch, **{side: without_images(getattr(batch, side))})
    text = [head.features(items).broad["text"] for items in (batch.mentions, batch.entities)]
    expected = contrast(text[0], text[1][batch.gold], batch.gold) / 2
    torch.testing.assert_close(contrastive_loss(head, bare), expected)
    loss = head.loss(bare)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


def test_sixteen_mentions_are_learnt_by_heart():
    head, batch = m3el(), in_step_batch(16)
    assert hits_at_1(head, batch) < 0.5
    fit(head.train(), batch, 40)
    assert hits_at_1(head, batch) == 1


@pytest.mark.parametrize("mention_images", [None, [0] * 16])
@pytest.mark.parametrize("entity_images", [None, [0] * 16])
def test_it_learns_without_images_on_either_side(mention_images, entity_images):
    batch = in_step_batch(16, 1, mention_images, entity_images)
    check_learns(m3el(dropout=0.1), batch, 40)


def test_defect_training_and_ranking_use_the_same_scores():
    check_same_in_training(m3el())


@pytest.mark.parametrize("unit", CROSS)
def test_defect_both_directions_of_the_cross_modal_module_rank(unit):
    head, mentions, entities = m3el().eval(), some_mentions(), some_entities()
    before = scores_of(head, mentions, entities)
    head.units[unit].attend.weight.data.neg_()
    assert (scores_of(head, mentions, entities) - before).abs().max() > 1e-3


@pytest.mark.parametrize("unit", CROSS)
def test_defect_what_a_token_finds_in_the_other_modality_depends_on_the_token(unit):
    head = m3el()
    unit, features = head.units[unit], head.features(some_mentions())
    x, z = unit.looks(features)
    compared = 0
    for row in range(5):
        found = z.values[row, 1:][z.mask[row, 1:]]
        if len(found) > 1 and features.tokens[unit.leading].mask[row].sum() > 1:
            assert found.std(0).max() > 1e-4
            compared += 1
    assert compared >= 2
    # With the global vector as the only key, every token would find the same.
    other = features.tokens[unit.other]
    alone = Sequences(x[:, None], torch.ones(len(x), 1, dtype=torch.bool))
    same = unit.look(unit.follow(other.values), alone)
    torch.testing.assert_close(same, same[:, :1].expand_as(same))


@WITHOUT
def test_defect_padding_takes_part_in_nothing(without):
    check_padding(m3el(without))


def test_defect_mentions_with_the_same_gold_are_no_negatives_of_each_other():
    # Two mentions alone, of one gold: there is nothing to tell them from.
    head, twice = m3el(), in_step_batch(2, mention_images=[2, 3], entity_images=[4, 1])
    same = dataclasses.replace(twice, golds=1, gold=torch.tensor([0, 0]))
    assert contrastive_loss(head, same).item() == 0
    assert head.loss(same).item() == 0
    assert contrastive_loss(head, twice).item() > 0
    # A third mention, of another gold, stands against both, as if each were alone with it.
    batch = ranking_batch()
    order = [0, 2, 4], [2, 0, 1, 3], [0, 1, 2]
    three = reordered(batch, *order)
    assert three.gold.tolist() == [0, 0, 2]
    features = head.features(three.mentions), head.features(three.entities)
    mentions, golds = features[0].broad["text"], features[1].broad["text"][three.gold]
    expected = contrast_by_hand(mentions.detach(), golds.detach(), [0, 0, 2])
    assert contrast(mentions, golds, three.gold).item() == pytest.approx(expected, rel=1e-5)


@WITHOUT
def test_defect_a_missing_image_is_not_a_black_one(without):
    check_missing_image(m3el(without))


def test_defect_the_masked_cells_of_a_missing_image_are_never_seen():
    head, batch = m3el(), ranking_batch()
    image = batch.mentions.image
    noise = torch.where(image.mask[..., None], image.values, 50.0)
    other = changed(batch.mentions, image=Sequences(noise, image.mask))
    again = dataclasses.replace(batch, mentions=other)
    torch.testing.assert_close(head.loss(again), head.loss(batch))


@WITHOUT
def test_defect_a_batch_of_one_works(without):
    check_batch_of_one(m3el(without))
