"""Encoded rows on their way from the encoder to the cache and from there to the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsim.features.layout import Layout
from mmsim.features.status import Status


@dataclass(frozen=True)
class Failure:
    """Why a row has no features.

    Attributes
    ----------
    lasting : bool
        True where the same content fails again: such a row is not tried again.
    """

    status: Status
    reason: str
    lasting: bool = True


@dataclass
class FeatureRows:
    """Features of some rows.

    Attributes
    ----------
    ids : list of bytes, length n
        SHA-256 digest of each row's content.
    arrays : dict of str to ndarray
        ``status`` (n,) uint8, the layout's fixed arrays (n, ...) and, where the layout has a
        ragged array, ``lengths`` (n,) int64 and that array (sum of lengths, width).
    failures : dict of bytes to Failure
        By id: why a row is not ``ok``. A passing (not lasting) failure has no entry in `ids`.
    """

    ids: list[bytes]
    arrays: dict[str, NDArray[Any]]
    failures: dict[bytes, Failure] = field(default_factory=dict)


def empty_rows(layout: Layout, ids: Sequence[bytes], status: Status) -> FeatureRows:
    """Return rows of zeros, all with the same status."""
    count = len(ids)
    arrays: dict[str, NDArray[Any]] = {
        name: np.zeros((count, *shape), dtype) for name, (shape, dtype) in layout.fixed.items()
    }
    arrays["status"] = np.full(count, status, np.uint8)
    if layout.ragged:
        arrays["lengths"] = np.zeros(count, np.int64)
        arrays[layout.ragged] = np.zeros((0, layout.width), np.float16)
    return FeatureRows(list(ids), arrays)


def concatenated(parts: Sequence[FeatureRows]) -> FeatureRows:
    """Return the rows of all parts, in order."""
    return FeatureRows(
        [identity for part in parts for identity in part.ids],
        {name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays},
        {identity: failure for part in parts for identity, failure in part.failures.items()},
    )


def sliced(rows: FeatureRows, layout: Layout, start: int, stop: int) -> FeatureRows:
    """Return the rows from `start` to `stop`."""
    ids = rows.ids[start:stop]
    arrays = {name: rows.arrays[name][start:stop] for name in (*layout.fixed, "status")}
    if layout.ragged:
        offsets = offsets_of(rows.arrays["lengths"])
        arrays["lengths"] = rows.arrays["lengths"][start:stop]
        arrays[layout.ragged] = rows.arrays[layout.ragged][offsets[start] : offsets[stop]]
    failures = {identity: rows.failures[identity] for identity in ids if identity in rows.failures}
    return FeatureRows(ids, arrays, failures)


def offsets_of(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Return where each of the ragged rows starts, and where the last one ends: (n + 1,)."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def finite_or_overflow(rows: FeatureRows, layout: Layout, finite: NDArray[np.bool_]) -> FeatureRows:
    """Set each row that is not finite in float16 to zeros with status ``overflow``."""
    if finite.all():
        return rows
    for name in layout.fixed:
        rows.arrays[name][~finite] = 0
    if layout.ragged:
        rows.arrays[layout.ragged][np.repeat(~finite, rows.arrays["lengths"])] = 0
    rows.arrays["status"][~finite] = Status.OVERFLOW
    for position in np.flatnonzero(~finite):
        reason = "its features are not finite in float16"
        rows.failures[rows.ids[position]] = Failure(Status.OVERFLOW, reason)
    return rows
