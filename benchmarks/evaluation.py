"""Seconds from scores to the whole report: figures, intervals, slices, tiers, ambiguity, baselines.

Scores and features are random; what is measured is everything after the heads have scored their
pairs. Example:

    python benchmarks/evaluation.py --pairs 20000 --seeds 5
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch

from mmsim.evaluation.baselines import MeanFeatures, baseline_scores
from mmsim.evaluation.evaluate import report
from mmsim.evaluation.inputs import Data
from mmsim.evaluation.retrieval import retrieval_pool
from mmsim.evaluation.score import SeedScores, projected_pairs
from mmsim.evaluation.slices import primary
from mmsim.files import write_json
from mmsim.training.memory import ROW_COLUMNS, Pairs

WORDS = 5000
TYPES = ("Person", "Location", "Organization", "Country", "Event", "Work", "Other")
TOPICS = tuple(f"topic_{number}" for number in range(11))


def make_pairs(
    items: np.ndarray, entity: np.ndarray, count: int, task: str, rng: np.random.Generator
) -> Pairs:
    """Return `count` random pairs of items, half of them positives, a tenth of a harder tier."""
    label = np.arange(count) < count // 2
    query = rng.choice(items, count)
    if task == "match":
        query[: count // 2] = rng.permutation(items)[: count // 2]
    candidate = np.where(label & (task == "match"), query, rng.choice(items, count))
    rows = np.stack([query, query, candidate, candidate], axis=1)
    main = "own_caption" if task == "match" else "same_entity"
    tier = np.where(label, main, "random").astype(object)
    hard = np.arange(count) >= count - count // 10
    tier[hard] = "same_form"
    table = pd.DataFrame(rows, columns=ROW_COLUMNS).assign(
        pair=range(count),
        label=label.astype(np.int8),
        tier=tier,
        contrast=main,
        entity=entity[query],
        form=np.where(label | hard, [f"form {e % 500}" for e in entity[query]], ""),
        query_gold=[[int(e)] for e in entity[query]],
        candidate_gold=[[int(e)] for e in entity[candidate]],
    )
    return Pairs(torch.from_numpy(rows), torch.from_numpy(label).float(), table)


@click.command()
@click.option("--pairs", default=20_000, show_default=True, help="Test pairs.")
@click.option("--entities", default=2_000, show_default=True)
@click.option("--seeds", default=5, show_default=True)
@click.option("--draws", default=2_000, show_default=True)
@click.option("--task", type=click.Choice(["match", "pair"]), default="pair", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Where to write JSON.")
def main(pairs: int, entities: int, seeds: int, draws: int, task: str, output: Path | None) -> None:
    """Time baselines and report on scored pairs."""
    rng = np.random.default_rng(0)
    # In task match each positive is an image of its own: half as many test items as pairs.
    count = 2 * pairs if task == "match" else pairs
    entity = rng.integers(0, entities, count)
    split = rng.choice(["train", "valid", "test"], count, p=[0.3, 0.2, 0.5])
    numbers = np.arange(count)
    drawn = {
        name: make_pairs(numbers[split == name], entity, size, task, rng)
        for name, size in (("train", pairs), ("valid", pairs // 4), ("test", pairs))
    }
    captions = [" ".join(f"w{w}" for w in rng.zipf(1.3, 20) % WORDS) for _ in range(count)]
    instances = pd.DataFrame(
        {
            "split": split,
            "image": numbers,
            "text": numbers,
            "mention": [f"Form {e % 500}" for e in entity],
            "type": rng.choice(TYPES, count),
            "topic": rng.choice(TOPICS, count),
            "entity": entity,
        }
    )
    data = Data(
        task,
        drawn["train"],
        drawn["valid"],
        drawn["test"],
        instances,
        pd.DataFrame({"image": numbers, "group": numbers}),
        pd.DataFrame({"text": numbers, "group": numbers, "content": captions}),
        pd.DataFrame({"entity": range(entities), "title": [f"E {e}" for e in range(entities)]}),
    )
    pool = retrieval_pool(data.test.table) if task == "match" else None
    projected = projected_pairs(data.test, 100, task)
    labels = {name: found.labels.numpy() for name, found in drawn.items()}
    main_pairs = int(primary(data.test.table).sum())
    scores = {
        seed: SeedScores(
            valid=(labels["valid"] + rng.normal(size=len(labels["valid"]))).astype(np.float32),
            test=(labels["test"] + rng.normal(size=pairs)).astype(np.float32),
            controls={
                name: rng.normal(size=main_pairs).astype(np.float32)
                for name in ("blank_image", "shuffled_image")
            },
            emap=rng.normal(size=len(projected)),
            pool=rng.normal(size=(0, 0) if pool is None else pool.own.shape).astype(np.float32),
        )
        for seed in range(seeds)
    }
    features = MeanFeatures(
        rng.normal(size=(count, 2048)).astype(np.float32),
        rng.normal(size=(count, 768)).astype(np.float32),
    )
    started = time.perf_counter()
    baselines = baseline_scores(data, features)
    middle = time.perf_counter()
    found = report(scores, baselines, data, pool, projected, draws)
    ended = time.perf_counter()
    click.echo(
        f"{task}: {pairs:,} test pairs, {seeds} seeds, {draws:,} draws: baselines "
        f"{middle - started:.1f} s, report {ended - middle:.1f} s"
    )
    if output:
        times = {"baselines_s": middle - started, "report_s": ended - middle}
        write_json(output, times | {"parts": len(found.metrics)})


if __name__ == "__main__":
    main()
