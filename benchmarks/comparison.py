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
import torch

from mmsim.comparison.paired import difference
from mmsim.evaluation.bootstrap import Resampling, decision_draws
from mmsim.evaluation.metrics import best_threshold, classification_metrics
from mmsim.files import write_json
from mmsim.models.siamese import SiameseConfig
from mmsim.planted.check import RULES
from mmsim.planted.worlds import make_world
from mmsim.training.loop import train_head
from mmsim.training.scoring import score_pairs

FIGURES = ("accuracy", "f1", "auc", "average_precision")


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
    train, valid, test = (world.pairs[split] for split in ("train", "valid", "test"))
    config = SiameseConfig(
        "pair", "none", world.memory.image_dim, world.memory.text_dim, 32, 2, 8, 0.0
    )
    statistics = world.memory.statistics(train.rows)
    valid_labels = valid.labels.numpy().astype(np.int64)
    scores, called = [], []
    for seed in range(heads):
        head = train_head(
            config,
            RULES,
            world.memory,
            statistics,
            train,
            valid,
            seed,
            torch.float32,
            lambda epoch: None,
        )
        threshold = best_threshold(score_pairs(head.model, world.memory, valid.rows), valid_labels)
        scores.append(score_pairs(head.model, world.memory, test.rows))
        called.append(scores[-1] >= threshold)
        click.echo(f"head {seed + 1} of {heads}", err=True)
    of_seed, calls = np.array(scores), np.array(called)
    labels = test.labels.numpy().astype(np.int64)
    entity = test.table["entity"].to_numpy()
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {name: [] for name in FIGURES}
    for _ in range(comparisons):
        seeds = rng.permutation(heads)
        sides = seeds[:group], seeds[group : 2 * group]
        rows = np.isin(entity, rng.choice(np.unique(entity), entities, replace=False))
        resampling = Resampling(entity[rows], draws, seed=int(rng.integers(2**31)))
        points, drawn = [], []
        for side in sides:
            by_seed = [
                classification_metrics(of_seed[s][rows], labels[rows], 0.0)
                | {
                    name: value
                    for name, value in classification_metrics(
                        calls[s][rows].astype(float), labels[rows], 0.5
                    ).items()
                    if name in ("accuracy", "f1")
                }
                for s in side
            ]
            points.append({name: np.array([f[name] for f in by_seed]) for name in FIGURES})
            drawn.append(
                decision_draws(
                    of_seed[side][:, rows], labels[rows], calls[side][:, rows], resampling, FIGURES
                )
            )
        for name in FIGURES:
            result = difference(
                points[0][name], points[1][name], drawn[0][name], drawn[1][name], resampling.count
            )
            found[name].append(result.p)
    auc = [classification_metrics(s, labels, 0.0)["auc"] for s in of_seed]
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
