"""Extraction, the same for images and texts: encode what is new, then assemble the store."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError

from mmsim.errors import UserError
from mmsim.features.cache import FeatureCache, ShardWriter
from mmsim.features.fingerprint import hash_of_description, hash_of_ids
from mmsim.features.layout import Layout
from mmsim.features.pipeline import BackgroundWriter, Timings
from mmsim.features.rows import Failure, FeatureRows, empty_rows
from mmsim.features.status import Status
from mmsim.features.store import Manifest, StoreWriter
from mmsim.files import replacing_folder
from mmsim.progress import track

LIBRARIES = ("numpy", "pillow", "safetensors", "torch", "torchvision", "transformers", "zarr")
FAILURES_KEPT = 1000


class Source(Protocol):
    """Rows to encode, with the encoder for them.

    Attributes
    ----------
    layout : Layout
        Arrays of a row.
    unit : str
        What a row is: ``"images"`` or ``"texts"``.
    description : dict
        All that decides the features of a content; JSON can hold it.
    ids : list of (bytes or None)
        SHA-256 digest of each row's content; None for a row known to have none.
    known_failures : dict of int to Failure
        By row: why it has no content.
    """

    layout: Layout
    unit: str
    description: dict[str, Any]
    ids: list[bytes | None]
    known_failures: dict[int, Failure]

    @property
    def device(self) -> torch.device:
        """Where the encoder computes."""
        ...

    @property
    def micro_batch(self) -> int:
        """Rows computed at a time."""
        ...

    def encode(self, rows: Sequence[int], timings: Timings) -> Iterator[FeatureRows]:
        """Yield the features of `rows`, in any order and in parts of any size."""
        ...


@dataclass(frozen=True)
class Extraction:
    """What an extraction did: the store's manifest, and rows encoded rather than found."""

    manifest: Manifest
    encoded: int

    def summary(self) -> str:
        """Return what there is, and the first few reasons why a row has no features."""
        manifest = self.manifest
        counts = ", ".join(f"{count:,} {name}" for name, count in manifest.counts.items() if count)
        lines = [f"{manifest.kind} features: {manifest.rows:,} rows ({counts})"]
        if manifest.truncated:
            limit = manifest.encoder["max_length"]
            lines[0] += f", {manifest.truncated:,} texts cut to {limit} tokens"
        lines += [f"  row {f['row']}: {f['status']}: {f['reason']}" for f in manifest.failures[:5]]
        return "\n".join(lines)


def extract(source: Source, destination: Path) -> Extraction:
    """Encode the rows that no earlier run has finished, and assemble the store.

    Parameters
    ----------
    source : Source
        Rows and encoder.
    destination : Path
        Where the store is to lie; what is there is replaced once the new store is whole.
    """
    cache = FeatureCache(source.layout, hash_of_description(source.description))
    rows = rows_to_encode(source.ids, cache)
    passing = _encode(source, rows, cache) if rows else {}
    cache.refresh()
    manifest = _assemble(source, cache, passing, destination)
    return Extraction(manifest, encoded=len(rows))


def rows_to_encode(ids: Sequence[bytes | None], cache: FeatureCache) -> list[int]:
    """Return the first row of each content that the cache does not hold."""
    first: dict[bytes, int] = {}
    for row, identity in enumerate(ids):
        if identity is not None and identity not in cache:
            first.setdefault(identity, row)
    return list(first.values())


def _encode(source: Source, rows: Sequence[int], cache: FeatureCache) -> dict[bytes, Failure]:
    """Encode rows into the cache; return the failures that may pass, by id."""
    kind, found = source.layout.kind, len(source.ids) - len(rows)
    print(f"{kind} features: {len(rows):,} {source.unit} to encode on {source.device}, ", end="")
    print(f"{found:,} finished before or without content; finished work: {cache.folder}")
    writer, timings = ShardWriter(cache), Timings()
    passing: dict[bytes, Failure] = {}
    label = f"{kind} features"
    with track(label, len(rows), source.unit) as progress, BackgroundWriter(writer.add) as write:
        try:
            for encoded in source.encode(rows, timings):
                retried = {i: f for i, f in encoded.failures.items() if not f.lasting}
                passing.update(retried)
                with timings.phase("writing"):
                    write(encoded)
                progress.advance(len(encoded.ids) + len(retried))
        finally:
            # Also when interrupted: what was encoded is kept.
            with timings.phase("writing"):
                write.wait()
                writer.flush()
    print(f"{label}: {timings.summary(len(rows), source.unit)}", flush=True)
    return passing


def _assemble(
    source: Source, cache: FeatureCache, passing: dict[bytes, Failure], destination: Path
) -> Manifest:
    failures = _failures_by_row(source, cache, passing)
    counts = Counter(failure.status.label for failure in failures.values())
    counts[Status.OK.label] = len(source.ids) - len(failures)
    truncated = 0
    try:
        with replacing_folder(destination) as folder:
            entries = int(cache.lengths(source.ids).sum())
            writer = StoreWriter(folder, source.layout, len(source.ids), entries)
            for rows in _in_order(source, cache, failures):
                writer.append(rows.arrays)
                truncated += int(rows.arrays.get("truncated", np.zeros(1)).sum())
            manifest = Manifest(
                kind=source.layout.kind,
                rows=len(source.ids),
                width=source.layout.width,
                ids_sha256=hash_of_ids(source.ids),
                encoder=source.description,
                fingerprint=hash_of_description(source.description),
                counts={status.label: counts[status.label] for status in Status},
                truncated=truncated,
                failures=[
                    {"row": row, "status": failure.status.label, "reason": failure.reason}
                    for row, failure in list(failures.items())[:FAILURES_KEPT]
                ],
                device=str(source.device),
                micro_batch=source.micro_batch,
                versions={name: importlib.metadata.version(name) for name in LIBRARIES},
            )
            writer.finish(manifest)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"the feature store {destination} cannot be assembled from {cache.folder} ({error}); "
            f"finished work is kept there: make room if the disk is full, and run it again"
        ) from error
    return manifest


def _failures_by_row(
    source: Source, cache: FeatureCache, passing: dict[bytes, Failure]
) -> dict[int, Failure]:
    failures = dict(source.known_failures)
    for row, identity in enumerate(source.ids):
        if identity is None:
            continue
        if identity in cache.failures:
            failures[row] = cache.failures[identity]
        elif identity in passing and identity not in cache:
            failures[row] = passing[identity]
    return dict(sorted(failures.items()))


def _in_order(
    source: Source, cache: FeatureCache, failures: dict[int, Failure]
) -> Iterator[FeatureRows]:
    """Yield all rows in order, a shard's worth at a time; rows without features as zeros."""
    layout, ids = source.layout, source.ids
    for start in range(0, len(ids), layout.shard_rows):
        block = range(start, min(start + layout.shard_rows, len(ids)))
        for finished, group in groupby(block, key=lambda row: ids[row] in cache):
            if finished:
                yield cache.read([identity for row in group if (identity := ids[row])])
            else:
                for row in group:
                    yield empty_rows(layout, [ids[row] or b""], failures[row].status)
