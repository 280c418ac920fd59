"""Which positive pairs are kept: at most so many for each entity, by a stable hash.

Each possible pair of an entity gets a hash of (entity, pair) that depends on their content
alone; the lowest are kept. Rows added elsewhere change neither the hash nor the rank, so the
pairs of an entity stay as they are. A pair of several entities must be kept for each of them,
which keeps the count of every entity at or under the cap.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
from numpy.typing import NDArray

from mmsim.data.items import Items

Pair = tuple[int, int]


def mix(*values: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """Combine 64-bit hashes, in order, into one (the finaliser of SplitMix64, vectorised).

    Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators".
    """
    mixed = np.atleast_1d(np.uint64(0x9E3779B97F4A7C15))
    with np.errstate(over="ignore"):
        for value in values:
            mixed = (mixed ^ value) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0x94D049BB133111EB)
            mixed = mixed ^ (mixed >> np.uint64(27))
    return mixed


def own_captions(items: Items, entity_keys: NDArray[np.uint64], cap: int) -> list[Pair]:
    """Return (i, i) for each image with its own caption, at most `cap` for each entity.

    Items without a gold entity are all kept: no entity can be over-represented by them.
    """
    keep = np.ones(len(items), dtype=bool)
    for entity, members in _members(items).items():
        hashes = mix(entity_keys[entity], items.key[members])
        keep[members[np.argsort(hashes, kind="stable")[cap:]]] = False
    return [(int(i), int(i)) for i in np.flatnonzero(keep)]


def same_entity(
    items: Items,
    entity_keys: NDArray[np.uint64],
    cap: int,
    taken: Counter[int] | None = None,
    ordered: bool = False,
) -> list[Pair]:
    """Return pairs of different items with a common gold entity, at most `cap` for each.

    Parameters
    ----------
    items : Items
        The items of one split.
    entity_keys : ndarray of uint64, shape (entities,)
        Content hash of each entity.
    cap : int
        Pairs for each entity at most.
    taken : Counter of int, optional
        Pairs that each entity already has; they count towards the cap.
    ordered : bool
        True where (i, j) and (j, i) are two pairs, as for an image and a caption; both may be
        kept. False where they are one pair, returned as (i, j) with i before j by content.

    Returns
    -------
    list of (int, int)
        Pairs of item positions; the two items differ in image and in caption.
    """
    votes: Counter[Pair] = Counter()
    for entity, members in _members(items).items():
        room = cap - (taken[entity] if taken else 0)
        if len(members) > 1 and room > 0:
            votes.update(_lowest(items, entity_keys[entity], members, room, ordered))
    return sorted(
        (i, j) for (i, j), number in votes.items() if number == len(items.gold[i] & items.gold[j])
    )


def _members(items: Items) -> dict[int, NDArray[np.int64]]:
    """Return the positions of each entity's items, in order of their content hash."""
    members: dict[int, list[int]] = defaultdict(list)
    for position in np.argsort(items.key, kind="stable"):
        for entity in items.gold[position]:
            members[entity].append(int(position))
    return {entity: np.array(positions) for entity, positions in members.items()}


def _lowest(
    items: Items, entity_key: np.uint64, members: NDArray[np.int64], room: int, ordered: bool
) -> list[Pair]:
    """Return the `room` pairs of `members` with the lowest hashes, a row of pairs at a time."""
    hashes = np.empty(0, dtype=np.uint64)
    pairs = np.empty((0, 2), dtype=np.int64)
    for rank, i in enumerate(members):
        others = members if ordered else members[rank + 1 :]
        different = (items.image_group[others] != items.image_group[i]) & (
            items.text_group[others] != items.text_group[i]
        )
        others = others[different]
        hashes = np.concatenate([hashes, mix(entity_key, items.key[i], items.key[others])])
        pairs = np.concatenate([pairs, np.stack([np.full_like(others, i), others], axis=1)])
        if len(hashes) > room:
            lowest = np.argsort(hashes, kind="stable")[:room]
            hashes, pairs = hashes[lowest], pairs[lowest]
    return [(int(i), int(j)) for i, j in pairs]
