"""How long a user waits: `mmsim --help`, a `dvc repro` with nothing to do, one more variant.

Run in a project whose features are computed (`dvc repro` first). The variant is trained with three
seeds drawn at random, which DVC's run cache cannot know; the workspace is left at that variant.

    python benchmarks/pipeline.py --variant cross --output pipeline.json
"""

from __future__ import annotations

import random
import statistics
import subprocess
import time
from pathlib import Path

import click

from mmsim.files import write_json


def seconds(*command: str) -> float:
    """Return how long a command takes; its failure ends the benchmark."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Runs of the short commands.")
@click.option("--variant", default="cross", show_default=True, help="Attention to train.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def main(rounds: int, variant: str, output: Path | None) -> None:
    """Measure seconds; the median of the short commands, one run of the long one."""
    seconds("dvc", "repro")
    figures = {
        "mmsim --help": statistics.median(seconds("mmsim", "--help") for _ in range(rounds)),
        "dvc repro, nothing to do": statistics.median(
            seconds("dvc", "repro") for _ in range(rounds)
        ),
    }
    seeds = random.sample(range(1000, 1_000_000), 3)
    command = (
        "dvc",
        "exp",
        "run",
        "-S",
        f"model.attention={variant}",
        "-S",
        f"train.seeds={seeds}",
    )
    figures[" ".join(command)] = seconds(*command)
    for name, value in figures.items():
        print(f"{value:8.2f} s  {name}")
    if output:
        write_json(output, figures)


if __name__ == "__main__":
    main()
