"""Captioned images: the items that pairs are made of."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsim.data.tables import ENTITIES, IMAGES, INSTANCES, TEXTS, read_table

if TYPE_CHECKING:
    import pandas as pd


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

    def showing_only(self, entities: frozenset[int]) -> Items:
        """Return the same items as if they showed no entity but `entities`."""
        return replace(self, gold=[gold & entities for gold in self.gold])


@dataclass(frozen=True)
class Traits:
    """What is known of the items of one split beside their identity, as columns of equal length.

    Attributes
    ----------
    forms : list of dict of str to frozenset of int
        Surface forms of each item's mentions, in small letters, and the row numbers of the
        entities meant by each.
    types : list of frozenset of str
        Types of each item's mentions.
    topics, captions, image_hashes : list of str
        Topic, caption, and perceptual hash of the image ("" if it has none).
    """

    forms: list[dict[str, frozenset[int]]]
    types: list[frozenset[str]]
    topics: list[str]
    captions: list[str]
    image_hashes: list[str]


@dataclass(frozen=True)
class ItemTable:
    """The items of every split and their traits, the hash of every entity, and what was unusable.

    `unusable` counts captions without a usable image, by the image's status.
    """

    splits: dict[str, Items]
    traits: dict[str, Traits]
    entity_keys: NDArray[np.uint64]
    unusable: dict[str, int]


def content_hash(*parts: str) -> int:
    """Return a 64-bit hash of texts that is the same on every machine and in every run."""
    joined = "\x1f".join(parts).encode()
    return int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest(), "little")


def surface_form(mention: str) -> str:
    """Return a mention as it is compared with others: small letters, single spaces."""
    return " ".join(mention.casefold().split())


def load_items(prepared: Path) -> ItemTable:
    """Read the captioned images whose image can be used."""
    columns = ["split", "image", "text", "entity", "mention", "type", "topic"]
    instances = read_table(prepared / INSTANCES, columns)
    images = read_table(prepared / IMAGES).set_index("image")
    texts = read_table(prepared / TEXTS).set_index("text")
    titles = read_table(prepared / ENTITIES, ["title"])["title"]

    rows = _by_item(instances)
    status = images["status"].loc[rows["image"]].to_numpy()
    unusable = rows.loc[status != "ok"]
    counts = images["status"].loc[unusable["image"]].value_counts()
    splits, traits = {}, {}
    for split, part in rows.loc[status == "ok"].groupby("split", sort=False):
        image, text = part["image"].to_numpy(), part["text"].to_numpy()
        contents = zip(images["sha256"].loc[image], texts["content"].loc[text], strict=True)
        splits[str(split)] = Items(
            image=image,
            text=text,
            image_group=images["group"].loc[image].to_numpy(),
            text_group=texts["group"].loc[text].to_numpy(),
            gold=part["gold"].tolist(),
            key=np.array([content_hash(*content) for content in contents], dtype=np.uint64),
        )
        traits[str(split)] = Traits(
            forms=part["forms"].tolist(),
            types=part["types"].tolist(),
            topics=part["topic"].tolist(),
            captions=texts["content"].loc[text].tolist(),
            image_hashes=images["perceptual_hash"].loc[image].tolist(),
        )
    return ItemTable(
        splits,
        traits,
        np.array([content_hash(title) for title in titles], dtype=np.uint64),
        {str(name): int(number) for name, number in counts.items()},
    )


def _by_item(instances: pd.DataFrame) -> pd.DataFrame:
    """Gather the mentions of each captioned image of each split."""
    import pandas as pd

    rows = []
    for (split, image, text), mentions in instances.groupby(["split", "image", "text"], sort=False):
        meant: dict[str, set[int]] = defaultdict(set)
        for mention, entity in zip(mentions["mention"], mentions["entity"], strict=True):
            if entity >= 0:
                meant[surface_form(mention)].add(int(entity))
        rows.append(
            {
                "split": split,
                "image": image,
                "text": text,
                "gold": frozenset().union(*meant.values()),
                "forms": {form: frozenset(entities) for form, entities in meant.items()},
                "types": frozenset(mentions["type"]) - {""},
                "topic": mentions["topic"].iloc[0],
            }
        )
    return pd.DataFrame(rows, columns=["split", "image", "text", "gold", "forms", "types", "topic"])
