"""Small mentions, entities and batches, made of random numbers, for tests of the linking heads.

Everything is in double precision, so that a head can be compared with its equations to the last
digits: use `built(Head, "name")`, or call ``.double()`` on a head of your own. The `check_...`
functions hold what any head must fulfil; the functions at the end are sums and means written out
for one item, to write a head's equations with.
"""

import dataclasses
import math

import torch
from synthetic import sequences, with_padding

from mmsim.catalogue import CATALOGUE
from mmsim.models.batch import LinkItems, RankingBatch, Sequences
from mmsim.models.linking import LinkConfig, ranking_scores, take

IMAGE_DIM, TEXT_DIM = 7, 6
FIELDS = [field.name for field in dataclasses.fields(LinkItems)]


def link_config(name, **changes):
    """Configuration of a small head; nothing is dropped, so that it is deterministic."""
    sizes = {"image_dim": IMAGE_DIM, "text_dim": TEXT_DIM, "width": 8, "unit_width": 8}
    rest = {"attention": "cross", "heads": 2, "head_width": 3, "dropout": 0.0}
    losses = {"temperature": 0.1, "margin": 0.25, "without": "nothing"}
    return LinkConfig(name, **(sizes | rest | losses | changes))


def built(head_class, name, seed=0, **changes):
    """A head in double precision, with statistics of the features that are not 0 and 1."""
    torch.manual_seed(seed)
    head = head_class(link_config(name, **changes)).double()
    head.inputs.text.set_statistics(torch.randn(TEXT_DIM) / 4, torch.rand(TEXT_DIM) + 0.5)
    head.inputs.image.set_statistics(torch.randn(IMAGE_DIM) / 4, torch.rand(IMAGE_DIM) + 0.5)
    return head


def ablations(name):
    """What can be left out of the head, "nothing" first."""
    return ["nothing", *CATALOGUE[name].parts]


def ragged(lengths, dim, seed=0):
    """Random tokens, as many as `lengths` says for each item; 0 is an item without any."""
    items = sequences([*lengths, 1], dim, seed, torch.float64)
    return Sequences(items.values[:-1], items.mask[:-1])


def link_items(text, image, name=None, objects=None, scene=None, seed=0):
    """Items with as many tokens of each kind as the lists say; 0 is a missing one."""
    none = [0] * len(text)
    return LinkItems(
        text=ragged(text, TEXT_DIM, seed),
        image=ragged(image, IMAGE_DIM, seed + 1),
        name=ragged(name or none, TEXT_DIM, seed + 2),
        objects=ragged(objects or none, TEXT_DIM, seed + 3),
        scene=ragged(scene or none, TEXT_DIM, seed + 4),
    )


def some_mentions(seed=10, count=5):
    """Up to six mentions: the second and the last lack an image, others some phrases."""
    lengths = [3, 1, 5, 2, 4, 2], [4, 0, 2, 4, 0, 3], [1, 2, 1, 3, 1, 2]
    phrases = [2, 0, 3, 1, 0, 1], [1, 0, 0, 2, 1, 1]
    return link_items(*(list(kind[:count]) for kind in (*lengths, *phrases)), seed=seed)


def some_entities(seed=20, count=7):
    """Up to seven entities: the second and the fifth lack an image."""
    return link_items([2, 4, 1, 3, 5, 2, 3][:count], [3, 0, 4, 1, 0, 4, 2][:count], seed=seed)


def ranking_batch(seed=10):
    """Five mentions, the first and the third with the same gold, over seven entities.

    The first four entities are golds. One row of candidates is all padding; the padding, and a
    candidate that is among the golds, are masked.
    """
    return RankingBatch(
        mentions=some_mentions(seed),
        entities=some_entities(seed + 10),
        golds=4,
        gold=torch.tensor([2, 0, 2, 3, 1]),
        candidates=torch.tensor([[4, 5, 6], [6, 1, 0], [0, 0, 0], [5, 4, 0], [6, 4, 5]]),
        candidate_mask=torch.tensor(
            [[True] * 3, [True, False, False], [False] * 3, [True, True, False], [True] * 3]
        ),
    )


def in_step_batch(count=16, seed=0, mention_images=None, entity_images=None):
    """Mention i has gold i and a gold of another as its only (masked) candidate of its own.

    `mention_images` and `entity_images` give the number of cells of each item's image.
    """
    generator = torch.Generator().manual_seed(seed)

    def lengths(low):
        return torch.randint(low, 5, (count,), generator=generator).tolist()

    mention_images = lengths(0) if mention_images is None else mention_images
    entity_images = lengths(0) if entity_images is None else entity_images
    phrases = lengths(1), lengths(0), lengths(0)
    return RankingBatch(
        mentions=link_items(lengths(1), mention_images, *phrases, seed=seed + 1),
        entities=link_items(lengths(1), entity_images, seed=seed + 10),
        golds=count,
        gold=torch.arange(count),
        candidates=torch.zeros(count, 1, dtype=torch.int64),
        candidate_mask=torch.zeros(count, 1, dtype=torch.bool),
    )


