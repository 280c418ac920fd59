"""Captioned images made by hand, for tests of how pairs are drawn."""

import numpy as np

from mmsim.data.items import Items, ItemTable, Traits, content_hash


def items(gold, image_group=None, text_group=None, names=None, key=None):
    """Items 0, 1, ... with these gold sets; each its own image and caption by default."""
    count = len(gold)
    names = names if names is not None else range(count)
    key = key if key is not None else [content_hash(str(name)) for name in names]
    return Items(
        image=np.arange(count),
        text=np.arange(count),
        image_group=np.array(image_group if image_group is not None else range(count)),
        text_group=np.array(text_group if text_group is not None else range(count)),
        gold=[frozenset(entities) for entities in gold],
        key=np.array(key, dtype=np.uint64),
    )


def traits(world, forms=None, types=None, topics=None, captions=None, hashes=None):
    """Traits of these items; by default entity e is called "name<e>", and all else differs."""
    count = len(world)
    plain = [{f"name{e}": frozenset([e]) for e in gold} for gold in world.gold]
    return Traits(
        forms=forms or plain,
        types=types or [frozenset()] * count,
        topics=topics or [str(key) for key in world.key],
        captions=captions or [f"caption {key}" for key in world.key],
        image_hashes=hashes or [f"{key:016x}" for key in world.key],
    )


def table(split="train", entities=10, **columns):
    """A table of one split; `columns` are `world` and, if not as by default, its traits."""
    world = columns.pop("world")
    keys = np.array([content_hash(f"entity {e}") for e in range(entities)], dtype=np.uint64)
    return ItemTable({split: world}, {split: traits(world, **columns)}, keys, {})
