import dataclasses
import math

import pytest
import torch
from linking import (
    IMAGE_DIM,
    TEXT_DIM,
    ablations,
    built,
    changed,
    dead_parameters,
    fit,
    hits_at_1,
    in_step_batch,
    link_items,
    mapped,
    padded,
    prepared_tokens,
    ragged,
    ranking_batch,
    reordered,
    scores_of,
    select,
    some_entities,
    some_mentions,
    without_images,
)

from mmsim.models.batch import RankingBatch, Sequences
from mmsim.models.checkpoint import from_pretrained, save_pretrained
from mmsim.models.dwe import ALIGNMENT_WEIGHT, DWE, TEMPERATURE, alignment, triplet
from mmsim.models.linking import take

each_ablation = pytest.mark.parametrize("without", ablations("dwe"))

NO_TRIPLET = -3.0
"""A margin that every negative keeps: of the loss, the alignment is left."""


def dwe(without="nothing", **changes):
    return built(DWE, "dwe", without=without, **changes)


def without_phrases(items):
    none = ragged([0] * len(items.text.mask), TEXT_DIM)
    return changed(items, objects=none, scene=none)


def single_precision(items):
    return mapped(items, lambda each: Sequences(each.values.float(), each.mask))


# The equations, token by token.


def layer_norm(norm, x):
    mean = sum(x) / len(x)
    variance = sum((value - mean) ** 2 for value in x) / len(x)
    return norm.weight * (x - mean) / (variance + norm.eps).sqrt() + norm.bias


def project(projection, token):
    linear = projection.linear
    return layer_norm(projection.norm, linear.weight @ token + linear.bias)


def softmax(scores):
    exps = [math.exp(score) for score in scores]
    return [value / sum(exps) for value in exps]


def mean_of(vectors):
    return sum(vectors) / len(vectors)


def multi_head(attention, x, context):
    width = len(x)
    of_query, of_key, of_value = attention.in_proj_weight.split(width)
    size = width // attention.num_heads
    mixed = []
    for start in range(0, width, size):
        rows = slice(start, start + size)
        query = of_query[rows] @ x
        weights = softmax([float(query @ (of_key[rows] @ y)) / math.sqrt(size) for y in context])
        values = [of_value[rows] @ y for y in context]
        mixed.append(sum(weight * value for weight, value in zip(weights, values, strict=True)))
    return attention.out_proj.weight @ torch.cat(mixed)


def enhance(enhancer, mention, context):
    tokens = []
    for x in mention:
        a = layer_norm(enhancer.norm_attended, x + multi_head(enhancer.attention, x, context))
        hidden = torch.nn.functional.gelu(enhancer.hidden.weight @ a + enhancer.hidden.bias)
        fed = enhancer.out.weight @ hidden + enhancer.out.bias
        tokens.append(layer_norm(enhancer.norm_enhanced, a + fed))
    query = enhancer.query.weight @ mean_of(mention)
    weights = softmax([float(query @ token) / math.sqrt(len(query)) for token in tokens])
    return sum(weight * token for weight, token in zip(weights, tokens, strict=True))


def enhanced_ways(head, items, row):
    """m_v, m_t and m_s of one mention, and P f and P d."""
    of = {
        kind: [
            project(head.project_text, token) for token in prepared_tokens(head, items, row, kind)
        ]
        for kind in ("name", "text", "objects")
    }
    scene = prepared_tokens(head, items, row, "scene")
    ways = {"t": enhance(head.enhance, of["name"], of["text"])}
    if head.project_image is not None:
        cells = prepared_tokens(head, items, row, "image")
        of["cells"] = [project(head.project_image, cell) for cell in cells]
        ways["v"] = enhance(head.enhance, of["name"], of["objects"] + of["cells"])
    if head.no_scene is not None:
        context = [project(head.project_text, token) for token in scene or [head.no_scene]]
        ways["s"] = enhance(head.enhance, of["name"], context)
    return ways, of


