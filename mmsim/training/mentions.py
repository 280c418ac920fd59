"""Mentions and entities of task link as tensors, gathered from the features in memory."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmsim.data.tables import ENTITIES, read_table
from mmsim.errors import UserError
from mmsim.models.batch import LinkItems, RankingBatch, Sequences
from mmsim.training.memory import ChannelStatistics, FeatureMemory

if TYPE_CHECKING:
    import pandas as pd

ABSENT = -1
"""Row number of what an item does not have."""


@dataclass(frozen=True)
class Items:
    """Row numbers of mentions or entities, each of shape (items,), `ABSENT` for what is not there.

    Attributes
    ----------
    text, image, name, objects, scene : Tensor, int64
        Of the fields of `LinkItems`.
    """

    text: Tensor
    image: Tensor
    name: Tensor
    objects: Tensor
    scene: Tensor

    def __len__(self) -> int:
        return len(self.text)

    def of(self, rows: Tensor) -> Items:
        """Return some of the items."""
        return Items(**{field: values[rows] for field, values in vars(self).items()})

    def gather(self, memory: FeatureMemory, tokens: int) -> LinkItems:
        """Gather the features of all items, of each text the first `tokens` at most."""
        return LinkItems(
            text=_texts(memory, self.text, tokens),
            image=_images(memory, self.image),
            name=_texts(memory, self.name, tokens),
            objects=_texts(memory, self.objects, tokens),
            scene=_texts(memory, self.scene, tokens),
        )


@dataclass(frozen=True)
class Mentions:
    """The mentions of one split.

    Attributes
    ----------
    items : Items
    gold : Tensor, int64, shape (mentions,)
        Row number of the entity, `ABSENT` for NIL.
    candidates : Tensor, int64, shape (mentions, most candidates of a mention)
        Row numbers of entities in the release's order, padded with `ABSENT`.
    table : DataFrame
        The list itself.
    """

    items: Items
    gold: Tensor
    candidates: Tensor
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.gold)

    def without_images(self) -> Mentions:
        """Return the mentions as if none had an image, hence none phrases of it."""
        nothing = torch.full_like(self.items.image, ABSENT)
        return self._showing(nothing, nothing, nothing)

    def with_shuffled_images(self, seed: int = 0) -> Mentions:
        """Return the mentions with the images of those that have one exchanged among them.

        The phrases of an image go with it.
        """
        there = torch.nonzero(self.items.image != ABSENT)[:, 0]
        order = there[torch.randperm(len(there), generator=torch.Generator().manual_seed(seed))]
        other = torch.arange(len(self))
        # One cycle in random order: no mention keeps its own, unless another shares the image.
        other[order] = order.roll(1)
        items = self.items
        return self._showing(items.image[other], items.objects[other], items.scene[other])

    def _showing(self, image: Tensor, objects: Tensor, scene: Tensor) -> Mentions:
        items = dataclasses.replace(self.items, image=image, objects=objects, scene=scene)
        return dataclasses.replace(self, items=items)


@dataclass(frozen=True)
class LinkData:
    """The mentions of every split and the entities that they are linked to.

    Attributes
    ----------
    splits : dict of str to Mentions
    entities : Items
    entity_table : DataFrame
    memory : FeatureMemory
        What the rows point into.
    tokens : int
        Tokens of each text that a head reads, at most.
    """

    splits: dict[str, Mentions]
    entities: Items
    entity_table: pd.DataFrame
    memory: FeatureMemory
    tokens: int

    @classmethod
    def load(
        cls, folder: Path, splits: tuple[str, ...], memory: FeatureMemory, tokens: int
    ) -> LinkData:
        """Read the lists of the pairs stage in `folder`.

        An image that could be read then, yet not encoded, is absent.

        Raises
        ------
        UserError
            If the lists point at rows that the feature stores do not have, or a text has no
            features.
        """
        table = read_table(folder / ENTITIES)
        entities = _items(table, memory, folder / ENTITIES)
        found = {}
        for split in splits:
            path = folder / f"{split}.parquet"
            rows = read_table(path)
            candidates = [torch.tensor(list(listed)) for listed in rows["candidates"]]
            found[split] = Mentions(
                _items(rows, memory, path),
                torch.tensor(rows["entity"].to_numpy()),
                torch.nn.utils.rnn.pad_sequence(candidates, True, ABSENT).long(),
                rows,
            )
        return cls(found, entities, table, memory, tokens)

    def mention_features(self, mentions: Mentions, rows: Tensor) -> LinkItems:
        """Gather the features of some mentions."""
        return mentions.items.of(rows).gather(self.memory, self.tokens)

    def entity_features(self, rows: Tensor) -> LinkItems:
        """Gather the features of some entities."""
        return self.entities.of(rows).gather(self.memory, self.tokens)

    def statistics(self) -> ChannelStatistics:
        """Return the channels' statistics over the training mentions and their entities."""
        memory, train = self.memory, self.splits["train"]
        linked = torch.cat([train.gold, train.candidates.flatten()]).unique()
        entities = self.entities.of(linked[linked != ABSENT])
        images = torch.cat([train.items.image, entities.image]).unique()
        images = images[images != ABSENT]
        width = memory.image_dim
        return ChannelStatistics(
            memory.image_statistics(images)
            if len(images)
            else (torch.zeros(width), torch.ones(width)),
            memory.text_statistics(torch.cat([train.items.text, entities.text]).unique()),
        )

    def ranking_batch(self, mentions: Mentions, rows: Tensor, most: int) -> RankingBatch:
        """Gather a batch of mentions that have a gold entity.

        Parameters
        ----------
        rows : Tensor, int64, shape (M,)
            Which mentions.
        most : int
            Own candidates of each mention at most.
        """
        golds, gold = mentions.gold[rows].unique(return_inverse=True)
        own = mentions.candidates[rows][:, :most]
        counted = (own != ABSENT) & ~torch.isin(own, golds)
        others = own[counted].unique()
        entities = torch.cat([golds, others])
        place = torch.zeros(len(self.entities), dtype=torch.int64)
        place[entities] = torch.arange(len(entities))
        device = self.memory.grid.device
        return RankingBatch(
            mentions=self.mention_features(mentions, rows),
            entities=self.entity_features(entities),
            golds=len(golds),
            gold=gold.to(device),
            candidates=place[own.clamp(min=0)].to(device),
            candidate_mask=counted.to(device),
        )


