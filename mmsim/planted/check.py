"""Trains and evaluates a head on planted worlds, and tells what the report says of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from mmsim.evaluation.cross_validation import trained_heads
from mmsim.evaluation.evaluate import evaluate
from mmsim.evaluation.inputs import Data
from mmsim.models.heads import PairHead
from mmsim.models.siamese import SiameseConfig
from mmsim.planted.worlds import World, make_world
from mmsim.reporting.table import columns
from mmsim.training.fit import TrainingRules

SEEDS = (0, 1, 2)
RULES = TrainingRules(
    loss="contrastive",
    margin=1.0,
    temperature=0.07,
    epochs=40,
    patience=40,
    batch_size=64,
    learning_rate=3e-3,
    weight_decay=0.0,
)
COLUMNS: dict[str, tuple[str, ...]] = {
    "test AUC": ("test", "auc"),
    "text only": ("baselines", "text_only", "auc"),
    "image only": ("baselines", "image_only", "auc"),
    "query only": ("baselines", "query_only", "auc"),
    "blank image": ("controls", "blank_image", "auc"),
    "EMAP gap": ("emap", "gap_auc"),
    "leaked": ("slices", "shared_with_training", "auc"),
    "not leaked": ("slices", "not_shared_with_training", "auc"),
}


def heads(world: World, attention: str, seeds: Iterable[int]) -> Iterator[PairHead]:
    """Train small heads on a world."""
    memory, pairs = world.memory, world.pairs
    config = SiameseConfig(
        task=world.task,
        attention=attention,
        image_dim=memory.image_dim,
        text_dim=memory.text_dim,
        width=32,
        heads=2,
        head_width=8,
        dropout=0.0,
    )
    return trained_heads(
        config, RULES, memory, pairs["train"], pairs["valid"], seeds, torch.float32
    )


def measure(world: World, attention: str = "none", draws: int = 1000) -> dict[str, Any]:
    """Train three seeds of a small head on a world and return the metrics of its report."""
    models = dict(zip(SEEDS, heads(world, attention, SEEDS), strict=True))
    train, valid, test = (world.pairs[split] for split in ("train", "valid", "test"))
    tables = (world.instances, world.images, world.texts, world.entities)
    data = Data(world.task, train, valid, test, *tables)
    return evaluate(models, world.memory, data, draws=draws).metrics


def planted_table(
    names: list[str], attention: str, report: Callable[[str], None]
) -> tuple[str, dict[str, Any]]:
    """Measure worlds; return a table of what the report says of each, and all metrics by world."""
    found = {}
    rows = [("world", *COLUMNS)]
    for name in names:
        report(name)
        metrics = found[name] = measure(make_world(name), attention)
        rows.append((name, *(_cell(metrics, path) for path in COLUMNS.values())))
    return columns(rows), found


def _cell(metrics: dict[str, Any], path: tuple[str, ...]) -> str:
    *parents, leaf = path
    place = metrics
    for parent in parents:
        place = place.get(parent, {})
    if leaf not in place:
        return ""
    return f"{place[leaf]:.3f} [{place[f'{leaf}_low']:.3f}, {place[f'{leaf}_high']:.3f}]"