def mention_by_the_equations(head, items, row):
    ways, _ = enhanced_ways(head, items, row)
    without = head.config.without
    a = {"image": lambda: ways["t"], "text": lambda: ways["v"]}.get(
        without, lambda: ways["v"] + ways["t"]
    )()
    if without == "attributes":
        return a
    if without == "gate":
        return a + ways["s"]
    logits = head.gate.weight @ torch.cat([a, ways["s"]]) + head.gate.bias
    z = torch.stack([1 / (1 + (-value).exp()) for value in logits])
    return z * a + (1 - z) * ways["s"]


def entity_by_the_equations(head, items, row):
    mean = mean_of(prepared_tokens(head, items, row, "text"))
    return head.entity.weight @ mean + head.entity.bias


def cosine(x, y):
    return float(x @ y) / (math.sqrt(float(x @ x)) * math.sqrt(float(y @ y)))


def alignment_by_the_equations(first, second, gold, temperature):
    total = 0.0
    for i in range(len(gold)):
        rivals = [j for j in range(len(gold)) if j == i or gold[j] != gold[i]]
        for left, right in ((first, second), (second, first)):
            scores = [cosine(left[i], right[j]) / temperature for j in rivals]
            total -= math.log(softmax(scores)[rivals.index(i)]) / (2 * len(gold))
    return total


def loss_by_the_equations(head, batch):
    mentions = [mention_by_the_equations(head, batch.mentions, i) for i in range(len(batch.gold))]
    count = len(batch.entities.text.mask)
    entities = [entity_by_the_equations(head, batch.entities, j) for j in range(count)]
    gold, total = batch.gold.tolist(), 0.0
    for i, mention in enumerate(mentions):
        own = batch.candidates[i][batch.candidate_mask[i]].tolist()
        right = cosine(mention, entities[gold[i]])
        negatives = [j for j in [*range(batch.golds), *own] if j != gold[i]]
        excess = [
            max(0.0, head.config.margin + cosine(mention, entities[j]) - right) for j in negatives
        ]
        total += max(excess, default=0.0) / len(gold)
    without = head.config.without
    if without in ("alignment", "image"):
        return total
    ways, of = zip(*(enhanced_ways(head, batch.mentions, i) for i in range(len(gold))), strict=True)
    temperature = float(head.log_temperature.exp())
    images = batch.mentions.image.mask.any(1).tolist()
    both = [i for i in range(len(gold)) if of[i]["objects"] and images[i]]
    total += ALIGNMENT_WEIGHT * alignment_by_the_equations(
        [mean_of(of[i]["objects"]) for i in both],
        [mean_of(of[i]["cells"]) for i in both],
        [gold[i] for i in both],
        temperature,
    )
    if without != "text":
        vision, text = [way["v"] for way in ways], [way["t"] for way in ways]
        total += ALIGNMENT_WEIGHT * alignment_by_the_equations(vision, text, gold, temperature)
    return total


@torch.no_grad()
@each_ablation
def test_scores_are_those_of_the_equations(without):
    head, mentions, entities = dwe(without), some_mentions(), some_entities()
    scores = scores_of(head, mentions, entities)
    for i in range(5):
        mention = mention_by_the_equations(head, mentions, i)
        for j in range(7):
            entity = entity_by_the_equations(head, entities, j)
            assert scores[i, j].item() == pytest.approx(cosine(mention, entity), abs=1e-9)


@torch.no_grad()
@each_ablation
def test_the_loss_is_that_of_the_equations(without):
    head, batch = dwe(without), ranking_batch()
    assert head.loss(batch).item() == pytest.approx(loss_by_the_equations(head, batch), abs=1e-5)


def test_the_triplet_loss_by_hand():
    scores = torch.tensor([[0.9, 0.5, 0.8, -torch.inf], [0.1, 0.0, 0.9, 0.7]])
    loss = triplet(scores, torch.tensor([0, 2]), margin=0.25)
    # .25 + .8 - .9 for the first; the second's negatives are further away than that.
    assert loss.item() == pytest.approx((0.15 + 0.05) / 2)
    assert triplet(scores[:, :1], torch.tensor([0, 0]), 0.25) == 0


def test_alignment_at_random_is_that_of_chance():
    same = torch.ones(8, 4)
    loss = alignment(same, same, torch.arange(8), torch.tensor(0.07))
    assert loss.item() == pytest.approx(math.log(8), rel=1e-5)


