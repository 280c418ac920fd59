import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linking import (
    built,
    changed,
    dead_parameters,
    fit,
    hits_at_1,
    in_step_batch,
    link_config,
    mapped,
    padded,
    prepared_tokens,
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
from mmsim.models.link_siamese import LinkSiamese
from mmsim.models.linking import take

ATTENTIONS = ["none", "base", "cross"]
each_attention = pytest.mark.parametrize("attention", ATTENTIONS)


def siamese(attention, **changes):
    return built(LinkSiamese, "siamese", attention=attention, **changes)


def single_precision(items):
    return mapped(items, lambda each: Sequences(each.values.float(), each.mask))


# The equations, token by token.


def mean_of(vectors):
    return sum(vectors) / len(vectors)


def softmax(scores):
    exps = [math.exp(score) for score in scores]
    return [value / sum(exps) for value in exps]


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def attended(pool, own, context):
    """The mean over the tokens of multi-head attention to the context."""
    size, value_size = pool.head_width, len(pool.value.weight) // pool.heads
    heads = []
    for h in range(pool.heads):
        rows = slice(h * size, (h + 1) * size)
        value_rows = slice(h * value_size, (h + 1) * value_size)
        outputs = []
        for x in own:
            query = pool.query.weight[rows] @ x
            keys = [pool.key.weight[rows] @ y for y in context]
            weights = softmax([float(query @ key) / math.sqrt(size) for key in keys])
            values = [pool.value.weight[value_rows] @ y for y in context]
            outputs.append(sum(w * value for w, value in zip(weights, values, strict=True)))
        heads.append(mean_of(outputs))
    return torch.cat(heads)


def branch_by_the_equations(branch, attention, own, other):
    if attention == "none":
        hidden = [gelu(branch.pool.hidden.weight @ x) for x in own]
        added = mean_of([branch.pool.value.weight @ h for h in hidden])
    else:
        added = attended(branch.pool, own, other if attention == "cross" else own)
    x = branch.mean.weight @ mean_of(own) + branch.mean.bias + branch.gate * added
    deviation = (((x - x.mean()) ** 2).mean() + branch.norm.eps).sqrt()
    h = branch.norm.weight * (x - x.mean()) / deviation + branch.norm.bias
    hidden = gelu(branch.hidden.weight @ h + branch.hidden.bias)
    return h + branch.out.weight @ hidden + branch.out.bias


def embedding_by_the_equations(head, items, row):
    image, text = (prepared_tokens(head, items, row, kind) for kind in ("image", "text"))
    attention = head.config.attention
    both = [
        branch_by_the_equations(head.image, attention, image, text),
        branch_by_the_equations(head.text, attention, text, image),
    ]
    return head.fuse.weight @ torch.cat(both) + head.fuse.bias


def cosine(x, y):
    return float(x @ y) / (math.sqrt(float(x @ x)) * math.sqrt(float(y @ y)))


@torch.no_grad()
@each_attention
def test_scores_and_loss_are_those_of_the_equations(attention):
    head, batch = siamese(attention), ranking_batch()
    mentions = [embedding_by_the_equations(head, batch.mentions, i) for i in range(5)]
    entities = [embedding_by_the_equations(head, batch.entities, j) for j in range(7)]
    expected = [[cosine(mention, entity) for entity in entities] for mention in mentions]
    scores = scores_of(head, batch.mentions, batch.entities)
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.float64))
    loss = 0.0
    for i, gold in enumerate(batch.gold.tolist()):
        own = batch.candidates[i][batch.candidate_mask[i]].tolist()
        candidates = [*range(batch.golds), *own]
        weights = softmax([expected[i][j] / head.config.temperature for j in candidates])
        loss -= math.log(weights[gold]) / 5
    assert head.loss(batch).item() == pytest.approx(loss, rel=1e-5)


@each_attention
def test_the_order_of_mentions_and_entities_changes_nothing(attention):
    head, batch = siamese(attention), ranking_batch()
    orders = [3, 0, 4, 2, 1], [2, 0, 3, 1], [1, 2, 0]
    torch.testing.assert_close(head.loss(reordered(batch, *orders)), head.loss(batch))
    scores = scores_of(head, batch.mentions, batch.entities)
    shuffled = scores_of(head, select(batch.mentions, orders[0]), batch.entities)
    torch.testing.assert_close(shuffled, scores[orders[0]])


@each_attention
@pytest.mark.parametrize("value", [0.0, 1e3])
def test_padding_changes_nothing(attention, value):
    head, batch = siamese(attention), ranking_batch()
    more = dataclasses.replace(
        batch, mentions=padded(batch.mentions, value), entities=padded(batch.entities, -value)
    )
    torch.testing.assert_close(head.loss(more), head.loss(batch))
    torch.testing.assert_close(
        scores_of(head, more.mentions, more.entities),
        scores_of(head, batch.mentions, batch.entities),
    )


@each_attention
def test_a_mention_alone_scores_as_it_does_among_others(attention):
    head, mentions, entities = siamese(attention), some_mentions(), some_entities()
    scores = scores_of(head, mentions, entities)
    for i in range(5):
        alone = scores_of(head, select(mentions, [i]), select(entities, [i]))
        torch.testing.assert_close(alone, scores[i : i + 1, i : i + 1])


@each_attention
def test_a_batch_of_one_mention_trains(attention):
    head = siamese(attention)
    batch = RankingBatch(
        select(some_mentions(), [0]),
        some_entities(count=6),
        1,
        torch.tensor([0]),
        torch.tensor([[1, 4]]),
        torch.tensor([[True, True]]),
    )
    loss = head.loss(batch)
    loss.backward()
    assert loss > 0
    assert all(p.grad.isfinite().all() for p in head.parameters())


