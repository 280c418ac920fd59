"""Does the memory of an extraction grow with its rows.

Extracts generated photographs in a process of its own for each number of rows, and compares the
peaks of resident memory. The network is one cheap convolution with ResNet18's output, so that
what is measured is the pipeline, and growth is not hidden behind a large constant. Example:

    python benchmarks/memory.py --rows 1000 --rows 10000 --output memory.json
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np

from mmsim.files import write_json
from mmsim.paths import CACHE_VARIABLE

ALLOWED_GROWTH = 1.10


def write_photographs(folder: Path, count: int) -> None:
    """Write JPEGs of 320 x 240 smooth random pixels, each with other content."""
    from PIL import Image

    folder.mkdir()
    for number in range(count):
        coarse = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)
        image = Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:06}.jpg")


def peak_of_extraction(folder: Path, rows: int) -> float:
    """Extract the first `rows` photographs; return this process's peak memory in MB."""
    import pandas as pd
    import torch

    from mmsim.features.extract import extract
    from mmsim.features.extract_images import ImageSource
    from mmsim.features.image_encoder import load_image_encoder
    from mmsim.params import RuntimeParams

    names = sorted(path.name for path in folder.iterdir())[:rows]
    digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]
    images = pd.DataFrame({"name": names, "sha256": digests, "status": "ok", "reason": ""})
    runtime = RuntimeParams(
        device="cpu",
        workers=None,
        image_batch_size=None,
        text_batch_size=None,
        precision="float32",
    )
    encoder = load_image_encoder("resnet18", "random", torch.device("cpu"), torch.float32)
    cheap = dataclasses.replace(encoder, trunk=torch.nn.Conv2d(3, encoder.width, 32, stride=32))
    extract(ImageSource(images, folder, cheap, runtime), folder.parent / f"{rows}.zarr")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@click.command()
@click.option("--rows", type=int, multiple=True, default=(1000, 10_000), show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Where to write JSON.")
@click.option("--measure", type=(click.Path(path_type=Path), int), hidden=True)
def main(rows: tuple[int, ...], output: Path | None, measure: tuple[Path, int] | None) -> None:
    """Compare the peak memory of extractions of different sizes."""
    if measure:
        click.echo(json.dumps(peak_of_extraction(*measure)))
        return
    peaks = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "photographs"
        write_photographs(folder, max(rows))
        for count in sorted(rows):
            child = subprocess.run(
                [sys.executable, __file__, "--measure", str(folder), str(count)],
                env={**os.environ, CACHE_VARIABLE: str(Path(name) / f"cache-{count}")},
                stdout=subprocess.PIPE,
                check=True,
            )
            peaks[count] = json.loads(child.stdout.splitlines()[-1])
            click.echo(f"{count:8,} images: peak {peaks[count]:8.1f} MB")
    growth = peaks[max(rows)] / peaks[min(rows)]
    click.echo(f"growth {growth:.3f}, allowed {ALLOWED_GROWTH}")
    if output:
        write_json(output, {"peak_mb": {str(k): v for k, v in peaks.items()}, "growth": growth})
    if growth > ALLOWED_GROWTH:
        sys.exit(f"memory grows with the rows: {growth:.3f} times")


if __name__ == "__main__":
    main()