@each_ablation
def test_the_order_of_mentions_and_entities_changes_nothing(without):
    head, batch = dwe(without), ranking_batch()
    orders = [3, 0, 4, 2, 1], [2, 0, 3, 1], [1, 2, 0]
    torch.testing.assert_close(head.loss(reordered(batch, *orders)), head.loss(batch))
    scores = scores_of(head, batch.mentions, batch.entities)
    shuffled = scores_of(head, select(batch.mentions, orders[0]), batch.entities)
    torch.testing.assert_close(shuffled, scores[orders[0]])


@each_ablation
@pytest.mark.parametrize("value", [0.0, 1e3])
def test_padding_changes_nothing(without, value):
    head, batch = dwe(without), ranking_batch()
    more = dataclasses.replace(
        batch, mentions=padded(batch.mentions, value), entities=padded(batch.entities, -value)
    )
    torch.testing.assert_close(head.loss(more), head.loss(batch))
    torch.testing.assert_close(
        scores_of(head, more.mentions, more.entities),
        scores_of(head, batch.mentions, batch.entities),
    )


@each_ablation
def test_a_mention_alone_scores_as_it_does_among_others(without):
    head, mentions, entities = dwe(without), some_mentions(), some_entities()
    scores = scores_of(head, mentions, entities)
    for i in range(5):
        alone = scores_of(head, select(mentions, [i]), select(entities, [i]))
        torch.testing.assert_close(alone, scores[i : i + 1, i : i + 1])


def one_mention(candidates=()):
    """The first mention, its gold and these of five other entities."""
    return RankingBatch(
        select(some_mentions(), [0]),
        some_entities(count=6),
        1,
        torch.tensor([0]),
        torch.tensor([list(candidates) or [0]]),
        torch.tensor([[True] * len(candidates) or [False]]),
    )


@each_ablation
def test_a_batch_of_one_mention_trains(without):
    head, batch = dwe(without, margin=1.9), one_mention([1, 4])
    loss = head.loss(batch)
    loss.backward()
    assert loss > 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


@each_ablation
def test_every_parameter_learns(without):
    assert dead_parameters(dwe(without), ranking_batch()) == []


def test_so_they_do_where_no_mention_has_phrases():
    batch = ranking_batch()
    bare = dataclasses.replace(batch, mentions=without_phrases(batch.mentions))
    for without in ablations("dwe"):
        # Without sentences and phrases there is nothing to align an image with.
        idle = ["log_temperature"] if without == "text" else []
        assert dead_parameters(dwe(without), bare) == idle


@each_ablation
def test_sixteen_mentions_can_be_learnt_by_heart(without):
    head, batch = dwe(without, margin=0.5, width=16), in_step_batch(16)
    assert hits_at_1(head, batch) < 0.5
    fit(head.train(), batch, steps=60, learning_rate=1e-2)
    assert hits_at_1(head, batch) == 1


@pytest.mark.parametrize("side", ["mentions", "entities", "both"])
def test_it_trains_where_a_side_has_no_images_at_all(side):
    none = [0] * 16
    batch = in_step_batch(
        16,
        mention_images=None if side == "entities" else none,
        entity_images=None if side == "mentions" else none,
    )
    head = dwe(margin=0.5, width=16)
    losses = fit(head.train(), batch, steps=60, learning_rate=1e-2)
    assert all(math.isfinite(loss) for loss in losses)
    assert hits_at_1(head, batch) == 1


@each_ablation
def test_lists_of_its_own_score_as_all_entities_do(without):
    head = dwe(without)
    mentions = head.encode_mentions(some_mentions())
    entities = head.encode_entities(some_entities())
    rows = torch.tensor([[6, 0, 2], [1, 1, 3], [0, 5, 4], [2, 3, 4], [6, 5, 0]])
    scores = head.score(mentions, entities)
    torch.testing.assert_close(head.score(mentions, take(entities, rows)), scores.gather(1, rows))
    assert set(head.unit_scores(mentions, entities)) == {"fused"}


def test_the_global_vectors_hold_the_whole_score():
    head = dwe()
    mentions = head.encode_mentions(some_mentions())
    entities = head.encode_entities(some_entities())
    product = head.global_vectors(mentions) @ head.global_vectors(entities).T
    torch.testing.assert_close(product, head.score(mentions, entities))
    assert head.exact_global


