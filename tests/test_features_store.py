"""The feature store and its machinery: strict reads, ragged rows, chunks, devices, back-off."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsim.device import resolve_device, resolve_precision
from mmsim.errors import UserError
from mmsim.features.cache import FeatureCache, ShardWriter
from mmsim.features.layout import chunk_rows, image_layout, text_layout
from mmsim.features.pipeline import BackgroundWriter, Launcher, prefetched
from mmsim.features.rows import FeatureRows
from mmsim.features.store import FeatureStore, Manifest, StoreWriter
from mmsim.features.weights import resolve_weights

WIDTH = 3


def manifest_of(kind: str, rows: int) -> Manifest:
    return Manifest(
        kind=kind,
        rows=rows,
        width=WIDTH,
        ids_sha256="",
        encoder={},
        fingerprint="",
        counts={"ok": rows},
        truncated=0,
        failures=[],
        device="cpu",
        micro_batch=1,
        versions={},
    )


def text_rows(lengths: list[int], first_id: int = 0) -> FeatureRows:
    """Rows whose values say which row and token they are."""
    count, total = len(lengths), sum(lengths)
    marks = np.arange(first_id, first_id + count)
    tokens = np.repeat(marks, lengths)[:, None] + np.zeros((total, WIDTH))
    return FeatureRows(
        [int(mark).to_bytes(32, "big") for mark in marks],
        {
            "first": np.tile(marks[:, None], WIDTH).astype(np.float16),
            "mean": np.tile(-marks[:, None], WIDTH).astype(np.float16),
            "truncated": np.zeros(count, np.uint8),
            "status": np.zeros(count, np.uint8),
            "lengths": np.array(lengths, np.int64),
            "tokens": tokens.astype(np.float16),
        },
    )


@given(parts=st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_ragged_rows_come_back_as_they_went_in(parts: list[list[int]]) -> None:
    lengths = [length for part in parts for length in part]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = StoreWriter(folder, text_layout(WIDTH), len(lengths), sum(lengths))
        done = 0
        for part in parts:
            writer.append(text_rows(part, done).arrays)
            done += len(part)
        writer.finish(manifest_of("text", len(lengths)))
        store = FeatureStore.open(folder)
        offsets, tokens = store.read("offsets"), store.read("tokens")
        assert np.diff(offsets).tolist() == lengths
        for row in range(len(lengths)):
            assert (tokens[offsets[row] : offsets[row + 1]] == row).all()
        np.testing.assert_array_equal(store.read("first")[:, 0], np.arange(len(lengths)))


@given(
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=20),
    wanted=st.lists(st.integers(0, 19), max_size=30),
    shard_rows=st.integers(1, 7),
)
@settings(max_examples=25, deadline=None)
def test_the_cache_gives_any_rows_in_any_order_from_shards_of_any_size(
    lengths: list[int], wanted: list[int], shard_rows: int
) -> None:
    import dataclasses

    layout = dataclasses.replace(text_layout(WIDTH), shard_rows=shard_rows)
    rows = text_rows(lengths)
    ids = [rows.ids[number % len(lengths)] for number in wanted]
    with (
        tempfile.TemporaryDirectory() as name,
        mock.patch.dict(os.environ, {"MMSIM_CACHE_DIR": name}),
    ):
        writer = ShardWriter(FeatureCache(layout, "f" * 64))
        writer.add(rows)
        writer.flush()
        cache = FeatureCache(layout, "f" * 64)
        found = cache.read(ids)
    assert found.ids == ids
    expected = [lengths[number % len(lengths)] for number in wanted]
    assert found.arrays["lengths"].tolist() == expected
    marks = [number % len(lengths) for number in wanted]
    assert found.arrays["tokens"][:, 0].tolist() == np.repeat(marks, expected).tolist()


@pytest.fixture
def image_store(tmp_path: Path) -> Path:
    folder = tmp_path / "image.zarr"
    folder.mkdir()
    writer = StoreWriter(folder, image_layout(WIDTH), 4, 0)
    writer.append(
        {
            "grid": np.zeros((4, 49, WIDTH), np.float16),
            "pooled": np.zeros((4, WIDTH), np.float16),
            "status": np.zeros(4, np.uint8),
        }
    )
    writer.finish(manifest_of("image", 4))
    return folder


def test_chunks_of_zeros_are_written_so_that_a_lost_one_is_noticed(image_store: Path) -> None:
    assert FeatureStore.open(image_store).read("grid").shape == (4, 49, WIDTH)
    (image_store / "grid" / "c" / "0" / "0" / "0").unlink()
    with pytest.raises(UserError, match=r"'grid' lacks 1 of its 1 chunks"):
        FeatureStore.open(image_store)


def test_a_store_is_opened_for_reading_only(image_store: Path) -> None:
    import zarr

    store = FeatureStore.open(image_store)
    array = store._group["status"]
    assert isinstance(array, zarr.Array)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_a_store_that_is_missing_or_unfinished_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        FeatureStore.open(tmp_path / "none.zarr")
    (tmp_path / "half.zarr").mkdir()
    StoreWriter(tmp_path / "half.zarr", image_layout(WIDTH), 4, 0)
    with pytest.raises(UserError, match="is no feature store"):
        FeatureStore.open(tmp_path / "half.zarr")


def test_a_store_cannot_be_finished_before_every_row_is_there(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, image_layout(WIDTH), 4, 0)
    with pytest.raises(ValueError, match="0 of 4 written"):
        writer.finish(manifest_of("image", 4))


@given(row_bytes=st.integers(1, 16_000_000))
def test_chunks_are_8_to_16_megabytes(row_bytes: int) -> None:
    size = chunk_rows(row_bytes) * row_bytes
    assert 8_000_000 < size <= 16_000_000


def test_two_writers_of_the_same_rows_leave_one_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSIM_CACHE_DIR", str(tmp_path))
    layout = text_layout(WIDTH)
    for writer in [ShardWriter(FeatureCache(layout, "f" * 64)) for _ in range(2)]:
        writer.add(text_rows([1, 2]))
        writer.flush()
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


def test_memory_that_runs_out_halves_the_micro_batch_and_loses_no_row() -> None:
    sizes = []

    def forward(piece: np.ndarray) -> dict[str, torch.Tensor]:
        if len(piece) > 3:
            raise torch.OutOfMemoryError
        sizes.append(len(piece))
        return {"double": torch.from_numpy(2 * piece)}

    launcher = Launcher(forward, torch.device("cpu"), micro_batch=12)
    arrays = launcher(np.arange(10)).arrays()
    assert arrays["double"].tolist() == list(range(0, 20, 2))
    assert max(sizes) <= 3
    assert launcher.micro_batch == max(sizes)


def test_a_row_that_never_fits_into_memory_is_an_error_with_advice() -> None:
    def forward(piece: np.ndarray) -> dict[str, torch.Tensor]:
        raise torch.OutOfMemoryError

    with pytest.raises(UserError, match="one row does not fit"):
        Launcher(forward, torch.device("cpu"), micro_batch=4)(np.arange(4))


def test_rows_prepared_ahead_come_in_order_and_no_further_ahead_than_asked() -> None:
    started: list[int] = []
    results = prefetched(lambda item: started.append(item) or item, range(20), 3, ahead=5)
    for expected in range(10):
        assert next(results) == expected
    assert len(started) <= 10 + 5
    assert list(results) == list(range(10, 20))


def test_a_failure_of_the_writing_thread_reaches_the_caller() -> None:
    def fail(_: object) -> None:
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="disk is full"), BackgroundWriter(fail) as write:
        write(1)
        write.wait()


def test_a_device_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UserError, match=r"'cuda:99', which is not there.*cpu"):
        resolve_device("cuda:99")


def test_a_device_that_is_there_is_found() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda", "mps", "xpu")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)],
)
def test_precision_on_a_cpu_is_float32_unless_asked_for(name: str, expected: torch.dtype) -> None:
    assert resolve_precision(name, torch.device("cpu")) is expected


@pytest.mark.parametrize(
    ("weights", "source", "expected"),
    [
        ("auto", "sample", "random"),
        ("auto", "wikidiverse", "pretrained"),
        ("random", "folder", "random"),
        ("IMAGENET1K_V1", "sample", "IMAGENET1K_V1"),
    ],
)
def test_automatic_weights_are_random_only_for_the_sample(
    weights: str, source: str, expected: str
) -> None:
    assert resolve_weights(weights, source) == expected
