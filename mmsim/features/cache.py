"""Finished work that outlives a stage's outputs: shards of encoded rows, found by content.

DVC deletes a stage's partial outputs before it reruns the stage. Finished rows therefore lie in
the user's cache, in one folder for each way of encoding (its fingerprint), as shard files that
carry the ids of their rows. A shard is written under a temporary name and then renamed, and its
name follows from its ids: a killed process leaves no half shard, and two processes that encode
the same rows write the same file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mmsim.errors import UserError
from mmsim.features.layout import Layout
from mmsim.features.rows import (
    Failure,
    FeatureRows,
    concatenated,
    empty_rows,
    offsets_of,
    sliced,
)
from mmsim.features.status import Status
from mmsim.files import replacing_file
from mmsim.paths import CACHE_VARIABLE, cache_dir

DIGEST_BYTES = 32


class FeatureCache:
    """The encoded rows of one fingerprint.

    Parameters
    ----------
    layout : Layout
        Arrays of a row.
    fingerprint : str
        Hash over all that decides the features of a given content.
    """

    def __init__(self, layout: Layout, fingerprint: str) -> None:
        self.layout = layout
        self.folder = cache_dir("features") / f"{layout.kind}-{fingerprint[:32]}"
        self.folder.mkdir(exist_ok=True)
        self._shards: dict[str, NDArray[np.int64] | None] = {}
        self._names: list[str] = []
        self._place: dict[bytes, tuple[int, int]] = {}
        self.failures: dict[bytes, Failure] = {}
        self.refresh()

    def __contains__(self, identity: bytes | None) -> bool:
        return identity in self._place

    def refresh(self) -> None:
        """Take in shards that were written since the last look; unreadable ones are left out."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name in self._shards:
                continue
            try:
                self._take_in(path)
            except (SafetensorError, OSError, KeyError, ValueError) as error:
                print(f"{path} cannot be read ({error}); its rows are encoded again", flush=True)
                if not isinstance(error, OSError):  # which may pass; a broken file does not
                    path.unlink(missing_ok=True)

    def _take_in(self, path: Path) -> None:
        with safe_open(path, framework="np") as shard:
            digests = shard.get_tensor("ids")
            lengths = shard.get_tensor("lengths") if self.layout.ragged else None
            reasons = json.loads((shard.metadata() or {})["failures"])
        number = len(self._names)
        self._names.append(path.name)
        self._shards[path.name] = None if lengths is None else offsets_of(lengths)
        for position, digest in enumerate(digests):
            self._place.setdefault(digest.tobytes(), (number, position))
        for position, (status, reason) in reasons.items():
            self.failures[digests[int(position)].tobytes()] = Failure(Status(status), reason)

    def lengths(self, ids: Sequence[bytes | None]) -> NDArray[np.int64]:
        """Return the number of ragged entries of each row; 0 where the row is not here."""
        counts = np.zeros(len(ids), np.int64)
        for row, identity in enumerate(ids):
            if identity in self._place:
                number, position = self._place[identity]
                offsets = self._shards[self._names[number]]
                if offsets is not None:
                    counts[row] = offsets[position + 1] - offsets[position]
        return counts

    def read(self, ids: Sequence[bytes]) -> FeatureRows:
        """Return the features of rows that are here, in the order asked for."""
        parts = [self._read_run(*run) for run in self._runs(ids)]
        if not parts:
            return empty_rows(self.layout, [], Status.OK)
        return concatenated(parts)

    def _runs(self, ids: Sequence[bytes]) -> Iterator[tuple[int, int, int]]:
        """Yield (shard, start, stop) of rows that lie one after the other in a shard."""
        run: tuple[int, int, int] | None = None
        for identity in ids:
            number, position = self._place[identity]
            if run and run[0] == number and run[2] == position:
                run = (number, run[1], position + 1)
                continue
            if run:
                yield run
            run = (number, position, position + 1)
        if run:
            yield run

    def _read_run(self, number: int, start: int, stop: int) -> FeatureRows:
        name = self._names[number]
        offsets = self._shards[name]
        names = [*self.layout.fixed, "status", "ids", *(["lengths"] if self.layout.ragged else [])]
        with safe_open(self.folder / name, framework="np") as shard:
            arrays = {name: shard.get_slice(name)[start:stop] for name in names}
            if self.layout.ragged and offsets is not None:
                first, last = int(offsets[start]), int(offsets[stop])
                arrays[self.layout.ragged] = (
                    shard.get_slice(self.layout.ragged)[first:last]
                    if last > first
                    else np.zeros((0, self.layout.width), np.float16)
                )
        ids = [digest.tobytes() for digest in arrays.pop("ids")]
        return FeatureRows(ids, arrays)


class ShardWriter:
    """Collects encoded rows and writes them as shards of a fixed number of rows."""

    def __init__(self, cache: FeatureCache) -> None:
        self.folder, self.layout = cache.folder, cache.layout
        self._waiting: list[FeatureRows] = []

    def add(self, rows: FeatureRows) -> None:
        """Take rows, and write a shard each time that enough have come."""
        self._waiting.append(rows)
        if sum(len(part.ids) for part in self._waiting) < self.layout.shard_rows:
            return
        together = concatenated(self._waiting)
        whole = len(together.ids) - len(together.ids) % self.layout.shard_rows
        for start in range(0, whole, self.layout.shard_rows):
            self._write(sliced(together, self.layout, start, start + self.layout.shard_rows))
        self._waiting = [sliced(together, self.layout, whole, len(together.ids))]

    def flush(self) -> None:
        """Write what has come so far as a last, smaller shard."""
        rows = concatenated(self._waiting) if self._waiting else None
        self._waiting = []
        if rows and rows.ids:
            self._write(rows)

    def _write(self, rows: FeatureRows) -> None:
        name = hashlib.sha256(b"".join(rows.ids)).hexdigest()[:32]
        tensors: dict[str, Any] = {
            key: np.ascontiguousarray(array) for key, array in rows.arrays.items()
        }
        digests = np.frombuffer(b"".join(rows.ids), np.uint8)
        tensors["ids"] = digests.reshape(-1, DIGEST_BYTES)
        failures = {
            str(position): (int(rows.failures[identity].status), rows.failures[identity].reason)
            for position, identity in enumerate(rows.ids)
            if identity in rows.failures
        }
        try:
            with replacing_file(self.folder / f"{name}.safetensors") as temporary:
                save_file(tensors, temporary, metadata={"failures": json.dumps(failures)})
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"finished features cannot be written to {self.folder} ({error}); make room or "
                f"set {CACHE_VARIABLE} to another folder. Finished shards are kept: run it again"
            ) from error
