"""Text features: token states, the first of them and their mean, for each unique text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmsim.device import resolve_device, resolve_precision
from mmsim.features.extract import Extraction, extract
from mmsim.features.layout import text_layout
from mmsim.features.pipeline import Launcher, Pending, Timings, batched, one_behind, prefetched
from mmsim.features.rows import Failure, FeatureRows, finite_or_overflow
from mmsim.features.text_encoder import TextEncoder, Tokens, load_text_encoder
from mmsim.params import RuntimeParams, TextParams

if TYPE_CHECKING:
    import pandas as pd

CPU_BATCH, GPU_BATCH = 32, 256
# Texts sorted by length together: enough that a batch hardly holds padding.
WINDOW = 1024

TokenisedRow = tuple[bytes, Tokens]


class TextSource:
    """The rows of ``texts.parquet`` with their encoder.

    Parameters
    ----------
    texts : DataFrame
        Columns text (row number), content, kind.
    encoder : TextEncoder
        Frozen encoder.
    runtime : RuntimeParams
        Batch size.
    """

    unit = "texts"

    def __init__(self, texts: pd.DataFrame, encoder: TextEncoder, runtime: RuntimeParams) -> None:
        self.contents: list[str] = texts["content"].tolist()
        self.ids: list[bytes | None] = [
            hashlib.sha256(content.encode()).digest() for content in self.contents
        ]
        self.known_failures: dict[int, Failure] = {}
        self.encoder = encoder
        self.layout = text_layout(encoder.width)
        self.batch_size = runtime.text_batch_size or (
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
        """Texts computed at a time."""
        return self.launcher.micro_batch

    def encode(self, rows: Sequence[int], timings: Timings) -> Iterator[FeatureRows]:
        """Yield the features of `rows` in batches of texts of similar length."""
        windows = prefetched(self.tokenised, batched(rows, WINDOW), workers=1, ahead=2)
        batches = (
            batch
            for window in timings.timed(windows, "tokenising")
            for batch in batched(window, self.batch_size)
        )
        for batch, arrays in one_behind(self._launched(batches, timings), timings):
            yield self._as_rows(batch, arrays)

    def tokenised(self, rows: Sequence[int]) -> list[TokenisedRow]:
        """Tokenise a window of texts, and put the longest first: memory runs out early if ever."""
        tokenised = self.encoder.tokenize([self.contents[row] for row in rows])
        order = sorted(range(len(rows)), key=lambda i: (-len(tokenised[i].numbers), i))
        ids = [self.ids[row] or b"" for row in rows]
        return [(ids[i], tokenised[i]) for i in order]

    def _launched(
        self, batches: Iterator[list[TokenisedRow]], timings: Timings
    ) -> Iterator[tuple[list[TokenisedRow], Pending]]:
        for batch in batches:
            with timings.phase("the encoder"):
                pending = self.launcher([tokens for _, tokens in batch])
            yield batch, pending

    def _as_rows(self, batch: list[TokenisedRow], arrays: dict[str, NDArray[Any]]) -> FeatureRows:
        finite = arrays.pop("finite")
        arrays["status"] = np.zeros(len(batch), np.uint8)
        arrays["truncated"] = np.array([tokens.truncated for _, tokens in batch], np.uint8)
        arrays["lengths"] = np.array([len(tokens.numbers) for _, tokens in batch], np.int64)
        rows = FeatureRows([identity for identity, _ in batch], arrays)
        return finite_or_overflow(rows, self.layout, finite)


def text_source(
    texts: pd.DataFrame, params: TextParams, weights: str, runtime: RuntimeParams
) -> TextSource:
    """Load the encoder and put it together with the rows; parameters as in `extract_texts`."""
    device = resolve_device(runtime.device)
    precision = resolve_precision(runtime.precision, device)
    encoder = load_text_encoder(
        params.encoder, weights, params.max_length, texts["content"], device, precision
    )
    return TextSource(texts, encoder, runtime)


def extract_texts(
    texts: pd.DataFrame,
    destination: Path,
    params: TextParams,
    weights: str,
    runtime: RuntimeParams,
) -> Extraction:
    """Encode each unique text once and write the feature store.

    Parameters
    ----------
    texts : DataFrame
        ``texts.parquet``: columns text, content, kind.
    destination : Path
        The store to write.
    params : TextParams
        Encoder and longest text.
    weights : str
        ``params.weights`` with ``auto`` resolved (`mmsim.features.weights.resolve_weights`).
    runtime : RuntimeParams
        Device, batch size, precision.

    Raises
    ------
    UserError
        If encoder or device are not there, or the disk is full.
    """
    return extract(text_source(texts, params, weights, runtime), destination)