def test_an_entitys_image_is_not_looked_at():
    head, mentions, entities = dwe(), some_mentions(), some_entities()
    torch.testing.assert_close(
        scores_of(head, mentions, without_images(entities)), scores_of(head, mentions, entities)
    )


def test_dropout_acts_in_training_only():
    head, mentions, entities = dwe(dropout=0.5), some_mentions(), some_entities()
    first, second = (scores_of(head.train(), mentions, entities) for _ in range(2))
    assert not torch.equal(first, second)
    first, second = (scores_of(head.eval(), mentions, entities) for _ in range(2))
    assert torch.equal(first, second)


def test_what_is_left_out_has_no_parameters():
    def names(without):
        return {name.split(".")[0] for name, _ in dwe(without).named_parameters()}

    gone = {without: names("nothing") - names(without) for without in ablations("dwe")}
    assert gone == {
        "nothing": set(),
        "image": {"inputs", "project_image", "log_temperature"},
        "text": set(),
        "attributes": {"no_scene", "gate"},
        "gate": {"gate"},
        "alignment": {"log_temperature"},
    }


@each_ablation
def test_a_saved_head_scores_as_before(without, tmp_path):
    head, mentions, entities = dwe(without).float(), some_mentions(), some_entities()
    mentions, entities = single_precision(mentions), single_precision(entities)
    save_pretrained(head, tmp_path)
    loaded = from_pretrained(tmp_path)
    assert isinstance(loaded, DWE)
    assert loaded.config == head.config
    assert torch.equal(
        scores_of(loaded, mentions, entities), scores_of(head.eval(), mentions, entities)
    )


def test_half_precision_costs_few_digits():
    batch = ranking_batch()
    batch = dataclasses.replace(
        batch,
        mentions=single_precision(batch.mentions),
        entities=single_precision(batch.entities),
    )
    head = dwe().float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = head.loss(batch)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(head.loss(batch).item(), rel=0.1)


# What the released code gets wrong.


@torch.no_grad()
def test_defect_training_and_ranking_use_one_score():
    head, batch = dwe("alignment"), ranking_batch()
    scores = scores_of(head, batch.mentions, batch.entities)
    total = 0.0
    for i, gold in enumerate(batch.gold.tolist()):
        own = batch.candidates[i][batch.candidate_mask[i]].tolist()
        negatives = [j for j in [*range(batch.golds), *own] if j != gold]
        total += max(max(0, 0.25 + scores[i, j] - scores[i, gold]) for j in negatives) / 5
    assert head.loss(batch).item() == pytest.approx(float(total), abs=1e-6)


def test_defect_longer_vectors_neither_rank_nor_cost_otherwise():
    head, batch = dwe(), ranking_batch()
    before = head.loss(batch), scores_of(head, batch.mentions, batch.entities)
    with torch.no_grad():
        head.entity.weight.mul_(9)
        head.entity.bias.mul_(9)
    after = head.loss(batch), scores_of(head, batch.mentions, batch.entities)
    torch.testing.assert_close(after, before)


def test_defect_the_gold_is_never_a_negative():
    # Two mentions of one gold, which one of them has among its own candidates too.
    batch = RankingBatch(
        select(some_mentions(), [0, 2]),
        some_entities(count=1),
        1,
        torch.tensor([0, 0]),
        torch.tensor([[0], [0]]),
        torch.tensor([[False], [False]]),
    )
    assert dwe("alignment", margin=2.0).loss(batch) == 0


@each_ablation
@pytest.mark.parametrize("images", [True, False])
@pytest.mark.parametrize("phrases", [True, False])
def test_defect_every_path_runs(without, images, phrases):
    batch = ranking_batch()
    mentions = batch.mentions if images else without_images(batch.mentions)
    mentions = mentions if phrases else without_phrases(mentions)
    head = dwe(without)
    loss = head.loss(dataclasses.replace(batch, mentions=mentions))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())
    assert scores_of(head, mentions, batch.entities).isfinite().all()


