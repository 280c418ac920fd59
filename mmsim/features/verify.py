"""Checks that a feature store is what its manifest says and what its encoder gives."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsim.errors import UserError
from mmsim.features.extract import Source
from mmsim.features.fingerprint import hash_of_description, hash_of_ids
from mmsim.features.pipeline import Timings
from mmsim.features.rows import concatenated, offsets_of
from mmsim.features.status import Status
from mmsim.features.store import FeatureStore

# Least cosine, and largest difference as a share of the row's largest value. The same row in
# another batch, or on another device, has other last bits: in bfloat16 far more of them.
TOLERANCES = {"float32": (0.9999, 0.01), "bfloat16": (0.995, 0.1)}
SHOWN_ROWS = 10


@dataclass(frozen=True)
class VerifyReport:
    """What was checked.

    Attributes
    ----------
    path : Path
        The store.
    rows : int
        Rows in it.
    counts : dict of str to int
        Rows by status.
    reencoded : int
        Rows that were encoded again.
    least_cosine, largest_difference : float
        The worst over all of them; the difference as a share of the row's largest value.
    """

    path: Path
    rows: int
    counts: dict[str, int]
    reencoded: int
    least_cosine: float
    largest_difference: float

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {name}" for name, count in self.counts.items() if count)
        return (
            f"{self.path}: {self.rows:,} rows ({counts}), every chunk there, every value finite; "
            f"{self.reencoded} rows encoded again: least cosine {self.least_cosine:.6f}, largest "
            f"difference {100 * self.largest_difference:.3f} % of the row's largest value"
        )


def verify_store(path: Path, source: Source, sample: int = 32, seed: int = 0) -> VerifyReport:
    """Check a store against its manifest, its rows' contents and its encoder.

    Parameters
    ----------
    path : Path
        The store.
    source : Source
        The rows and encoder that it should have been made from
        (`mmsim.features.extract_images.image_source`,
        `mmsim.features.extract_texts.text_source`).
    sample, seed : int
        How many rows to encode again, and the seed of their draw.

    Raises
    ------
    UserError
        At the first check that fails; the message names the rows.
    """
    store = FeatureStore.open(path)
    _check_description(store, source)
    status = store.read("status")
    _check_shapes(store, source, status)
    _check_values(store)
    usable = [
        row for row in np.flatnonzero(status == Status.OK).tolist() if source.ids[row] is not None
    ]
    drawn = sorted(random.Random(seed).sample(usable, min(sample, len(usable))))
    cosine, difference = _check_reencoded(store, source, drawn) if drawn else (1.0, 0.0)
    return VerifyReport(path, store.rows, store.manifest.counts, len(drawn), cosine, difference)


def _fail(store: FeatureStore, problem: str) -> UserError:
    return UserError(f"{store.path}: {problem}. Delete the store and run its stage again")


def _rows(rows: NDArray[np.integer] | list[int]) -> str:
    shown = ", ".join(str(row) for row in list(rows)[:SHOWN_ROWS])
    return f"rows {shown}" + (
        f" and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
    )


def _check_description(store: FeatureStore, source: Source) -> None:
    manifest = store.manifest
    if manifest.rows != len(source.ids) or manifest.ids_sha256 != hash_of_ids(source.ids):
        raise _fail(
            store,
            f"its {manifest.rows} rows are not the {len(source.ids)} prepared {source.unit}, or "
            f"stand in another order",
        )
    ignored = ("precision",)  # computing in another precision is what the tolerance is for
    here = {key: value for key, value in source.description.items() if key not in ignored}
    there = {key: value for key, value in manifest.encoder.items() if key not in ignored}
    if manifest.fingerprint != hash_of_description(manifest.encoder):
        raise _fail(store, "its manifest was changed: the encoder does not match its fingerprint")
    for key in here:
        if here[key] != there.get(key):
            raise _fail(
                store, f"it was made with {key} {there.get(key)!r}, the encoder has {here[key]!r}"
            )


def _check_shapes(store: FeatureStore, source: Source, status: NDArray[np.uint8]) -> None:
    layout, rows = source.layout, store.rows
    expected = {name: (rows, *shape) for name, (shape, _) in layout.fixed.items()}
    expected["status"] = (rows,)
    if layout.ragged:
        offsets = store.read("offsets")
        if len(offsets) != rows + 1 or offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise _fail(store, "its offsets do not run from 0 upwards, one for each row")
        expected |= {"offsets": (rows + 1,), layout.ragged: (int(offsets[-1]), layout.width)}
    for name, shape in expected.items():
        if name not in store.array_names() or store.shape(name) != shape:
            raise _fail(store, f"array {name!r} is missing or not of shape {shape}")
    counts = {label.label: int((status == label).sum()) for label in Status}
    if counts != store.manifest.counts:
        raise _fail(store, f"its statuses {counts} are not the manifest's {store.manifest.counts}")


def _check_values(store: FeatureStore) -> None:
    offsets = store.read("offsets") if "offsets" in store.array_names() else None
    for name in store.array_names():
        for start, block in store.blocks(name):
            if block.dtype != np.float16:
                break
            entries = start + np.flatnonzero(~np.isfinite(block.reshape(len(block), -1)).all(1))
            if not len(entries):
                continue
            if offsets is not None and name == "tokens":
                entries = np.unique(np.searchsorted(offsets, entries, side="right") - 1)
            raise _fail(
                store, f"array {name!r} holds values that are not finite in {_rows(entries)}"
            )


def _check_reencoded(store: FeatureStore, source: Source, drawn: list[int]) -> tuple[float, float]:
    encoded = concatenated(list(source.encode(drawn, Timings())))
    position = {identity: place for place, identity in enumerate(encoded.ids)}
    lost = [row for row in drawn if source.ids[row] not in position]
    if lost:
        reasons = "; ".join(failure.reason for failure in list(encoded.failures.values())[:3])
        raise _fail(store, f"{_rows(lost)} cannot be encoded again: {reasons}")
    least_cosine, tolerance = min(
        TOLERANCES[str(store.manifest.encoder["precision"])],
        TOLERANCES[str(source.description["precision"])],
    )
    worst_cosine, worst_difference, wrong = 1.0, 0.0, []
    for row in drawn:
        place = position[source.ids[row] or b""]
        for stored, again in _feature_pairs(store, source, encoded.arrays, row, place):
            if stored.shape != again.shape:
                wrong.append(row)
                continue
            cosine, difference = _agreement(stored, again)
            worst_cosine = min(worst_cosine, cosine)
            worst_difference = max(worst_difference, difference)
            if cosine < least_cosine or difference > tolerance:
                wrong.append(row)
    if wrong:
        raise _fail(
            store,
            f"{_rows(sorted(set(wrong)))} are not what the encoder gives: cosine down to "
            f"{worst_cosine:.4f} (allowed {least_cosine}), difference up to "
            f"{worst_difference:.4f} of the largest value (allowed {tolerance})",
        )
    return worst_cosine, worst_difference


def _feature_pairs(
    store: FeatureStore,
    source: Source,
    arrays: dict[str, NDArray[Any]],
    row: int,
    place: int,
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return (stored, encoded again) of each feature array of a row."""
    pairs = [
        (store.read(name, row, row + 1)[0], arrays[name][place])
        for name, (shape, _) in source.layout.fixed.items()
        if shape
    ]
    if source.layout.ragged:
        start, stop = store.read("offsets", row, row + 2)
        offsets = offsets_of(arrays["lengths"])
        again = arrays[source.layout.ragged][offsets[place] : offsets[place + 1]]
        pairs.append((store.read(source.layout.ragged, start, stop), again))
    return [(a.astype(np.float32), b.astype(np.float32)) for a, b in pairs]


def _agreement(stored: NDArray[np.float32], again: NDArray[np.float32]) -> tuple[float, float]:
    """Return the cosine of two arrays and their largest difference by the largest value."""
    norms = float(np.linalg.norm(stored) * np.linalg.norm(again))
    cosine = float((stored * again).sum()) / norms if norms else float((stored == again).all())
    largest = float(np.abs(again).max()) or 1.0
    return min(cosine, 1.0), float(np.abs(stored - again).max()) / largest