def changed(items, **sequences_by_name):
    """The items with some of their sequences replaced."""
    return dataclasses.replace(items, **sequences_by_name)


def mapped(items, change):
    """The items with `change` done to each of their sequences."""
    return LinkItems(**{name: change(getattr(items, name)) for name in FIELDS})


def select(items, rows):
    """The items at `rows`, a list or a tensor of positions."""
    return mapped(items, lambda each: Sequences(each.values[rows], each.mask[rows]))


def padded(items, value, extra=3):
    """The items with more padding in every sequence, and `value` in all padding."""
    return mapped(items, lambda each: with_padding(each, value, extra))


def without_images(items):
    """The items with no image at all."""
    image = items.image
    return changed(items, image=Sequences(image.values, torch.zeros_like(image.mask)))


def reordered(batch, mention_order, gold_order, other_order):
    """The same batch with its mentions, its golds and its other entities in another order."""
    orders = [torch.as_tensor(order) for order in (mention_order, gold_order, other_order)]
    entity_order = torch.cat([orders[1], orders[2] + batch.golds])
    place = torch.empty_like(entity_order)
    place[entity_order] = torch.arange(len(entity_order))
    return RankingBatch(
        mentions=select(batch.mentions, orders[0]),
        entities=select(batch.entities, entity_order),
        golds=batch.golds,
        gold=place[batch.gold[orders[0]]],
        candidates=place[batch.candidates[orders[0]]],
        candidate_mask=batch.candidate_mask[orders[0]],
    )


def prepared_tokens(head, items, row, kind):
    """The real tokens of one item as the equations see them: a list of vectors.

    Standardised; a missing image is the learned vector alone.
    """
    sequences_ = getattr(items, kind)
    real = [
        token
        for token, there in zip(sequences_.values[row], sequences_.mask[row], strict=True)
        if there
    ]
    if kind == "image" and not real:
        return [head.inputs.no_image]
    scale = head.inputs.image if kind == "image" else head.inputs.text
    return [(token - scale.mean) / scale.deviation for token in real]


def scores_of(head, mentions, entities):
    """Scores of all mentions against all entities."""
    return head.score(head.encode_mentions(mentions), head.encode_entities(entities))


def dead_parameters(head, batch):
    """Names of parameters that the loss of the batch does not depend on."""
    head.zero_grad(set_to_none=True)
    head.loss(batch).backward()
    return [
        name
        for name, parameter in head.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().max() > 1e-6
    ]


def fit(head, batch, steps, learning_rate=1e-2):
    """Train on one batch; the losses before each step."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=learning_rate)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = head.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def hits_at_1(head, batch):
    """Share of mentions whose gold scores above all other golds of the batch."""
    scores = scores_of(head.eval(), batch.mentions, batch.entities)[:, : batch.golds]
    gold = scores.gather(1, batch.gold[:, None])
    return (scores >= gold).sum(1).eq(1).double().mean().item()


def check_order(head):
    """Mentions and entities may stand in any order."""
    mentions, entities, batch = some_mentions(), some_entities(), ranking_batch()
    rows, columns = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([5, 2, 0, 6, 1, 4, 3])
    scores = scores_of(head, mentions, entities)
    shuffled = scores_of(head, select(mentions, rows), select(entities, columns))
    torch.testing.assert_close(shuffled, scores[rows][:, columns])
    again = reordered(batch, rows, [2, 0, 3, 1], [1, 2, 0])
    torch.testing.assert_close(head.loss(again), head.loss(batch), rtol=1e-5, atol=0)


def check_padding(head):
    """Neither the amount of padding nor what it holds changes scores or loss."""
    mentions, entities, batch = some_mentions(), some_entities(), ranking_batch()
    for value in (1e3, -1e3):
        more = padded(mentions, value), padded(entities, -value, extra=5)
        torch.testing.assert_close(scores_of(head, *more), scores_of(head, mentions, entities))
        wider = dataclasses.replace(batch, mentions=more[0], entities=more[1])
        torch.testing.assert_close(head.loss(wider), head.loss(batch), rtol=1e-5, atol=0)


def check_batch_of_one(head):
    """One mention by itself has the score that it has among others, and a loss."""
    mentions, entities = some_mentions(), some_entities()
    scores = scores_of(head, mentions, entities)
    for row in range(5):
        alone = scores_of(head, select(mentions, [row]), select(entities, [row]))
        assert alone.shape == (1, 1)
        torch.testing.assert_close(alone, scores[[row]][:, [row]])
    batch = in_step_batch(1, mention_images=[3], entity_images=[2])
    loss = head.loss(batch)
    loss.backward()
    assert loss.shape == () and loss.isfinite()


def check_own_lists(head):
    """Scores against entities of one's own are those of all against all."""
    batch = ranking_batch()
    mentions, entities = head.encode_mentions(batch.mentions), head.encode_entities(batch.entities)
    every = head.unit_scores(mentions, entities)
    own = head.unit_scores(mentions, take(entities, batch.candidates))
    assert list(own) == list(every)
    for name, scores in own.items():
        torch.testing.assert_close(scores, every[name].gather(1, batch.candidates))


