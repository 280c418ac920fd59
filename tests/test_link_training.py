import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from link_tables import NIL, entities, mentions
from linking import IMAGE_DIM, TEXT_DIM, link_config
from synthetic import memory, rules
from torch import nn

from mmsim.errors import UserError
from mmsim.models.batch import LinkItems
from mmsim.models.link_heads import LINK_HEADS, build_link_head
from mmsim.models.linking import ranking_scores
from mmsim.params import load_params
from mmsim.training.configure_link import link_config as configured
from mmsim.training.configure_link import link_trainer
from mmsim.training.fit import fit
from mmsim.training.link_loop import train_linker
from mmsim.training.link_scoring import ranks_among, score_lists
from mmsim.training.memory import FeatureMemory
from mmsim.training.mentions import ABSENT, Items, LinkData, Mentions

FIELDS = [field.name for field in dataclasses.fields(LinkItems)]
COLUMN_OF = dict(zip(FIELDS, ("text", "image", "name_text", "objects", "scene"), strict=True))
MOST = 512


def write(folder, train, described, **splits):
    """The lists of the pairs stage: `train` stands in for a split that is not given."""
    for split in ("train", "valid"):
        splits.get(split, train).to_parquet(folder / f"{split}.parquet")
    described.to_parquet(folder / "entities.parquet")
    return folder


def load(folder, features, train, described, tokens=MOST, **splits):
    folder = write(folder, train, described, **splits)
    return LinkData.load(folder, ("train", "valid"), features, tokens)


