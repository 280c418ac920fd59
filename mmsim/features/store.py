"""The feature store: Zarr arrays of encoded rows with a manifest of how they were made.

``image.zarr`` holds ``grid`` (N, 49, D), ``pooled`` (N, D) and ``status`` (N,). ``text.zarr``
holds ``tokens`` (T, D) with ``offsets`` (N + 1,), so that row i owns
``tokens[offsets[i]:offsets[i + 1]]``, and ``first`` (N, D), ``mean`` (N, D), ``truncated`` (N,)
and ``status`` (N,). Features are float16, in uncompressed chunks of 8 to 16 MB along the rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from mmsim.errors import UserError
from mmsim.features.layout import Layout, chunk_rows


@dataclass(frozen=True)
class Manifest:
    """How a feature store was made; kept in the attributes of its Zarr group.

    Attributes
    ----------
    kind : str
        ``"image"`` or ``"text"``.
    rows, width : int
        Rows, and width of a feature vector.
    ids_sha256 : str
        Hash over the content ids of all rows, in order.
    encoder : dict
        All that decides the features of a content: encoder, weights and their hash,
        preprocessing, longest text, precision.
    fingerprint : str
        Hash of `encoder`.
    counts : dict of str to int
        Rows by status.
    truncated : int
        Texts that were longer than the longest allowed.
    failures : list of dict
        Row, status and reason of each row without features, the first 1,000 of them.
    device, micro_batch : str, int
        Where they were computed, and rows at a time (after any halving for lack of memory).
    versions : dict of str to str
        Versions of the libraries used.
    """

    kind: str
    rows: int
    width: int
    ids_sha256: str
    encoder: dict[str, Any]
    fingerprint: str
    counts: dict[str, int]
    truncated: int
    failures: list[dict[str, Any]]
    device: str
    micro_batch: int
    versions: dict[str, str]


class FeatureStore:
    """A finished feature store, for reading only; made by `FeatureStore.open`."""

    def __init__(self, path: Path, group: zarr.Group, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self._group = group

    @classmethod
    def open(cls, path: Path) -> FeatureStore:
        """Open the store at `path`.

        Raises
        ------
        UserError
            If it is missing, is no feature store, or lacks a chunk: Zarr reads an unwritten
            chunk as zeros, which would look like data.
        """
        advice = "make it again: `dvc repro` or `python -m stages.features_image` (or _text)"
        if not path.is_dir():
            raise UserError(f"the feature store {path} is missing; {advice}")
        try:
            group = zarr.open_group(store=str(path), mode="r", zarr_format=3)
            manifest = Manifest(**cast(dict[str, Any], group.attrs.asdict()))
        except (OSError, TypeError, ValueError, KeyError) as error:
            raise UserError(f"{path} is no feature store of mmsim ({error}); {advice}") from error
        for name, array in group.arrays():
            if array.nchunks_initialized != array.nchunks:
                raise UserError(
                    f"{path}: array {name!r} lacks {array.nchunks - array.nchunks_initialized} of "
                    f"its {array.nchunks} chunks; {advice}"
                )
        return cls(path, group, manifest)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.manifest.rows

    @property
    def width(self) -> int:
        """Width of a feature vector."""
        return self.manifest.width

    def array_names(self) -> list[str]:
        """Return the names of the arrays."""
        return sorted(self._group.array_keys())

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array."""
        return self._array(name).shape

    def read(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return the entries `start` to `stop` of an array, all by default, in memory."""
        return np.asarray(self._array(name)[start:stop])

    def blocks(self, name: str) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield an array chunk by chunk, each with the number of its first entry."""
        array = self._array(name)
        for start in range(0, array.shape[0], array.chunks[0]):
            yield start, self.read(name, start, start + array.chunks[0])

    def _array(self, name: str) -> zarr.Array[Any]:
        return cast("zarr.Array[Any]", self._group[name])


class _Column:
    """Appends entries to a Zarr array and writes only whole chunks until the end."""

    def __init__(self, group: zarr.Group, name: str, shape: tuple[int, ...], dtype: str) -> None:
        row_bytes = int(np.dtype(dtype).itemsize * np.prod(shape[1:], dtype=np.int64))
        self.rows = max(1, min(chunk_rows(row_bytes), shape[0]))
        self.array = group.create_array(
            name,
            shape=shape,
            chunks=(self.rows, *shape[1:]),
            dtype=dtype,
            compressors=None,
            fill_value=0,
            config={"write_empty_chunks": True},
        )
        self.buffer = np.zeros((self.rows, *shape[1:]), dtype)
        self.written = self.held = 0

    def append(self, values: NDArray[Any]) -> None:
        while len(values):
            taken = min(len(values), self.rows - self.held)
            self.buffer[self.held : self.held + taken] = values[:taken]
            self.held += taken
            values = values[taken:]
            if self.held == self.rows:
                self.close()

    def close(self) -> None:
        if self.held:
            self.array[self.written : self.written + self.held] = self.buffer[: self.held]
            self.written, self.held = self.written + self.held, 0


class StoreWriter:
    """Writes the rows of a new store in order.

    Parameters
    ----------
    folder : Path
        Empty folder that becomes the store.
    layout : Layout
        Its arrays.
    rows, entries : int
        Rows, and entries of the ragged array in all.
    """

    def __init__(self, folder: Path, layout: Layout, rows: int, entries: int) -> None:
        self.group = zarr.create_group(store=str(folder), overwrite=True, zarr_format=3)
        shapes = {name: ((rows, *shape), dtype) for name, (shape, dtype) in layout.fixed.items()}
        shapes["status"] = ((rows,), "uint8")
        if layout.ragged:
            shapes[layout.ragged] = ((entries, layout.width), "float16")
            shapes["offsets"] = ((rows + 1,), "int64")
        self.columns = {
            name: _Column(self.group, name, shape, dtype) for name, (shape, dtype) in shapes.items()
        }
        self.offset = 0
        if layout.ragged:
            self.columns["offsets"].append(np.zeros(1, np.int64))

    def append(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Append rows: the fixed arrays, ``status`` and, if ragged, ``lengths`` and values."""
        for name, array in arrays.items():
            if name == "lengths":
                self.columns["offsets"].append(self.offset + np.cumsum(array, dtype=np.int64))
                self.offset += int(array.sum())
            else:
                self.columns[name].append(array)

    def finish(self, manifest: Manifest) -> None:
        """Write what is left and the manifest; every row must have been appended."""
        for name, column in self.columns.items():
            column.close()
            if column.written != column.array.shape[0]:
                raise ValueError(f"{name}: {column.written} of {column.array.shape[0]} written")
        self.group.attrs.update(dataclasses.asdict(manifest))