def _items(table: pd.DataFrame, memory: FeatureMemory, path: Path) -> Items:
    def rows(column: str) -> Tensor:
        if column in table:
            return torch.tensor(table[column].to_numpy(), dtype=torch.int64)
        return torch.full((len(table),), ABSENT)

    items = Items(rows("text"), rows("image"), rows("name_text"), rows("objects"), rows("scene"))
    images, texts = len(memory.grid), len(memory.offsets) - 1
    of_texts = torch.cat([items.text, items.name, items.objects, items.scene])
    if items.image.max() >= images or of_texts.max() >= texts:
        raise UserError(
            f"{path} points at rows beyond the {images} images and {texts} texts of the feature "
            f"stores; they are of different data: run `dvc repro`"
        )
    if not (good := memory.texts_ok[of_texts[of_texts != ABSENT]]).all():
        raise UserError(
            f"{path}: {int((~good).sum())} texts have no features (not finite in float16); "
            f"choose another text.encoder"
        )
    usable = memory.images_ok[items.image.clamp(min=0)] & (items.image != ABSENT)
    return dataclasses.replace(items, image=torch.where(usable, items.image, ABSENT))


def _texts(memory: FeatureMemory, rows: Tensor, tokens: int) -> Sequences:
    rows = rows.to(memory.offsets.device)
    there = rows != ABSENT
    if not there.any():
        return _nothing(memory, len(rows), memory.text_dim)
    gathered = memory.texts(torch.where(there, rows, rows[there][0]), tokens)
    return Sequences(gathered.values, gathered.mask & there[:, None])


def _images(memory: FeatureMemory, rows: Tensor) -> Sequences:
    rows = rows.to(memory.grid.device)
    there = rows != ABSENT
    if not there.any():
        return _nothing(memory, len(rows), memory.image_dim)
    gathered = memory.images(torch.where(there, rows, rows[there][0]))
    return Sequences(gathered.values, gathered.mask & there[:, None])


def _nothing(memory: FeatureMemory, items: int, width: int) -> Sequences:
    """Return sequences of one position that holds no token."""
    values = torch.zeros(items, 1, width, device=memory.grid.device)
    return Sequences(values, values.new_zeros(items, 1, dtype=torch.bool))