def some_lists(images=12, texts=12, seed=0):
    """Nine mentions of five entities, with rows of all kinds, some absent."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(9):
        found = {name: int(rng.integers(-1, texts)) for name in ("name_text", "objects", "scene")}
        found |= {"text": int(rng.integers(texts)), "image": int(rng.integers(-1, images))}
        rows.append((number % 5, [(number + 1) % 5, number % 5][: 1 + number % 2], found))
    described = entities(*(f"Title {number}" for number in range(5)))
    described["image"] = [3, ABSENT, 0, ABSENT, images - 1]
    return mentions(*rows), described


def features(images=12, texts=12, seed=0):
    return memory(images, texts, seed, IMAGE_DIM, TEXT_DIM)


def own_tokens(found, field, row, most=MOST):
    """What the memory has of a row, as float32."""
    if row == ABSENT:
        return torch.zeros(0, IMAGE_DIM if field == "image" else TEXT_DIM)
    if field == "image":
        return found.grid[row].float()
    start, end = found.offsets[row].item(), found.offsets[row + 1].item()
    return found.tokens[start : min(end, start + most)].float()


def check_gathered(items, found, rows_of, most=MOST):
    for field in FIELDS:
        sequences = getattr(items, field)
        assert len(sequences.values) == len(rows_of[field])
        for item, row in enumerate(rows_of[field]):
            real = sequences.values[item][sequences.mask[item]]
            torch.testing.assert_close(real, own_tokens(found, field, row, most), rtol=0, atol=0)
        assert sequences.values.isfinite().all()


@pytest.mark.parametrize("most", [MOST, 2])
def test_mentions_have_the_features_of_their_rows_and_of_what_is_absent_none(tmp_path, most):
    found, (train, described) = features(), some_lists()
    data = load(tmp_path, found, train, described, most)
    for rows in (torch.arange(9), torch.tensor([7, 0, 7, 3])):
        items = data.mention_features(data.splits["train"], rows)
        listed = {field: train[COLUMN_OF[field]].to_numpy()[rows].tolist() for field in FIELDS}
        check_gathered(items, found, listed, most)
    # The rows that were drawn have all that is to be seen here.
    assert all((train[column] == ABSENT).any() for column in ("image", "objects", "scene"))
    assert np.diff(found.offsets)[train["text"]].max() > 2


def test_entities_have_text_and_image_and_neither_name_nor_phrases(tmp_path):
    found, (train, described) = features(), some_lists()
    data = load(tmp_path, found, train, described)
    rows = torch.tensor([4, 1, 2])
    listed = {"text": [4, 1, 2], "image": [11, ABSENT, 0]}
    listed |= {field: [ABSENT] * 3 for field in ("name", "objects", "scene")}
    check_gathered(data.entity_features(rows), found, listed)


def test_where_no_item_has_an_image_there_is_one_empty_place(tmp_path):
    train, described = some_lists()
    nothing = {"image": ABSENT, "objects": ABSENT}
    data = load(tmp_path, features(), train.assign(**nothing), described)
    items = data.mention_features(data.splits["train"], torch.arange(4))
    assert items.image.values.shape == (4, 1, IMAGE_DIM)
    assert items.objects.values.shape == (4, 1, TEXT_DIM)
    assert not items.image.mask.any() and not items.objects.mask.any()


def test_an_image_that_was_not_encoded_is_absent(tmp_path):
    found, (train, described) = features(), some_lists()
    found.images_ok[[0, 5]] = False
    train["image"] = [5, 0, 1, 2, ABSENT, 5, 6, 7, 11]
    data = load(tmp_path, found, train, described)
    assert data.splits["train"].items.image.tolist() == [-1, -1, 1, 2, -1, -1, 6, 7, 11]
    assert data.entities.image.tolist() == [3, -1, -1, -1, 11]


def test_golds_and_candidates_are_those_of_the_list_in_its_order(tmp_path):
    rows = [(3, [4, 3]), (NIL, [0]), (1, []), (2, [1, 0, 4])]
    _, described = some_lists()
    train = load(tmp_path, features(), mentions(*rows), described).splits["train"]
    assert train.gold.tolist() == [3, NIL, 1, 2]
    assert train.candidates.tolist() == [[4, 3, -1], [0, -1, -1], [-1] * 3, [1, 0, 4]]
    assert train.candidates.dtype == train.gold.dtype == torch.int64
    assert train.table["candidates"].map(list).tolist() == [listed for _, listed in rows]


def test_only_the_splits_that_are_asked_for_are_read(tmp_path):
    data = load(tmp_path, features(), *some_lists())
    assert not (tmp_path / "test.parquet").exists()
    assert list(data.splits) == ["train", "valid"]


@pytest.mark.parametrize(
    ("place", "column", "row"),
    [
        *[("train", "image", 12), ("valid", "text", 12), ("train", "name_text", 12)],
        *[("train", "objects", 40), ("valid", "scene", 12)],
        *[("entities", "image", 12), ("entities", "text", 99)],
    ],
)
def test_rows_beyond_the_stores_are_refused(tmp_path, place, column, row):
    train, described = some_lists()
    tables = {"train": train, "valid": train.copy(), "entities": described}
    tables[place].loc[2, column] = row
    with pytest.raises(UserError, match=rf"{place}\.parquet points at rows beyond the 12 images"):
        load(tmp_path, features(), train, described, valid=tables["valid"])


@pytest.mark.parametrize(
    ("place", "column"),
    [
        *[("train", name) for name in ("text", "name_text", "objects", "scene")],
        ("entities", "text"),
    ],
)
def test_texts_without_features_are_refused(tmp_path, place, column):
    train, described = some_lists()
    train[["text", "name_text", "objects", "scene"]] = 1
    described["text"] = 2
    (train if place == "train" else described).loc[1, column] = 5
    found = features()
    assert len(load(tmp_path, found, train, described).entities) == 5
    found.texts_ok[5] = False
    message = rf"{place}\.parquet: 1 texts have no features.*choose another text\.encoder"
    with pytest.raises(UserError, match=message):
        load(tmp_path, found, train, described)


def in_memory(golds, candidates, number=8, found=None):
    """Training mentions with these golds and candidates; entity i has text i."""
    found = found or features(texts=number + len(golds))
    listed = [torch.tensor(own, dtype=torch.int64) for own in candidates]
    texts = number + torch.arange(len(golds))
    absent = torch.full_like(texts, ABSENT)
    train = Mentions(
        Items(texts, texts % len(found.grid), texts, absent, absent),
        torch.tensor(golds),
        torch.nn.utils.rnn.pad_sequence([*listed, torch.arange(0)], True, ABSENT)[:-1],
        pd.DataFrame(),
    )
    none = torch.full((number,), ABSENT)
    described = Items(torch.arange(number), none, none, none, none)
    return LinkData({"train": train}, described, pd.DataFrame(), found, MOST)


def batch_of(data, rows, most=99):
    return data.ranking_batch(data.splits["train"], torch.as_tensor(rows), most)


def entity_rows(data, batch):
    """Row numbers of the entities of a batch, told by the first token of their texts."""
    first = batch.entities.text.values[:, 0]
    every = data.entity_features(torch.arange(len(data.entities))).text.values[:, 0]
    same = (first[:, None] == every).all(-1)
    assert (same.sum(1) == 1).all()
    return same.int().argmax(1)


def negatives(data, batch):
    """Entities that each mention is to be told from, as lists of row numbers."""
    entities_, found = entity_rows(data, batch), []
    for place, gold in enumerate(batch.gold.tolist()):
        columns = [column for column in range(batch.golds) if column != gold]
        columns += batch.candidates[place][batch.candidate_mask[place]].tolist()
        found.append(entities_[columns].tolist())
    return found


@st.composite
def linked_mentions(draw):
    entity = st.integers(0, 7)
    own = st.lists(entity, max_size=5, unique=True)
    rows = draw(st.lists(st.tuples(entity, own), min_size=1, max_size=12))
    chosen = draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, unique=True))
    return rows, in_memory([gold for gold, _ in rows], [own for _, own in rows]), chosen


@given(linked_mentions())
@settings(max_examples=60, deadline=None)
def test_a_batch_has_each_gold_once_and_first(drawn):
    rows, data, chosen = drawn
    batch = batch_of(data, chosen)
    found, golds = entity_rows(data, batch), [rows[row][0] for row in chosen]
    assert sorted(found[: batch.golds].tolist()) == sorted(set(golds))
    assert found[batch.gold].tolist() == golds
    assert len(found) == len(set(found.tolist()))
    own = {entity for row in chosen for entity in rows[row][1]}
    assert set(found.tolist()) == own | set(golds)
    texts = data.mention_features(data.splits["train"], torch.tensor(chosen)).text
    assert torch.equal(batch.mentions.text.values, texts.values)


@given(linked_mentions(), st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_own_candidates_count_unless_they_are_padding_or_golds_of_the_batch(drawn, most):
    rows, data, chosen = drawn
    batch = batch_of(data, chosen, most)
    found, golds = entity_rows(data, batch), {rows[row][0] for row in chosen}
    assert batch.candidates.shape == batch.candidate_mask.shape
    assert batch.candidates.shape[1] <= most
    for place, row in enumerate(chosen):
        counted = batch.candidates[place][batch.candidate_mask[place]]
        expected = [entity for entity in rows[row][1][:most] if entity not in golds]
        assert found[counted].tolist() == expected


@given(linked_mentions())
@settings(max_examples=60, deadline=None)
def test_defect_the_negative_is_never_the_gold(drawn):
    rows, data, chosen = drawn
    for row, others in zip(chosen, negatives(data, batch_of(data, chosen)), strict=True):
        assert rows[row][0] not in others
        assert len(others) == len(set(others))


def test_defect_duplicate_golds_are_no_false_negatives():
    data = in_memory([3, 5, 3, 3], [[3, 1], [], [1, 3, 5], [3]])
    assert negatives(data, batch_of(data, [0, 1, 2, 3])) == [[5, 1], [3], [5, 1], [5]]
    # Where all have one gold and nothing else is listed, there is nothing to tell it from.
    same = batch_of(in_memory([3, 3, 3], [[3], [], [3]]), [0, 1, 2])
    torch.manual_seed(0)
    head = build_link_head(link_config("siamese"))
    assert same.golds == 1
    assert head.loss(same).item() == 0


def test_the_ranking_is_over_golds_and_own_candidates_of_this_batch():
    data = in_memory([3, 5, 3], [[1, 3, 0], [7], []])
    batch = batch_of(data, [0, 1, 2])
    torch.manual_seed(0)
    head = build_link_head(link_config("siamese")).eval()
    encoded = head.encode_mentions(batch.mentions), head.encode_entities(batch.entities)
    scores = ranking_scores(head, *encoded, batch)["fused"]
    mentions_ = head.encode_mentions(data.mention_features(data.splits["train"], torch.arange(3)))
    every = head.score(mentions_, head.encode_entities(data.entity_features(torch.arange(8))))
    for row, columns in enumerate([[3, 5, 1, 0], [3, 5, 7], [3, 5]]):
        expected = every[row, columns]
        torch.testing.assert_close(scores[row][scores[row].isfinite()], expected)
        torch.testing.assert_close(scores[row, batch.gold[row]], every[row, [3, 5, 3][row]])


def two_splits(folder, found, seed=0):
    """Train links to entities 0, 1 and 2 (a candidate), valid to 3; texts and images of each."""
    train = mentions(
        (0, [2], {"text": 5, "image": 4, "name_text": 9, "objects": 9}),
        (1, [0, 1], {"text": 6, "image": 5, "name_text": 9, "scene": 9}),
        (1, [], {"text": 5, "image": 4, "name_text": 9}),
        (NIL, [], {"text": 7, "image": ABSENT, "name_text": 9}),
    )
    valid = mentions((3, [4], {"text": 8, "image": 6, "name_text": 9}))
    described = entities(*"abcde")
    described["image"] = [0, ABSENT, 1, 2, 3]
    return load(folder, found, train, described, valid=valid)


def test_statistics_are_those_of_training_mentions_and_of_the_entities_they_name(tmp_path):
    found = features()
    statistics = two_splits(tmp_path, found).statistics()
    cells = torch.cat([own_tokens(found, "image", row) for row in (0, 1, 4, 5)])
    tokens = torch.cat([own_tokens(found, "text", row) for row in (0, 1, 2, 5, 6, 7)])
    for (mean, deviation), values in ((statistics.image, cells), (statistics.text, tokens)):
        torch.testing.assert_close(mean, values.mean(0))
        torch.testing.assert_close(deviation, values.std(0, correction=0))


def test_of_other_splits_the_statistics_know_nothing(tmp_path):
    found = features()
    before = two_splits(tmp_path, found).statistics()
    # The rows that only validation has: mention 8 and image 6, entities 3 and 4.
    found.grid[[2, 3, 6]] = 1000
    for row in (3, 4, 8):
        found.tokens[found.offsets[row] : found.offsets[row + 1]] = 1000
    after = two_splits(tmp_path, found).statistics()
    for one, other in zip((*before.image, *before.text), (*after.image, *after.text), strict=True):
        assert torch.equal(one, other)


def test_statistics_of_no_image_leave_images_as_they_are(tmp_path):
    train, described = some_lists()
    train["image"] = described["image"] = ABSENT
    mean, deviation = load(tmp_path, features(), train, described).statistics().image
    assert mean.tolist() == [0] * IMAGE_DIM
    assert deviation.tolist() == [1] * IMAGE_DIM


ENTITIES = 6


def separable_memory():
    """Rows 0 to 5 are of entities, 6 + i of a mention of entity i % 6, which looks different.

    What a mention of an entity has to do with the entity is to be learnt.
    """
    rng = np.random.default_rng(0)
    count = 48 + ENTITIES
    meaning = np.arange(count) % ENTITIES + ENTITIES * (np.arange(count) >= ENTITIES)
    codes = 2 * rng.normal(size=(2 * ENTITIES, IMAGE_DIM + TEXT_DIM))
    lengths = rng.integers(1, 4, count)
    grid = codes[meaning, None, TEXT_DIM:] + 0.3 * rng.normal(size=(count, 3, IMAGE_DIM))
    tokens = np.repeat(codes[meaning, :TEXT_DIM], lengths, axis=0)
    tokens += 0.3 * rng.normal(size=tokens.shape)
    return FeatureMemory(
        torch.from_numpy(grid).half(),
        torch.from_numpy(tokens).half(),
        torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])),
        torch.ones(count, dtype=torch.bool),
        torch.ones(count, dtype=torch.bool),
    )


def separable_mentions(first, count):
    rows = []
    for number in range(first, first + count):
        gold, row = number % ENTITIES, ENTITIES + number
        own = [(gold + 2) % ENTITIES, (gold + 5) % ENTITIES, gold, (gold + 1) % ENTITIES]
        image = row if number % 4 else ABSENT
        rows.append((gold, own, {"text": row, "name_text": row, "image": image, "objects": row}))
    return mentions(*rows)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """What can be learnt of six entities; the list of test does not exist."""
    described = entities(*(f"Title {number}" for number in range(ENTITIES)))
    described["image"] = [0, 1, 2, ABSENT, 4, 5]
    train, valid = separable_mentions(0, 36), separable_mentions(36, 12)
    folder = tmp_path_factory.mktemp("lists")
    return load(folder, separable_memory(), train, described, valid=valid)


def train(data, name="siamese", seed=0, own=3, statistics=None, **how):
    how = {"batch_size": 12} | how
    return train_linker(
        link_config(name),
        rules(**how),
        own,
        statistics or data.statistics(),
        data,
        seed,
        torch.float32,
        lambda epoch: None,
    )


def of_rows(mentions_, rows, gold=None):
    """Some of the mentions, in this order, with other golds if they are given."""
    rows = torch.as_tensor(rows)
    return Mentions(
        mentions_.items.of(rows),
        mentions_.gold[rows] if gold is None else torch.as_tensor(gold),
        mentions_.candidates[rows],
        mentions_.table.iloc[rows.tolist()],
    )


def with_splits(data, **splits):
    return dataclasses.replace(data, splits=data.splits | splits)


def mrr(model, data, split="valid"):
    mentions_ = data.splits[split]
    scores = score_lists(model, data, mentions_, mentions_.candidates)
    return (1 / ranks_among(scores, mentions_.candidates, mentions_.gold)).mean().item()


@pytest.mark.parametrize("name", LINK_HEADS)
def test_every_head_can_learn_what_can_be_told_apart(world, name):
    trained = train(world, name, epochs=12, patience=12)
    untrained = train(world, name, epochs=1, learning_rate=1e-9)
    assert mrr(untrained.model, world) < 0.7
    assert trained.history.best.validation == mrr(trained.model, world) == 1
    assert trained.history.epochs[-1].train_loss < 0.3 * trained.history.epochs[0].train_loss


@pytest.mark.parametrize("name", LINK_HEADS)
def test_the_seed_decides_the_weights(world, name):
    first, again, other = (train(world, name, seed, epochs=2) for seed in (0, 0, 1))
    weights = [dict(trained.model.named_parameters()) for trained in (first, again, other)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert any(not torch.equal(weights[0][key], weights[2][key]) for key in weights[0])
    figures = [
        [(e.train_loss, e.validation) for e in t.history.epochs] for t in (first, again, other)
    ]
    assert figures[0] == figures[1] != figures[2]


def test_the_seed_decides_where_training_starts(world):
    first, other = (train(world, "mimic", seed, learning_rate=1e-9, epochs=1) for seed in (0, 1))
    pairs = zip(first.model.parameters(), other.model.parameters(), strict=True)
    assert max((a - b).abs().max().item() for a, b in pairs) > 0.01


def test_training_mentions_in_no_knowledge_base_are_left_out(world):
    listed = world.splits["train"]
    nil = [NIL if place in (3, 10, 17) else int(gold) for place, gold in enumerate(listed.gold)]
    linked = [place for place, gold in enumerate(nil) if gold != NIL]
    statistics = world.statistics()
    with_nil = with_splits(world, train=of_rows(listed, torch.arange(36), nil))
    without = with_splits(world, train=of_rows(listed, linked))
    first, second = (
        train(data, statistics=statistics, epochs=2, batch_size=9).model.state_dict()
        for data in (with_nil, without)
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    everything = train(world, statistics=statistics, epochs=2, batch_size=9).model.state_dict()
    assert any(not torch.equal(first[key], everything[key]) for key in first)


def test_a_validation_mention_in_no_knowledge_base_counts_as_an_error(world):
    valid = world.splits["valid"]
    gold = [NIL, NIL, NIL, *valid.gold[3:].tolist()]
    data = with_splits(world, valid=of_rows(valid, torch.arange(12), gold))
    assert train(data, epochs=12, patience=12).history.best.validation == 9 / 12


@pytest.mark.parametrize("golds", [[], [0], [NIL, 2, NIL]])
def test_fewer_than_two_mentions_to_learn_from_are_refused(world, golds):
    few = of_rows(world.splits["train"], torch.arange(len(golds)), golds)
    data = with_splits(world, train=dataclasses.replace(few, gold=few.gold.long()))
    found = sum(gold != NIL for gold in golds)
    with pytest.raises(UserError, match=f"two or more training mentions; found {found}"):
        train(data, statistics=world.statistics())


def test_two_mentions_are_enough(world):
    data = with_splits(world, train=of_rows(world.splits["train"], [0, 1]))
    assert len(train(data, epochs=2).history.epochs) == 2


@pytest.mark.parametrize("batch_size", [12, 64])
@pytest.mark.parametrize("name", LINK_HEADS)
def test_a_training_that_diverges_says_which_parameter_to_lower(world, name, batch_size):
    # With one batch an epoch it is the validation alone that tells: no loss is as yet not finite.
    message = r"diverged in epoch 1 with seed 7.* lower train\.learning_rate \(now 1e\+30\)"
    with pytest.raises(UserError, match=message):
        train(world, name, seed=7, learning_rate=1e30, batch_size=batch_size)


def test_the_epoch_of_the_best_mrr_is_kept_not_the_last(world):
    valid = world.splits["valid"]
    # The better the head learns, the lower it ranks what is called gold here.
    wrong = of_rows(valid, torch.arange(12), (valid.gold + 1) % ENTITIES)
    data = with_splits(world, valid=wrong)
    trained = train(data, epochs=40, patience=3, learning_rate=2e-3)
    figures = [epoch.validation for epoch in trained.history.epochs]
    assert trained.history.best_epoch == 1 + figures.index(max(figures))
    assert len(figures) == trained.history.best_epoch + 3 < 40
    assert figures[-1] < max(figures)
    assert mrr(trained.model, data) == max(figures)
    assert not trained.model.training


@pytest.mark.parametrize("own", [0, 2])
def test_so_many_own_candidates_are_negatives_at_most(world, monkeypatch, own):
    asked = []
    gathered = LinkData.ranking_batch

    def watched(self, mentions_, rows, most):
        asked.append(most)
        return gathered(self, mentions_, rows, most)

    monkeypatch.setattr(LinkData, "ranking_batch", watched)
    train(world, own=own, epochs=1)
    assert asked == [own] * 3


def test_each_training_mention_is_seen_once_an_epoch_in_an_order_of_its_own(world, monkeypatch):
    seen = []
    gathered = LinkData.ranking_batch

    def watched(self, mentions_, rows, most):
        seen.append(rows.tolist())
        return gathered(self, mentions_, rows, most)

    monkeypatch.setattr(LinkData, "ranking_batch", watched)
    train(world, epochs=2, batch_size=16)
    assert [len(rows) for rows in seen] == [16, 16, 4] * 2
    epochs = [[row for rows in part for row in rows] for part in (seen[:3], seen[3:])]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(36))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("name", LINK_HEADS)
def test_features_are_standardised_by_the_statistics_that_are_given(world, name):
    statistics = world.statistics()
    inputs = train(world, name, statistics=statistics, epochs=1).model.inputs
    for standardize, (mean, deviation) in (
        (inputs.image, statistics.image),
        (inputs.text, statistics.text),
    ):
        torch.testing.assert_close(standardize.mean, mean)
        torch.testing.assert_close(standardize.deviation, deviation)


def test_the_parameters_decide_the_head_and_what_it_reads(tmp_path):
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    model = params.model.model_copy(update={"name": "mimic", "width": 8, "unit_width": 16})
    schedule = {"epochs": 1, "batch_size": 4, "margin": 0.75, "temperature": 0.5}
    changes = {
        "model": model.model_copy(update={"heads": 2, "dropout": 0.25}),
        "train": params.train.model_copy(update=schedule),
        "link": params.link.model_copy(update={"max_tokens": 9, "candidates": 1}),
    }
    params = params.model_copy(update=changes)
    found = features()
    config = configured(params, found)
    assert (config.name, config.width, config.unit_width) == ("mimic", 8, 16)
    assert (config.image_dim, config.text_dim) == (IMAGE_DIM, TEXT_DIM)
    assert (config.margin, config.temperature, config.dropout) == (0.75, 0.5, 0.25)
    folder = write(tmp_path, *some_lists())
    told = []
    trained = link_trainer(params, found, folder, torch.float32)(3, told.append)
    assert trained.model.config == config
    assert told == trained.history.epochs and len(told) == 1


def fitted(validations, patience=2, losses=(1.0,), epochs=10, seen=None):
    """A weight that falls from 0 by the learning rate each step, and what it was in each epoch."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    seen, told = [] if seen is None else seen, []

    def of_epoch():
        for factor in losses:
            assert model.training
            yield factor * model(torch.ones(1, 1)).sum() + factor

    def validate():
        assert not model.training
        seen.append(model.weight.item())
        return validations[len(seen) - 1]

    chosen = rules(epochs=epochs, patience=patience, learning_rate=0.1)
    history = fit(model, list(model.parameters()), of_epoch, validate, chosen, 5, told.append)
    return model, history, seen, told


