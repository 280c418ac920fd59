"""How long a linking head takes to score mentions against very many entities, and to train.

    python -m benchmarks.linking [--entities 100000] [--mentions 20] [--rerank 100]

Features are random: their values play no part in how long it takes. The index of global vectors
is built once for a set of entities and timed apart, as it would be kept for many queries; what is
timed as scoring is everything from a mention's features to its best entity: encoding the mentions,
the global scores of all entities, and the full scores of the best `rerank` of them, whose tokens
are read and encoded anew for each query.

Training: one step on 128 mentions with 10 candidates each, times the steps of an epoch of 2,401
mentions (those of WikiMEL's public sample).
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import click
import numpy as np
import pandas as pd
import torch

from mmsim.catalogue import CATALOGUE, NOTHING
from mmsim.models.link_heads import build_link_head
from mmsim.models.linking import LinkConfig
from mmsim.training.link_scoring import entity_index, retrieve
from mmsim.training.memory import FeatureMemory
from mmsim.training.mentions import ABSENT, Items, LinkData, Mentions

TEXT_WIDTH, IMAGE_WIDTH, CELLS = 384, 2048, 49
TOKENS = 40
TRAINING_MENTIONS = 2401
BATCH = 128
CANDIDATES = 10


def world(entities: int, mentions: int) -> LinkData:
    """Mentions with an image each, entities without, texts of 10 to 40 tokens."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(10, TOKENS + 1, mentions + entities)
    # The same few values over and over: random numbers for all tokens would take minutes.
    tokens = torch.randn(10_007, TEXT_WIDTH).half().repeat(lengths.sum() // 10_007 + 1, 1)
    memory = FeatureMemory(
        torch.randn(mentions, CELLS, IMAGE_WIDTH).half(),
        tokens,
        torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])),
        torch.ones(mentions, dtype=torch.bool),
        torch.ones(mentions + entities, dtype=torch.bool),
    )
    absent = torch.full((mentions,), ABSENT)
    rows = torch.arange(mentions)
    found = Mentions(
        Items(rows, rows, rows, absent, absent),
        torch.from_numpy(rng.integers(0, entities, mentions)),
        torch.from_numpy(rng.integers(0, entities, (mentions, CANDIDATES))),
        pd.DataFrame(),
    )
    none = torch.full((entities,), ABSENT)
    texts = mentions + torch.arange(entities)
    return LinkData(
        {"test": found}, Items(texts, none, none, none, none), pd.DataFrame(), memory, TOKENS
    )


def config(name: str) -> LinkConfig:
    """Return a head of the shipped widths."""
    return LinkConfig(
        name, IMAGE_WIDTH, TEXT_WIDTH, 512, 96, "base", 4, 32, 0.3, 0.07, 1.0, NOTHING
    )


def seconds(function: Callable[[], object], rounds: int) -> list[float]:
    """Time a call several times, after one that is not timed."""
    function()
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return found


@click.command()
@click.option("--entities", default=100_000, show_default=True)
@click.option("--mentions", default=20, show_default=True)
@click.option("--rerank", default=100, show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(entities: int, mentions: int, rerank: int, rounds: int) -> None:
    """Measure every linking head and print a line of JSON for each."""
    data, small = world(entities, mentions), world(5000, BATCH)
    for name in (name for name, head in CATALOGUE.items() if "link" in head.tasks):
        print(json.dumps(measure(name, data, small, rerank, rounds)), flush=True)


def measure(
    name: str, data: LinkData, small: LinkData, rerank: int, rounds: int
) -> dict[str, object]:
    """Return what one head takes: to index and score `data`, and to train on a batch of `small`."""
    model = build_link_head(config(name)).eval()
    start = time.perf_counter()
    index = entity_index(model, data)
    indexed = time.perf_counter() - start
    test = data.splits["test"]
    rows = torch.arange(len(test))
    scored = seconds(lambda: retrieve(model, data, test, rows, index, rerank), rounds)

    def step() -> None:
        batch = small.ranking_batch(small.splits["test"], torch.arange(BATCH), CANDIDATES)
        model.train().loss(batch).backward()

    stepped = statistics.median(seconds(step, rounds))
    return {
        "head": name,
        "parameters": sum(value.numel() for value in model.parameters()),
        "entities": len(data.entities),
        "mentions": len(test),
        "reranked": 0 if model.exact_global else rerank,
        "index_s": round(indexed, 2),
        "score_s": [round(value, 3) for value in sorted(scored)],
        "training_step_s": round(stepped, 3),
        "epoch_of_2401_mentions_s": round(stepped * TRAINING_MENTIONS / BATCH, 1),
    }


if __name__ == "__main__":
    main()
