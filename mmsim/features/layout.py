"""Which arrays the features of a row consist of: the one description of stores and shards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GRID_CELLS = 49
LARGEST_CHUNK_BYTES = 16_000_000
LARGEST_FLOAT16 = 65504.0


@dataclass(frozen=True)
class Layout:
    """The arrays of a feature store, and of the cache shards that it is assembled from.

    Attributes
    ----------
    kind : {"image", "text"}
        What is encoded.
    width : int
        Width of a feature vector.
    fixed : dict of str to (tuple of int, str)
        Arrays with one entry for each row: the entry's shape and NumPy dtype.
    ragged : str or None
        Name of the float16 array with a varying number of `width`-wide entries a row, if any.
    shard_rows : int
        Rows of one shard of the cache; a killed run loses no more than this many.
    """

    kind: Literal["image", "text"]
    width: int
    fixed: dict[str, tuple[tuple[int, ...], str]]
    ragged: str | None
    shard_rows: int


def image_layout(width: int) -> Layout:
    """Return the layout of image features: the 7x7 grid row by row, and its mean."""
    fixed = {"grid": ((GRID_CELLS, width), "float16"), "pooled": ((width,), "float16")}
    return Layout("image", width, fixed, ragged=None, shard_rows=64)


def text_layout(width: int) -> Layout:
    """Return the layout of text features: token states, the first, their mean, truncated or not."""
    fixed = {
        "first": ((width,), "float16"),
        "mean": ((width,), "float16"),
        "truncated": ((), "uint8"),
    }
    return Layout("text", width, fixed, ragged="tokens", shard_rows=256)


def chunk_rows(row_bytes: int) -> int:
    """Return the power of two of rows that makes chunks of 8 to 16 MB."""
    return 1 << (max(1, LARGEST_CHUNK_BYTES // row_bytes).bit_length() - 1)