def test_the_best_weights_are_restored():
    model, history, seen, told = fitted([0.2, 0.9, 0.4, 0.5, 0.8])
    assert (history.best_epoch, history.best.validation) == (2, 0.9)
    assert model.weight.item() == seen[1]
    assert len(set(seen)) == len(seen) == 4
    assert not model.training
    assert told == history.epochs
    assert [epoch.epoch for epoch in told] == [1, 2, 3, 4]
    assert [epoch.validation for epoch in told] == [0.2, 0.9, 0.4, 0.5]


@pytest.mark.parametrize(
    ("validations", "patience", "epochs", "best"),
    [
        ([0.5, 0.5, 0.5], 2, 3, 1),  # as good is no better
        ([0.1, 0.2, 0.3, 0.4], 1, 4, 4),
        ([0.5, 0.4, 0.6, 0.1, 0.2], 2, 5, 3),  # patience starts anew
        ([0.5, 0.4, 0.6], 1, 2, 1),
        ([0.0, 0.0, 0.0], 2, 3, 1),  # even the worst figure is one
    ],
)
def test_training_stops_when_the_figure_has_not_risen_for_so_long(
    validations, patience, epochs, best
):
    model, history, seen, _ = fitted(validations, patience, epochs=len(validations))
    assert (len(history.epochs), history.best_epoch) == (epochs, best)
    assert model.weight.item() == seen[best - 1]


def test_the_loss_of_an_epoch_is_the_mean_over_its_batches():
    _, history, seen, _ = fitted([0.5], losses=[1.0, 3.0], epochs=1)
    # AdamW's first step is the learning rate itself.
    assert history.epochs[0].train_loss == pytest.approx((1 + 3 * (1 - 0.1)) / 2, abs=1e-4)
    assert seen[0] == pytest.approx(-0.2, abs=0.03)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_a_figure_that_is_not_finite_is_refused(wrong):
    seen = []
    with pytest.raises(UserError, match=r"epoch 2 with seed 5.*\(now 0\.1\)"):
        fitted([0.5, wrong, 0.6], seen=seen)
    assert len(seen) == 2


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused_whatever_the_figure(wrong):
    with pytest.raises(UserError, match="epoch 1 with seed 5, mean loss"):
        fitted([0.5, 0.5], losses=[1.0, wrong])


def test_what_the_loss_learns_is_trained_as_well():
    model, weight = nn.Linear(1, 1), nn.Parameter(torch.zeros(()))
    parameters = [*model.parameters(), weight]
    fit(model, parameters, lambda: [(weight - 3) ** 2], lambda: 0.5, rules(epochs=1), 0, print)
    assert weight.item() > 0