def test_defect_both_alignment_losses_teach():
    batch = ranking_batch()
    # Neither score nor fusion is in them; without sentences, they are f against d alone.
    alike = {"inputs.no_image", "no_scene", "gate.weight", "gate.bias"}
    alike |= {"entity.weight", "entity.bias"}
    head = dwe(margin=NO_TRIPLET)
    assert head.loss(batch) > 0
    assert set(dead_parameters(head, batch)) <= alike
    head = dwe("text", margin=NO_TRIPLET)
    assert head.loss(batch) > 0
    alive = {"project_text", "project_image", "log_temperature"}
    dead = {name.split(".")[0] for name in dead_parameters(head, batch)}
    assert dead == {name.split(".")[0] for name, _ in head.named_parameters()} - alive


def test_defect_the_temperature_is_learnt():
    head = dwe()
    assert head.log_temperature.exp().item() == pytest.approx(TEMPERATURE)
    head.loss(ranking_batch()).backward()
    assert head.log_temperature.grad != 0


def test_mentions_of_one_gold_are_no_negatives_in_the_alignment():
    first, second = torch.randn(2, 3, 4, dtype=torch.float64)
    temperature = torch.tensor(0.07)
    assert alignment(first, second, torch.tensor([5, 5, 5]), temperature) == 0
    apart = alignment(first, second, torch.arange(3), temperature)
    assert 0 < alignment(first, second, torch.tensor([5, 5, 6]), temperature) < apart


def test_alignment_of_one_mention_or_none_costs_nothing():
    temperature = torch.tensor(0.07)
    for count in (0, 1):
        vectors = torch.randn(2, count, 4)
        assert alignment(*vectors, torch.zeros(count, dtype=torch.int64), temperature) == 0


def test_phrases_are_aligned_only_with_images_that_are_there():
    # Without the sentence, and with no triplet violated, the loss is that of f and d.
    head, batch = dwe("text", margin=NO_TRIPLET), ranking_batch()
    mentions = select(some_mentions(count=6), [0, 1, 2, 3, 5])
    mentions.image.mask[0] = False
    phrases, images = mentions.objects.mask.any(1), mentions.image.mask.any(1)
    assert phrases.tolist() == [True, False, True, True, True]
    assert images.tolist() == [False, False, True, True, True]
    both = phrases & images
    batch = dataclasses.replace(batch, mentions=mentions)
    fewer = dataclasses.replace(
        batch,
        mentions=select(mentions, both),
        gold=batch.gold[both],
        candidates=batch.candidates[both],
        candidate_mask=batch.candidate_mask[both],
    )
    torch.testing.assert_close(head.loss(fewer), head.loss(batch))


def test_defect_absent_phrases_are_masked_and_no_zeros():
    head, mentions, entities = dwe(), without_phrases(some_mentions()), some_entities()
    scores = scores_of(head, mentions, entities)
    for kind in ("objects", "scene"):
        zeros = torch.zeros(5, 2, TEXT_DIM, dtype=torch.float64)
        nothing = Sequences(zeros, torch.zeros(5, 2, dtype=torch.bool))
        there = Sequences(zeros, torch.ones(5, 2, dtype=torch.bool))
        absent = scores_of(head, changed(mentions, **{kind: nothing}), entities)
        present = scores_of(head, changed(mentions, **{kind: there}), entities)
        torch.testing.assert_close(absent, scores)
        assert ((present - scores).abs() > 1e-6).all()


def test_phrases_count_where_they_are_there():
    head, entities = dwe(), some_entities()
    lengths = [2, 3], [2, 2], [1, 2]
    bare = link_items(*lengths)
    for given in ({"objects": [2, 1]}, {"scene": [1, 2]}):
        said = link_items(*lengths, **given)
        assert not torch.allclose(scores_of(head, said, entities), scores_of(head, bare, entities))


def test_an_image_counts_and_a_missing_one_is_no_black_one():
    head, mentions, entities = dwe(), some_mentions(), some_entities()
    missing = without_images(mentions)
    black = changed(
        mentions,
        image=Sequences(
            torch.zeros(5, 2, IMAGE_DIM, dtype=torch.float64), torch.ones(5, 2, dtype=torch.bool)
        ),
    )
    scores = [scores_of(head, items, entities)[0] for items in (mentions, missing, black)]
    for i, j in ((0, 1), (1, 2), (0, 2)):
        assert not torch.allclose(scores[i], scores[j], atol=1e-4)
