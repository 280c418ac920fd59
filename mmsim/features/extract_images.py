"""Image features: the grid and its mean for each unique image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmsim.device import resolve_device, resolve_precision
from mmsim.features.decode import decode
from mmsim.features.extract import Extraction, extract
from mmsim.features.image_encoder import ImageEncoder, load_image_encoder
from mmsim.features.layout import image_layout
from mmsim.features.pipeline import Launcher, Pending, Timings, batched, one_behind, prefetched
from mmsim.features.rows import (
    Failure,
    FeatureRows,
    concatenated,
    empty_rows,
    finite_or_overflow,
)
from mmsim.features.status import Status
from mmsim.params import ImageParams, RuntimeParams

if TYPE_CHECKING:
    import pandas as pd

Decoded = tuple[bytes, NDArray[np.uint8] | Failure]
CPU_BATCH, GPU_BATCH = 16, 128


class ImageSource:
    """The rows of ``images.parquet`` with their encoder.

    Parameters
    ----------
    images : DataFrame
        Columns image (row number), name, sha256, status, reason.
    image_folder : Path
        Where the files lie.
    encoder : ImageEncoder
        Frozen encoder.
    runtime : RuntimeParams
        Workers and batch size.
    """

    unit = "images"

    def __init__(
        self,
        images: pd.DataFrame,
        image_folder: Path,
        encoder: ImageEncoder,
        runtime: RuntimeParams,
    ) -> None:
        usable = images["status"] == Status.OK.label
        self.ids: list[bytes | None] = [
            bytes.fromhex(digest) if ok else None
            for digest, ok in zip(images["sha256"], usable, strict=True)
        ]
        self.known_failures = {
            row: Failure(Status[status.upper()], reason)
            for row, (status, reason) in enumerate(
                zip(images["status"], images["reason"], strict=True)
            )
            if status != Status.OK.label
        }
        self.names = images["name"].tolist()
        self.folder, self.encoder = image_folder, encoder
        self.layout = image_layout(encoder.width)
        self.workers = runtime.worker_count
        self.batch_size = runtime.image_batch_size or (
            CPU_BATCH if encoder.device.type == "cpu" else GPU_BATCH
        )
        self.launcher = Launcher(encoder, encoder.device, self.batch_size)
        self.description = encoder.describe()

    @property
    def device(self) -> torch.device:
        """Where the encoder computes."""
        return self.encoder.device

    @property
    def micro_batch(self) -> int:
        """Images computed at a time."""
        return self.launcher.micro_batch

    def encode(self, rows: Sequence[int], timings: Timings) -> Iterator[FeatureRows]:
        """Yield the features of `rows`, a batch at a time; threads decode ahead."""
        ahead = 2 * self.batch_size + self.workers
        decoded = prefetched(self.decode_row, rows, self.workers, ahead)
        batches = timings.timed(batched(decoded, self.batch_size), "decoding")
        for batch, arrays in one_behind(self._launched(batches, timings), timings):
            yield self._as_rows(batch, arrays)

    def decode_row(self, row: int) -> Decoded:
        """Read and decode the image of a row; return its id with the pixels or the failure."""
        identity = self.ids[row]
        assert identity is not None
        path = self.folder / self.names[row]
        try:
            content = path.read_bytes()
        except OSError as error:
            reason = f"{path} cannot be read: {error.strerror}"
            return identity, Failure(Status.MISSING, reason, lasting=False)
        if hashlib.sha256(content).digest() != identity:
            reason = f"{path} has changed since it was prepared; run the prepare stage again"
            return identity, Failure(Status.MISSING, reason, lasting=False)
        return identity, decode(content, self.encoder.preprocessing)

    def _launched(
        self, batches: Iterator[list[Decoded]], timings: Timings
    ) -> Iterator[tuple[list[Decoded], Pending]]:
        for batch in batches:
            pixels = [result for _, result in batch if not isinstance(result, Failure)]
            with timings.phase("the encoder"):
                pending = self.launcher(np.stack(pixels)) if pixels else Pending([], None)
            yield batch, pending

    def _as_rows(self, batch: list[Decoded], arrays: dict[str, NDArray[Any]]) -> FeatureRows:
        parts = []
        good = [identity for identity, result in batch if not isinstance(result, Failure)]
        if good:
            finite = arrays.pop("finite")
            arrays["status"] = np.zeros(len(good), np.uint8)
            parts.append(finite_or_overflow(FeatureRows(good, arrays), self.layout, finite))
        failures = {i: result for i, result in batch if isinstance(result, Failure)}
        parts += [
            empty_rows(self.layout, [identity], failure.status)
            for identity, failure in failures.items()
            if failure.lasting
        ]
        rows = concatenated([empty_rows(self.layout, [], Status.OK), *parts])
        rows.failures.update(failures)
        return rows


def image_source(
    images: pd.DataFrame,
    image_folder: Path,
    params: ImageParams,
    weights: str,
    runtime: RuntimeParams,
) -> ImageSource:
    """Load the encoder and put it together with the rows; parameters as in `extract_images`."""
    device = resolve_device(runtime.device)
    precision = resolve_precision(runtime.precision, device)
    encoder = load_image_encoder(params.encoder, weights, device, precision)
    return ImageSource(images, image_folder, encoder, runtime)


def extract_images(
    images: pd.DataFrame,
    image_folder: Path,
    destination: Path,
    params: ImageParams,
    weights: str,
    runtime: RuntimeParams,
) -> Extraction:
    """Encode each unique image once and write the feature store.

    Parameters
    ----------
    images : DataFrame
        ``images.parquet``: columns image, name, sha256, status, reason.
    image_folder : Path
        Where the files lie.
    destination : Path
        The store to write.
    params : ImageParams
        Encoder.
    weights : str
        ``params.weights`` with ``auto`` resolved (`mmsim.features.weights.resolve_weights`).
    runtime : RuntimeParams
        Device, workers, batch size, precision.

    Raises
    ------
    UserError
        If weights or device are not there, or the disk is full. An image that cannot be read
        is a row with a status, not an error.
    """
    return extract(image_source(images, image_folder, params, weights, runtime), destination)