@each_attention
def test_every_parameter_learns(attention):
    assert dead_parameters(siamese(attention), ranking_batch()) == []


@each_attention
def test_sixteen_mentions_can_be_learnt_by_heart(attention):
    head, batch = siamese(attention, width=16), in_step_batch(16)
    assert hits_at_1(head, batch) < 0.5
    fit(head.train(), batch, steps=60, learning_rate=1e-2)
    assert hits_at_1(head, batch) == 1


@each_attention
@pytest.mark.parametrize("side", ["mentions", "entities", "both"])
def test_it_trains_where_a_side_has_no_images_at_all(attention, side):
    none = [0] * 16
    batch = in_step_batch(
        16,
        mention_images=None if side == "entities" else none,
        entity_images=None if side == "mentions" else none,
    )
    head = siamese(attention, width=16)
    losses = fit(head.train(), batch, steps=60, learning_rate=1e-2)
    assert all(math.isfinite(loss) for loss in losses)
    assert hits_at_1(head, batch) == 1


@each_attention
def test_lists_of_its_own_score_as_all_entities_do(attention):
    head = siamese(attention)
    mentions = head.encode_mentions(some_mentions())
    entities = head.encode_entities(some_entities())
    rows = torch.tensor([[6, 0, 2], [1, 1, 3], [0, 5, 4], [2, 3, 4], [6, 5, 0]])
    scores = head.score(mentions, entities)
    torch.testing.assert_close(head.score(mentions, take(entities, rows)), scores.gather(1, rows))
    assert set(head.unit_scores(mentions, entities)) == {"fused"}


@each_attention
def test_the_global_vectors_hold_the_whole_score(attention):
    head = siamese(attention)
    mentions = head.encode_mentions(some_mentions())
    entities = head.encode_entities(some_entities())
    product = head.global_vectors(mentions) @ head.global_vectors(entities).T
    torch.testing.assert_close(product, head.score(mentions, entities))
    assert head.exact_global


@each_attention
def test_mention_and_entity_pass_through_the_same_weights(attention):
    head, items = siamese(attention), some_mentions()
    torch.testing.assert_close(
        scores_of(head, items, items).diagonal(), torch.ones(5, dtype=torch.float64)
    )


def image_part(head, items):
    """What the image's branch says, alone or in the light of the text."""
    items = head.inputs(items)
    rows = torch.arange(len(items.text.mask))
    return head.image(items.image, items.text, (rows, rows))


@each_attention
def test_only_cross_attention_reads_an_image_in_the_light_of_its_own_text(attention):
    head, items = siamese(attention), some_mentions()
    retold = changed(items, text=some_mentions(seed=99).text)
    same = torch.isclose(image_part(head, retold), image_part(head, items)).all(1)
    # A missing image is one token: what it attends to still differs.
    assert same.tolist() == [attention != "cross"] * 5


@each_attention
def test_a_missing_image_is_no_black_one(attention):
    head, items, entities = siamese(attention), some_mentions(), some_entities()
    missing = without_images(items)
    there = torch.ones_like(items.image.mask)
    black = changed(items, image=Sequences(torch.zeros_like(items.image.values), there))
    first, second = (scores_of(head, each, entities) for each in (missing, black))
    assert not torch.isclose(first, second, atol=1e-4).all(1).any()


def test_dropout_acts_in_training_only():
    head, mentions, entities = siamese("cross", dropout=0.5), some_mentions(), some_entities()
    first, second = (scores_of(head.train(), mentions, entities) for _ in range(2))
    assert not torch.equal(first, second)
    first, second = (scores_of(head.eval(), mentions, entities) for _ in range(2))
    assert torch.equal(first, second)


def parameter_counts(**sizes):
    with torch.device("meta"):
        heads = [LinkSiamese(link_config("siamese", attention=a, **sizes)) for a in ATTENTIONS]
    return [sum(value.numel() for value in head.parameters()) for head in heads]


@given(
    st.sampled_from([512, 2048]),
    st.sampled_from([384, 768]),
    st.integers(64, 1024),
    st.integers(1, 16),
    st.integers(8, 64),
)
@settings(max_examples=30, deadline=None)
def test_the_three_attentions_have_the_same_number_of_parameters(
    image_dim, text_dim, share, heads, head_width
):
    counts = parameter_counts(
        image_dim=image_dim,
        text_dim=text_dim,
        width=share * heads,
        heads=heads,
        head_width=head_width,
    )
    assert max(counts) <= 1.02 * min(counts)


@each_attention
def test_a_saved_head_scores_as_before(attention, tmp_path):
    head = siamese(attention).float().eval()
    mentions, entities = single_precision(some_mentions()), single_precision(some_entities())
    save_pretrained(head, tmp_path)
    loaded = from_pretrained(tmp_path)
    assert isinstance(loaded, LinkSiamese)
    assert loaded.config == head.config
    assert torch.equal(scores_of(loaded, mentions, entities), scores_of(head, mentions, entities))


@each_attention
def test_half_precision_costs_few_digits(attention):
    batch = ranking_batch()
    batch = dataclasses.replace(
        batch,
        mentions=single_precision(batch.mentions),
        entities=single_precision(batch.entities),
    )
    head = siamese(attention, temperature=1.0).float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = head.loss(batch)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(head.loss(batch).item(), rel=0.03)
