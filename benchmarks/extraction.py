"""How much of an encoder's bare speed the whole extraction keeps.

The extraction (empty cache; reading, decoding or tokenising, encoding, writing shards and
assembling the store) is run in turns with the encoder alone on batches that are ready in memory,
so that both meet the same load of the machine. Example:

    python benchmarks/extraction.py --images photographs/ --image-weights resnet50.pth
    python benchmarks/extraction.py --texts texts.txt --text-encoder path/of/a/bert
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from torch import nn
from torchvision.models import get_model

from mmsim.features.extract import Source, extract
from mmsim.features.extract_images import ImageSource, image_source
from mmsim.features.extract_texts import TextSource, text_source
from mmsim.features.pipeline import batched
from mmsim.files import write_json
from mmsim.params import ImageParams, RuntimeParams, TextParams
from mmsim.paths import CACHE_VARIABLE


def image_table(folder: Path, limit: int | None) -> pd.DataFrame:
    """Return the table that the prepare stage would make of a folder."""
    files = sorted(path for path in folder.iterdir() if path.is_file())[:limit]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    return pd.DataFrame(
        {"name": [path.name for path in files], "sha256": digests, "status": "ok", "reason": ""}
    ).drop_duplicates("sha256", ignore_index=True)


def bare_image_passes(source: ImageSource, batches: int) -> dict[str, Callable[[], int]]:
    """Return passes over decoded images: torchvision's own network, and ours (norms folded)."""
    device, precision = source.device, source.encoder.precision
    plain = nn.Sequential(*list(get_model(source.encoder.name).eval().children())[:-2])
    plain = plain.to(device=device, memory_format=torch.channels_last)
    pixels = [
        result
        for row in range(min(len(source.ids), batches * source.batch_size))
        if isinstance(result := source.decode_row(row)[1], np.ndarray)
    ]
    ready = [
        torch.from_numpy(np.stack(batch))
        .permute(0, 3, 1, 2)
        .float()
        .div(255)
        .sub(0.45)
        .div(0.225)
        .contiguous(memory_format=torch.channels_last)
        .to(device)
        for batch in batched(pixels, source.batch_size)
    ]

    def run(trunk: nn.Module) -> int:
        mixed = precision != torch.float32
        with torch.inference_mode(), torch.autocast(device.type, precision, enabled=mixed):
            for batch in ready:
                trunk(batch)
        return len(pixels)

    return {"torchvision": lambda: run(plain), "folded": lambda: run(source.encoder.trunk)}


def bare_text_passes(source: TextSource) -> dict[str, Callable[[], int]]:
    """Return a pass of the model alone over the same batches, sorted by length."""
    encoder, device = source.encoder, source.device
    ready = []
    windows = batched(range(len(source.ids)), 1024)
    rows = 0
    for window in windows:
        for batch in batched(source.tokenised(window), source.batch_size):
            lengths = torch.tensor([len(tokens.numbers) for _, tokens in batch])
            padded = nn.utils.rnn.pad_sequence(
                [torch.tensor(tokens.numbers) for _, tokens in batch], batch_first=True
            )
            mask = torch.arange(padded.shape[1]) < lengths[:, None]
            ready.append((padded.to(device), mask.long().to(device)))
            rows += len(batch)

    def run() -> int:
        mixed = encoder.precision != torch.float32
        with torch.inference_mode(), torch.autocast(device.type, encoder.precision, enabled=mixed):
            for numbers, mask in ready:
                encoder.model(input_ids=numbers, attention_mask=mask)
        return rows

    return {"model": run}


@contextlib.contextmanager
def empty_cache() -> Iterator[Path]:
    """Yield a temporary folder, with the cache of finished work inside it."""
    with tempfile.TemporaryDirectory() as name:
        previous = os.environ.get(CACHE_VARIABLE)
        os.environ[CACHE_VARIABLE] = str(Path(name) / "cache")
        try:
            yield Path(name)
        finally:
            if previous is None:
                del os.environ[CACHE_VARIABLE]
            else:
                os.environ[CACHE_VARIABLE] = previous


def rate_of(function: Callable[[], int], device: torch.device) -> float:
    """Return rows a second of one call."""
    start = time.perf_counter()
    rows = function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return rows / (time.perf_counter() - start)


def extraction_rate(source: Source) -> float:
    """Return rows a second of one whole extraction into a new store, encoder already loaded."""
    with empty_cache() as folder:
        return rate_of(lambda: extract(source, folder / "store.zarr").encoded, source.device)


def compare(source: Source, passes: dict[str, Callable[[], int]], repeats: int) -> dict[str, Any]:
    """Run extraction and bare passes in turns: the bare rate is the mean of before and after."""
    for function in passes.values():
        rate_of(function, source.device)
    before = {name: rate_of(function, source.device) for name, function in passes.items()}
    rounds = []
    for _ in range(repeats):
        whole = extraction_rate(source)
        after = {name: rate_of(function, source.device) for name, function in passes.items()}
        around = {name: (before[name] + after[name]) / 2 for name in passes}
        rounds.append({"extraction": whole, **around})
        before = after
    names = list(rounds[0])
    rates = {name: statistics.median(item[name] for item in rounds) for name in names}
    ratios = {
        name: statistics.median(item["extraction"] / item[name] for item in rounds)
        for name in passes
    }
    for name, rate in rates.items():
        kept = f"  extraction keeps {ratios[name]:.3f}" if name in ratios else ""
        click.echo(f"{source.layout.kind:6} {name:12} {rate:9.1f} {source.unit}/s{kept}")
    return {"rates": rates, "ratios": ratios, "rounds": rounds, "device": str(source.device)}


@click.command()
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--image-encoder", default="resnet50", show_default=True)
@click.option("--image-weights", default="random", show_default=True)
@click.option("--texts", type=click.Path(exists=True, path_type=Path), help="One text a line.")
@click.option("--text-encoder", default="bert-base-uncased", show_default=True)
@click.option("--text-weights", default="random", show_default=True)
@click.option("--limit", type=int, help="Rows to encode; all by default.")
@click.option("--bare-batches", default=16, show_default=True, help="Images: batches of a pass.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--workers", type=int)
@click.option("--batch-size", type=int)
@click.option("--output", type=click.Path(path_type=Path), help="Where to write JSON.")
def main(
    images: Path | None,
    image_encoder: str,
    image_weights: str,
    texts: Path | None,
    text_encoder: str,
    text_weights: str,
    limit: int | None,
    bare_batches: int,
    repeats: int,
    device: str,
    workers: int | None,
    batch_size: int | None,
    output: Path | None,
) -> None:
    """Measure what share of the bare encoder's speed the extraction keeps."""
    runtime = RuntimeParams(
        device=device,
        workers=workers,
        image_batch_size=batch_size,
        text_batch_size=batch_size,
        precision="auto",
    )
    results = {}
    if images:
        params = ImageParams(encoder=image_encoder, weights=image_weights)
        table = image_table(images, limit)
        image = image_source(table, images, params, image_weights, runtime)
        passes = bare_image_passes(image, bare_batches)
        results["image"] = compare(image, passes, repeats)
    if texts:
        lines = list(dict.fromkeys(texts.read_text(encoding="utf-8").splitlines()))[:limit]
        text_params = TextParams(encoder=text_encoder, weights=text_weights, max_length=100)
        text = text_source(pd.DataFrame({"content": lines}), text_params, text_weights, runtime)
        results["text"] = compare(text, bare_text_passes(text), repeats)
    if output:
        write_json(output, results)


if __name__ == "__main__":
    main()
