"""Synthetic features and pairs in which a known part of the data carries the label.

An item is an image and a caption, each with a code: a few numbers that its features hold under
noise. Two items of one entity share what the world says; everything else is drawn anew for each
item. Worlds are of task pair, but for one.

==================  ===========================================================================
world               what two items of one entity share
==================  ===========================================================================
nothing             nothing: no head can do better than chance
text                the caption's code
image               the image's code
both                both: the evidence adds up, and nothing is gained by crossing modalities
interaction         one item's image code is the other's caption code, and the other way round:
                    neither modality alone says anything
matching            task match: an image and its own caption share a code
leak                nothing, but half of the test pairs are training pairs
shortcut            nothing, but negatives have their queries from other entities than positives,
                    the same in all splits, and features say which entity an item shows
==================  ===========================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from mmsim.training.memory import ROW_COLUMNS, FeatureMemory, Pairs

if TYPE_CHECKING:
    import pandas as pd

CODE = 6
IMAGE_DIM, TEXT_DIM = 24, 20
CELLS = 4
NOISE = 0.5
"""Of each cell and token."""
SPREAD = 0.7
"""Of each item's code around the one it was given: no world can be told apart without error."""
SHIFT = 0.7
"""World shortcut: how far the entities of positives' queries lie from those of negatives'."""
ENTITIES = {"train": 300, "valid": 100, "test": 150}
SHORTCUT_ENTITIES = 15

