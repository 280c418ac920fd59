"""Trains one head for each seed on features that are loaded once, and saves them."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path

from mmsim.files import replacing_file, replacing_folder, write_json
from mmsim.models.checkpoint import Head, save_pretrained, seed_folder
from mmsim.training.configure import Trainer
from mmsim.training.fit import Epoch, History


def train_seeds(
    trainer: Trainer[Head],
    seeds: list[int],
    figure: str,
    models: Path,
    curves: Path,
) -> None:
    """Train a head for each seed; write them to `models` and their mean curves to `curves`.

    `models` holds ``seed_<n>/`` with the weights, the configuration and ``history.json`` (the
    figures of each epoch, and which epoch was kept). `curves` is a CSV table: epoch, train_loss,
    validation (the monitored figure), means over the seeds that were still in training.

    Parameters
    ----------
    trainer : callable
        From `mmsim.training.configure`.
    figure : str
        Name of the monitored figure: ``"AUC"`` or ``"MRR"``.
    """
    histories: list[History] = []
    with replacing_folder(models) as folder:
        for seed in seeds:
            started = time.monotonic()
            trained = trainer(seed, _print_epoch(seed, figure))
            history = trained.history
            histories.append(history)
            save_pretrained(trained.model, seed_folder(folder, seed))
            write_json(
                seed_folder(folder, seed) / "history.json",
                {
                    "best_epoch": history.best_epoch,
                    "epochs": [_figures(epoch) for epoch in history.epochs],
                },
            )
            print(
                f"seed {seed}: best epoch {history.best_epoch} of {len(history.epochs)}, "
                f"validation {figure} {history.best.validation:.4f}, "
                f"{time.monotonic() - started:.1f} s",
                flush=True,
            )
    with replacing_file(curves) as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["epoch", "train_loss", "validation"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(_mean_curves(histories))


def _figures(epoch: Epoch) -> dict[str, float]:
    """The figures that repeat from run to run: all but the seconds."""
    return {
        "epoch": epoch.epoch,
        "train_loss": epoch.train_loss,
        "validation": epoch.validation,
    }


def _print_epoch(seed: int, figure: str) -> Callable[[Epoch], None]:
    def report(epoch: Epoch) -> None:
        print(
            f"seed {seed} epoch {epoch.epoch}: training loss {epoch.train_loss:.4f}, validation "
            f"{figure} {epoch.validation:.4f}, {epoch.seconds:.1f} s",
            flush=True,
        )

    return report


def _mean_curves(histories: list[History]) -> list[dict[str, float]]:
    longest = max(len(history.epochs) for history in histories)
    curves = []
    for index in range(longest):
        epochs = [_figures(h.epochs[index]) for h in histories if index < len(h.epochs)]
        curves.append(
            {name: sum(epoch[name] for epoch in epochs) / len(epochs) for name in epochs[0]}
            | {"epoch": index + 1}
        )
    return curves
