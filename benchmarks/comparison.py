"""How often `mmsim compare` finds a difference between heads that differ by seed alone.

Many seeds of one head are trained on a planted world; each comparison takes two disjoint groups of
them and a test set of its own, drawn from a large pool of entities that no training saw. At level
0.05 one comparison in twenty should find a difference. Example:

    python benchmarks/comparison.py --comparisons 200
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from mmsim.comparison.compare import FIGURES, differences, measure
from mmsim.evaluation.bootstrap import Resampling
from mmsim.evaluation.predictions import decide
from mmsim.files import write_json
from mmsim.planted.check import heads as planted_heads
from mmsim.planted.worlds import make_world
from mmsim.training.scoring import score_pairs


@click.command()
@click.option("--heads", default=40, show_default=True, help="Seeds trained.")
@click.option("--group", default=5, show_default=True, help="Seeds of each side.")
@click.option("--comparisons", default=200, show_default=True)
@click.option("--entities", default=150, show_default=True, help="Test entities of a comparison.")
@click.option("--pool", default=6000, show_default=True, help="Test entities in all.")
@click.option("--draws", default=1000, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Where to write JSON.")
def main(
    heads: int,
    group: int,
    comparisons: int,
    entities: int,
    pool: int,
    draws: int,
    output: Path | None,
) -> None:
    """Measure the false-positive rate of the primary test."""
    world = make_world("both", 0, {"train": 300, "valid": 100, "test": pool})
    valid, test = world.pairs["valid"], world.pairs["test"]
    of_valid, of_test = [], []
    for number, head in enumerate(planted_heads(world, "none", range(heads)), start=1):
        of_valid.append(score_pairs(head, world.memory, valid.rows))
        of_test.append(score_pairs(head, world.memory, test.rows))
        click.echo(f"head {number} of {heads}", err=True)
    _, decided = decide(valid, test, of_valid, of_test, draws)
    entity = test.table["entity"].to_numpy()
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {name: [] for name in FIGURES}
    for _ in range(comparisons):
        seeds = rng.permutation(heads)
        rows = np.isin(entity, rng.choice(np.unique(entity), entities, replace=False))
        resampling = Resampling(entity[rows], draws, seed=int(rng.integers(2**31)))
        scores, called, labels = decided.scores[:, rows], decided.called[:, rows], decided.labels
        sides = [
            measure(scores[side], called[side], labels[rows], resampling)
            for side in (seeds[:group], seeds[group : 2 * group])
        ]
        for name, result in differences(*sides).items():
            found[name].append(result.p)
    auc = [figures["auc"] for figures in decided.figures()]
    click.echo(
        f"AUC of the {heads} heads on the whole pool: {np.mean(auc):.4f} ± {np.std(auc):.4f}"
    )
    rates = {name: float(np.mean(np.array(p) < 0.05)) for name, p in found.items()}
    for name, rate in rates.items():
        click.echo(f"{name}: p < 0.05 in {rate:.3f} of {comparisons} comparisons")
    if output:
        write_json(output, {"rates": rates, "comparisons": comparisons})


if __name__ == "__main__":
    main()