def check_same_in_training(head):
    """What is trained is what ranks: the loss is over the very scores of evaluation."""
    batch = ranking_batch()
    ranked = scores_of(head.eval(), batch.mentions, batch.entities)
    head.train()
    mentions, entities = head.encode_mentions(batch.mentions), head.encode_entities(batch.entities)
    trained = head.combine(ranking_scores(head, mentions, entities, batch))
    torch.testing.assert_close(trained[:, : batch.golds], ranked[:, : batch.golds].float())


def check_missing_image(head):
    """A missing image is the learned vector as the image's one token, and no zeros."""
    mentions, entities = some_mentions(), some_entities()
    missing = ~mentions.image.mask.any(1)
    scores = scores_of(head, mentions, entities)

    def with_cell(cell):
        image = padded(mentions, 0.0).image
        image.values[missing, 0] = cell.detach()
        image.mask[missing, 0] = True
        return scores_of(head, changed(mentions, image=image), entities)

    scale = head.inputs.image
    learned = head.inputs.no_image * scale.deviation + scale.mean
    torch.testing.assert_close(with_cell(learned), scores)
    for black in (torch.zeros_like(scale.mean), scale.mean):
        difference = (with_cell(black) - scores).abs()
        assert difference[missing].min() > 1e-6
        assert difference[~missing].max() < 1e-9


def check_learns(head, batch, steps, learning_rate=1e-2):
    """The loss of one batch stays finite and goes down."""
    losses = fit(head, batch, steps, learning_rate)
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < 0.9 * losses[0]


def mean(values):
    """Mean of a list of vectors."""
    return sum(values) / len(values)


def softmax(logits):
    """Shares of a list of numbers."""
    powers = [math.exp(logit) for logit in logits]
    return [power / sum(powers) for power in powers]


def mixed(weights, values):
    """Sum of vectors by weight."""
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def layer_norm(norm, x):
    """What the LayerNorm module makes of one vector."""
    centred = x - sum(x) / len(x)
    return centred / math.sqrt(sum(centred**2) / len(x) + norm.eps) * norm.weight + norm.bias


def cross_entropy_by_hand(scores, batch):
    """Of scores of all mentions against all entities: golds, then unmasked own candidates."""
    scores, losses = scores.detach(), []
    for row in range(len(scores)):
        columns = list(range(batch.golds))
        own = zip(batch.candidates[row].tolist(), batch.candidate_mask[row], strict=True)
        columns += [column for column, there in own if there]
        powers = [math.exp(scores[row, column]) for column in columns]
        losses.append(-math.log(math.exp(scores[row, batch.gold[row]]) / sum(powers)))
    return sum(losses) / len(losses)


def sentence_by_hand(head, items, row):
    """t' of one item."""
    return head.sentence.weight @ mean(list(prepared_tokens(head, items, row, "text")))


def matching_by_hand(unit, mention_tokens, entity_tokens, broad=None):
    """The score of `mmsim.models.matching.Matching` for the real tokens of one pair.

    `broad` are the two global features that are compared with each other, the means if not given.
    """
    t_m, t_e = mean(mention_tokens), mean(entity_tokens)
    broad_m, broad_e = broad or (t_m, t_e)
    rows = []
    for entity_token in entity_tokens:
        query = unit.query.weight @ entity_token
        logits = [query @ (unit.key.weight @ x) / math.sqrt(len(x)) for x in mention_tokens]
        rows.append(mixed(softmax(logits), [unit.value.weight @ x for x in mention_tokens]))
    c = layer_norm(unit.norm, mean(rows))
    return (broad_m @ broad_e + (unit.context.weight @ t_e) @ c) / 2