Codes = NDArray[np.float64]
Share = Callable[[np.random.Generator], tuple[Codes, Codes, Codes, Codes]]
"""Draws the codes of an entity's two items: image and text of one, image and text of the other."""
Labelled = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Pairs of items, and their labels."""


@dataclass(frozen=True)
class World:
    """Features, pairs and the tables that evaluation reads.

    Attributes
    ----------
    task : {"match", "pair"}
    memory : FeatureMemory
    pairs : dict of str to Pairs
        By split.
    instances, images, texts, entities : DataFrame
        As `prepare` writes them, with the columns that are read.
    """

    task: str
    memory: FeatureMemory
    pairs: dict[str, Pairs]
    instances: pd.DataFrame
    images: pd.DataFrame
    texts: pd.DataFrame
    entities: pd.DataFrame


Draw = Callable[[np.random.Generator, dict[str, int]], World]


@dataclass
class _Items:
    """Codes and entity of every item drawn so far; item i has image i and caption i."""

    image: list[Codes]
    text: list[Codes]
    entity: list[int]
    split: list[str]

    def add(self, image: Codes, text: Codes, entity: int, split: str) -> int:
        self.image.append(image)
        self.text.append(text)
        self.entity.append(entity)
        self.split.append(split)
        return len(self.entity) - 1


def make_world(name: str, seed: int = 0, entities: dict[str, int] | None = None) -> World:
    """Draw the world `name`, one of `WORLDS`.

    Parameters
    ----------
    entities : dict of str to int, optional
        Entities of each split, hence positives and negatives; `ENTITIES` by default.
    """
    return WORLDS[name](np.random.default_rng(seed), entities or ENTITIES)


def _of_entities(share: Share) -> Draw:
    """Return a world of two items for each entity."""

    def draw(rng: np.random.Generator, entities: dict[str, int]) -> World:
        items = _Items([], [], [], [])
        pairs = {split: _of_two(items, share, split, n, rng) for split, n in entities.items()}
        return _world("pair", items, pairs, rng)

    return draw


def _of_two(
    items: _Items, share: Share, split: str, count: int, rng: np.random.Generator
) -> Labelled:
    """Add two items for each of `count` new entities, and return their pairs."""
    positives = []
    for _ in range(count):
        entity = len(items.entity) // 2
        first_image, first_text, second_image, second_text = share(rng)
        first = items.add(first_image, first_text, entity, split)
        positives.append((first, items.add(second_image, second_text, entity, split)))
    return _with_dealt_negatives(np.array(positives), rng)


def _code(rng: np.random.Generator) -> Codes:
    return rng.normal(size=CODE)


def _nothing(rng: np.random.Generator) -> tuple[Codes, Codes, Codes, Codes]:
    return _code(rng), _code(rng), _code(rng), _code(rng)


def _text(rng: np.random.Generator) -> tuple[Codes, Codes, Codes, Codes]:
    common = _code(rng)
    return _code(rng), common, _code(rng), common


def _image(rng: np.random.Generator) -> tuple[Codes, Codes, Codes, Codes]:
    common = _code(rng)
    return common, _code(rng), common, _code(rng)


def _both(rng: np.random.Generator) -> tuple[Codes, Codes, Codes, Codes]:
    image, text = _code(rng), _code(rng)
    return image, text, image, text


def _interaction(rng: np.random.Generator) -> tuple[Codes, Codes, Codes, Codes]:
    one, other = _code(rng), _code(rng)
    return one, other, other, one


def _matching(rng: np.random.Generator, entities: dict[str, int]) -> World:
    items = _Items([], [], [], [])
    pairs, entity = {}, 0
    for split, count in entities.items():
        own = []
        for _ in range(count):
            common = _code(rng)
            own.append(items.add(common, common, entity, split))
            entity += 1
        pairs[split] = _with_dealt_negatives(np.stack([own, own], axis=1), rng)
    return _world("match", items, pairs, rng)


def _leak(rng: np.random.Generator, entities: dict[str, int]) -> World:
    items = _Items([], [], [], [])
    pairs = {split: _of_two(items, _nothing, split, n, rng) for split, n in entities.items()}
    for split, count in entities.items():
        if split != "train":
            # Positives stand first, then as many negatives: half of each.
            half, rest = np.arange(count // 2), np.arange(count // 2, count)
            known = np.concatenate([half, entities["train"] + half])
            fresh = np.concatenate([rest, count + rest])
            of_train, of_split = pairs["train"], pairs[split]
            pairs[split] = (
                np.concatenate([of_train[0][known], of_split[0][fresh]]),
                np.concatenate([of_train[1][known], of_split[1][fresh]]),
            )
    return _world("pair", items, pairs, rng)


def _shortcut(rng: np.random.Generator, entities: dict[str, int]) -> World:
    items = _Items([], [], [], [])
    codes = [
        (_code(rng) + SHIFT * side, _code(rng) + SHIFT * side)
        for side in (1, -1)
        for _ in range(SHORTCUT_ENTITIES)
    ]
    pairs = {}
    for split, count in entities.items():
        rows, labels = [], []
        for label in (1, 0):
            for _ in range(count):
                # The first half of the entities are the queries of positives, the others those of
                # negatives; what the candidate shows plays no part.
                entity = int(rng.integers(SHORTCUT_ENTITIES)) + SHORTCUT_ENTITIES * (1 - label)
                query = items.add(*codes[entity], entity, split)
                candidate = items.add(_code(rng), _code(rng), entity if label else -1, split)
                rows.append((query, candidate))
                labels.append(label)
        pairs[split] = np.array(rows), np.array(labels)
    return _world("pair", items, pairs, rng)


WORLDS: dict[str, Draw] = {
    "nothing": _of_entities(_nothing),
    "text": _of_entities(_text),
    "image": _of_entities(_image),
    "both": _of_entities(_both),
    "interaction": _of_entities(_interaction),
    "matching": _matching,
    "leak": _leak,
    "shortcut": _shortcut,
}


def _with_dealt_negatives(positives: NDArray[np.int64], rng: np.random.Generator) -> Labelled:
    """Return positives, then negatives in which every item stands as often: one cycle of them."""
    order = rng.permutation(len(positives))
    candidate = np.empty(len(positives), dtype=np.int64)
    candidate[order] = positives[np.roll(order, 1), 1]
    negatives = np.stack([positives[:, 0], candidate], axis=1)
    return np.concatenate([positives, negatives]), np.repeat([1, 0], len(positives))


def _world(task: str, items: _Items, pairs: dict[str, Labelled], rng: np.random.Generator) -> World:
    import pandas as pd

    count = len(items.entity)
    entity = np.array(items.entity)
    numbers = np.arange(count)
    instances = pd.DataFrame(
        {
            "split": items.split,
            "image": numbers,
            "text": numbers,
            "mention": [f"entity {e}" if e >= 0 else "" for e in items.entity],
            "type": "thing",
            "topic": "planted",
            "entity": entity,
        }
    )
    entities = pd.DataFrame({"entity": np.arange(max(entity.max() + 1, 1))})
    return World(
        task,
        _memory(np.array(items.image), np.array(items.text), rng),
        {split: _pairs(task, rows, labels, entity) for split, (rows, labels) in pairs.items()},
        instances,
        pd.DataFrame({"image": numbers, "group": numbers}),
        pd.DataFrame(
            {"text": numbers, "group": numbers, "content": [f"caption {i}" for i in numbers]}
        ),
        entities.assign(title=[f"entity {e}" for e in entities["entity"]]),
    )


def _memory(image: Codes, text: Codes, rng: np.random.Generator) -> FeatureMemory:
    count = len(image)
    lengths = rng.integers(3, 7, count)
    image, text = (code + SPREAD * rng.normal(size=code.shape) for code in (image, text))
    grid = (image @ rng.normal(size=(CODE, IMAGE_DIM)))[:, None, :]
    grid = grid + NOISE * rng.normal(size=(count, CELLS, IMAGE_DIM))
    tokens = np.repeat(text @ rng.normal(size=(CODE, TEXT_DIM)), lengths, axis=0)
    tokens = tokens + NOISE * rng.normal(size=tokens.shape)
    return FeatureMemory(
        torch.from_numpy(grid).half(),
        torch.from_numpy(tokens).half(),
        torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])),
        torch.ones(count, dtype=torch.bool),
        torch.ones(count, dtype=torch.bool),
    )


def _pairs(
    task: str, rows: NDArray[np.int64], labels: NDArray[np.int64], entity: NDArray[np.int64]
) -> Pairs:
    import pandas as pd

    query, candidate = rows[:, 0], rows[:, 1]
    four = np.stack([query, query, candidate, candidate], axis=1)
    tier = "own_caption" if task == "match" else "same_entity"
    gold = [[int(e)] if e >= 0 else [] for e in entity]
    table = pd.DataFrame(four, columns=ROW_COLUMNS).assign(
        pair=range(len(rows)),
        label=labels,
        tier=np.where(labels == 1, tier, "random"),
        contrast=tier,
        entity=entity[query],
        form="",
        query_gold=[gold[i] for i in query],
        candidate_gold=[gold[i] for i in candidate],
    )
    return Pairs(torch.from_numpy(four), torch.from_numpy(labels).float(), table)
