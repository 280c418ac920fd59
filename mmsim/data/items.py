"""Captioned images: the items that pairs are made of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsim.data.tables import ENTITIES, IMAGES, INSTANCES, TEXTS, read_table


@dataclass(frozen=True)
class Items:
    """The captioned images of one split, as columns of equal length.

    Attributes
    ----------
    image, text : ndarray of int64
        Row numbers in the image and text tables, hence in the feature stores.
    image_group, text_group : ndarray of int64
        Shared by items whose images (captions) are the same or nearly the same.
    gold : list of frozenset of int
        Row numbers of each item's gold entities; empty if there are none.
    key : ndarray of uint64
        Hash of the image's content and the caption: the same wherever and whenever the item
        occurs, unlike its row numbers.
    """

    image: NDArray[np.int64]
    text: NDArray[np.int64]
    image_group: NDArray[np.int64]
    text_group: NDArray[np.int64]
    gold: list[frozenset[int]]
    key: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class ItemTable:
    """The items of every split, the hash of every entity, and what was unusable.

    `unusable` counts captions without a usable image, by the image's status.
    """

    splits: dict[str, Items]
    entity_keys: NDArray[np.uint64]
    unusable: dict[str, int]


def content_hash(*parts: str) -> int:
    """Return a 64-bit hash of texts that is the same on every machine and in every run."""
    joined = "\x1f".join(parts).encode()
    return int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest(), "little")


def load_items(prepared: Path) -> ItemTable:
    """Read the captioned images whose image can be used."""
    instances = read_table(prepared / INSTANCES, ["split", "image", "text", "entity"])
    images = read_table(prepared / IMAGES).set_index("image")
    texts = read_table(prepared / TEXTS).set_index("text")
    titles = read_table(prepared / ENTITIES, ["title"])["title"]

    rows = (
        instances.groupby(["split", "image", "text"], sort=False)["entity"]
        .agg(lambda entities: frozenset(int(entity) for entity in entities if entity >= 0))
        .reset_index()
    )
    status = images["status"].loc[rows["image"]].to_numpy()
    unusable = rows.loc[status != "ok"]
    counts = images["status"].loc[unusable["image"]].value_counts()
    splits = {}
    for split, part in rows.loc[status == "ok"].groupby("split", sort=False):
        image, text = part["image"].to_numpy(), part["text"].to_numpy()
        contents = zip(images["sha256"].loc[image], texts["content"].loc[text], strict=True)
        splits[str(split)] = Items(
            image=image,
            text=text,
            image_group=images["group"].loc[image].to_numpy(),
            text_group=texts["group"].loc[text].to_numpy(),
            gold=part["entity"].tolist(),
            key=np.array([content_hash(*content) for content in contents], dtype=np.uint64),
        )
    return ItemTable(
        splits,
        np.array([content_hash(title) for title in titles], dtype=np.uint64),
        {str(name): int(number) for name, number in counts.items()},
    )
