"""Trains one head for each seed on features that are loaded once, and saves them."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mmsim.files import replacing_file, replacing_folder, write_json
from mmsim.models.checkpoint import save_pretrained
from mmsim.models.siamese import SiameseConfig
from mmsim.training.loop import Epoch, TrainedHead, TrainingRules, train_head
from mmsim.training.memory import FeatureMemory, Pairs


def seed_folder(models: Path, seed: int) -> Path:
    """Return the folder of one seed's head."""
    return models / f"seed_{seed}"


def train_seeds(
    config: SiameseConfig,
    rules: TrainingRules,
    memory: FeatureMemory,
    train: Pairs,
    valid: Pairs,
    seeds: list[int],
    precision: torch.dtype,
    models: Path,
    curves: Path,
) -> None:
    """Train a head for each seed; write them to `models` and their mean curves to `curves`.

    `models` holds ``seed_<n>/`` with the weights, the configuration and ``history.json`` (the
    figures of each epoch, and which epoch was kept). `curves` is a CSV table: epoch, train_loss,
    valid_auc, means over the seeds that were still in training.
    """
    heads: dict[int, TrainedHead] = {}
    statistics = memory.statistics(train.rows)
    with replacing_folder(models) as folder:
        for seed in seeds:
            started = time.monotonic()
            head = heads[seed] = train_head(
                config, rules, memory, statistics, train, valid, seed, precision, _print_epoch(seed)
            )
            save_pretrained(head.model, seed_folder(folder, seed))
            write_json(
                seed_folder(folder, seed) / "history.json",
                {
                    "best_epoch": head.best_epoch,
                    "epochs": [_figures(epoch) for epoch in head.history],
                },
            )
            best = head.history[head.best_epoch - 1]
            print(
                f"seed {seed}: best epoch {head.best_epoch} of {len(head.history)}, validation "
                f"AUC {best.valid_auc:.4f}, {time.monotonic() - started:.1f} s",
                flush=True,
            )
    with replacing_file(curves) as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["epoch", "train_loss", "valid_auc"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(_mean_curves(list(heads.values())))


def _figures(epoch: Epoch) -> dict[str, float]:
    """The figures that repeat from run to run: all but the seconds."""
    return {
        "epoch": epoch.epoch,
        "train_loss": epoch.train_loss,
        "valid_auc": epoch.valid_auc,
    }


def _print_epoch(seed: int) -> Callable[[Epoch], None]:
    def report(epoch: Epoch) -> None:
        print(
            f"seed {seed} epoch {epoch.epoch}: training loss {epoch.train_loss:.4f}, validation "
            f"AUC {epoch.valid_auc:.4f}, {epoch.seconds:.1f} s",
            flush=True,
        )

    return report


def _mean_curves(heads: list[TrainedHead]) -> list[dict[str, float]]:
    longest = max(len(head.history) for head in heads)
    curves = []
    for index in range(longest):
        epochs = [_figures(head.history[index]) for head in heads if index < len(head.history)]
        curves.append(
            {name: sum(epoch[name] for epoch in epochs) / len(epochs) for name in epochs[0]}
            | {"epoch": index + 1}
        )
    return curves
