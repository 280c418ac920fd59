"""All features in memory, read once; batches are gathered from there by row number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmsim.data.tables import read_table
from mmsim.errors import UserError
from mmsim.features.status import Status
from mmsim.features.store import FeatureStore
from mmsim.models.batch import PairBatch, Sequences

if TYPE_CHECKING:
    import pandas as pd

STATISTICS_ROWS = 64
"""Items gathered at a time for statistics."""

ROW_COLUMNS = ["query_image", "query_text", "candidate_image", "candidate_text"]


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean and standard deviation of each feature channel, each of shape (dimension,)."""

    image: tuple[Tensor, Tensor]
    text: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class FeatureMemory:
    """Frozen features of all images and texts, on one device.

    Attributes
    ----------
    grid : Tensor, float16, shape (images, cells, image width)
    tokens : Tensor, float16, shape (tokens of all texts, text width)
    offsets : Tensor, int64, shape (texts + 1,)
        Text i has tokens offsets[i] to offsets[i + 1].
    images_ok, texts_ok : Tensor, bool, shapes (images,) and (texts,)
        Whether the encoder could encode the row; the features of others mean nothing.
    """

    grid: Tensor
    tokens: Tensor
    offsets: Tensor
    images_ok: Tensor
    texts_ok: Tensor

    @classmethod
    def load(cls, image_store: Path, text_store: Path, device: torch.device) -> FeatureMemory:
        """Read both stores once, in sequence, to `device`."""
        images, texts = FeatureStore.open(image_store), FeatureStore.open(text_store)
        images_ok = torch.from_numpy(images.read("status") == Status.OK)
        # Where no image could be encoded, as in data of texts alone, there is no grid to read.
        grid = (
            torch.from_numpy(images.read("grid"))
            if images_ok.any()
            else torch.zeros(images.rows, 1, images.width, dtype=torch.float16)
        )
        return cls(
            grid.to(device),
            torch.from_numpy(texts.read("tokens")).to(device),
            torch.from_numpy(texts.read("offsets")).to(device),
            images_ok,
            torch.from_numpy(texts.read("status") == Status.OK),
        )

    @property
    def image_dim(self) -> int:
        """Width of the image features."""
        return self.grid.shape[-1]

    @property
    def text_dim(self) -> int:
        """Width of the text features."""
        return self.tokens.shape[-1]

    def images(self, rows: Tensor) -> Sequences:
        """Gather the grids of images, as float32."""
        values = self.grid[rows].float()
        return Sequences(values, values.new_ones(values.shape[:2], dtype=torch.bool))

    def texts(self, rows: Tensor, most: int | None = None) -> Sequences:
        """Gather the tokens of texts, the first `most`, as float32, padded to the longest."""
        start, length = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        if most is not None:
            length = length.clamp(max=most)
        steps = torch.arange(int(length.max()), device=length.device)
        mask = steps < length[:, None]
        positions = (start[:, None] + steps).clamp(max=len(self.tokens) - 1)
        return Sequences(self.tokens[positions].float(), mask)

    def image_statistics(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of each channel over all cells of these images."""
        return _statistics(self.images(part).values for part in rows.split(STATISTICS_ROWS))

    def text_statistics(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of each channel over all tokens of these texts."""
        gathered = (self.texts(part) for part in rows.split(STATISTICS_ROWS))
        return _statistics(texts.values[texts.mask] for texts in gathered)

    def statistics(self, rows: Tensor) -> ChannelStatistics:
        """Return the statistics of both modalities over the items of these pairs.

        Parameters
        ----------
        rows : Tensor, int64, shape (pairs, 4)
            Row numbers in the order of `ROW_COLUMNS`.
        """
        images, texts = rows[:, [0, 2]].unique(), rows[:, [1, 3]].unique()
        return ChannelStatistics(self.image_statistics(images), self.text_statistics(texts))

    def batch(self, rows: Tensor, task: str) -> PairBatch:
        """Gather a batch of pairs.

        Parameters
        ----------
        rows : Tensor, int64, shape (pairs, 4)
            Row numbers in the order of `ROW_COLUMNS`.
        task : {"match", "pair"}
            match: only the query's image and the candidate's caption are gathered.
        """
        if task == "match":
            rows = rows[:, [0, 3, 0, 3]]
        rows = rows.to(self.grid.device)
        image_rows, images = torch.unique(rows[:, [0, 2]], return_inverse=True)
        text_rows, texts = torch.unique(rows[:, [1, 3]], return_inverse=True)
        return PairBatch(
            images=self.images(image_rows),
            texts=self.texts(text_rows),
            query_image=images[:, 0],
            query_text=texts[:, 0],
            candidate_image=images[:, 1],
            candidate_text=texts[:, 1],
        )

    def match_block(self, images: Tensor, texts: Tensor) -> PairBatch:
        """Gather images as queries and texts as candidates, all against all.

        Parameters
        ----------
        images, texts : Tensor, int64, shapes (queries,) and (candidates,)
            Row numbers, none of them twice.
        """
        device = self.grid.device
        queries = torch.arange(len(images), device=device)
        candidates = torch.arange(len(texts), device=device)
        return PairBatch(
            images=self.images(images.to(device)),
            texts=self.texts(texts.to(device)),
            query_image=queries,
            query_text=queries,
            candidate_image=candidates,
            candidate_text=candidates,
        )


def _statistics(parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation over all but the last axis of all parts."""
    count, total, squares = 0, torch.zeros(1), torch.zeros(1)
    for part in parts:
        values = part.flatten(0, -2).double()
        count += len(values)
        total = total.to(values) + values.sum(0)
        squares = squares.to(values) + (values**2).sum(0)
    mean = total / count
    return mean.float(), (squares / count - mean**2).clamp(min=0).sqrt().float()


@dataclass(frozen=True)
class Pairs:
    """The pairs of one split, as tensors.

    Attributes
    ----------
    rows : Tensor, int64, shape (pairs, 4)
        Row numbers in the order of `ROW_COLUMNS`.
    labels : Tensor, float32, shape (pairs,)
    table : DataFrame
        The pair list itself.
    """

    rows: Tensor
    labels: Tensor
    table: pd.DataFrame

    @classmethod
    def load(cls, path: Path, memory: FeatureMemory) -> Pairs:
        """Read a pair list: `Pairs.of` a Parquet table."""
        return cls.of(read_table(path), memory, str(path))

    @classmethod
    def of(cls, table: pd.DataFrame, memory: FeatureMemory, name: str = "the pairs") -> Pairs:
        """Take a pair list, less the pairs that have a row without features.

        Such rows are rare: their image could be read when the pairs were drawn, yet not
        encoded. How many pairs they cost is printed.

        Raises
        ------
        UserError
            If the list points at rows that the feature stores do not have.
        """
        rows = torch.tensor(table[ROW_COLUMNS].to_numpy())
        images, texts = len(memory.grid), len(memory.offsets) - 1
        if rows[:, [0, 2]].max() >= images or rows[:, [1, 3]].max() >= texts:
            raise UserError(
                f"{name} points at rows beyond the {images} images and {texts} texts of the "
                f"feature stores; they are of different data: run `dvc repro`"
            )
        usable = memory.images_ok[rows[:, [0, 2]]].all(1) & memory.texts_ok[rows[:, [1, 3]]].all(1)
        if not usable.all():
            print(f"{name}: {int((~usable).sum())} of {len(rows)} pairs have no features, left out")
            rows, table = rows[usable], table[usable.numpy()].reset_index(drop=True)
        return cls(rows, torch.tensor(table["label"].to_numpy()).float(), table)

    def __len__(self) -> int:
        return len(self.labels)
