"""What a training pair costs: cached features against both encoders in the loop.

The seed's step runs two images (224 px) and two captions (128 tokens) of each pair through
ResNet50 and BERT, forward and backward, batch 8. Ours reads cached features of the same widths
and trains a head of width 512, forward, backward and optimiser step, on pairs as the pipeline
draws them (each query with its positive and one negative). Both alternate in one process.

    python benchmarks/training.py --rounds 3 --output training.json
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mmsim.files import write_json
from mmsim.models.siamese import Siamese, SiameseConfig
from mmsim.training.fit import TrainingRules
from mmsim.training.loop import batch_loss, batches
from mmsim.training.losses import Contrastive
from mmsim.training.memory import FeatureMemory, Pairs

IMAGE_DIM, TEXT_DIM, CELLS, WIDTH = 2048, 768, 49, 512
SEED_BATCH, SEED_TOKENS = 8, 128
QUERIES = 512


def seed_step() -> Callable[[], None]:
    """Return one training step of the documents' own kind."""
    from torchvision.models import resnet50
    from transformers import BertConfig, BertModel

    encoders = nn.ModuleDict(
        {"image": resnet50(num_classes=WIDTH), "text": BertModel(BertConfig())}
    )
    head = nn.Linear(4 * WIDTH, 1)
    to_width = nn.Linear(TEXT_DIM, WIDTH)
    parameters = [*encoders.parameters(), *head.parameters(), *to_width.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-5)
    images = torch.randn(2, SEED_BATCH, 3, 224, 224)
    tokens = torch.randint(1000, (2, SEED_BATCH, SEED_TOKENS))
    labels = torch.randint(2, (SEED_BATCH,)).float()

    def embed(side: int) -> Tensor:
        image = encoders["image"](images[side])
        text = to_width(encoders["text"](tokens[side]).last_hidden_state[:, 0])
        return torch.cat([image, text], dim=-1)

    def step() -> None:
        a, b = embed(0), embed(1)
        logits = head(torch.cat([(a - b).abs(), a * b], dim=-1)).squeeze(-1)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def cached_features(mean_tokens: int) -> tuple[FeatureMemory, Pairs]:
    """Return random features of the real widths, and pairs as the pipeline draws them."""
    rng = np.random.default_rng(0)
    items = 2 * QUERIES
    lengths = rng.integers(mean_tokens // 2, mean_tokens * 3 // 2 + 1, items)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    memory = FeatureMemory(
        torch.randn(items, CELLS, IMAGE_DIM).half(),
        torch.randn(int(offsets[-1]), TEXT_DIM).half(),
        torch.from_numpy(offsets),
        torch.ones(items, dtype=torch.bool),
        torch.ones(items, dtype=torch.bool),
    )
    query = np.arange(QUERIES)
    positive, negative = rng.permutation(items)[:QUERIES], rng.permutation(items)[:QUERIES]
    rows = np.concatenate(
        [np.stack([query, query, other, other], axis=1) for other in (positive, negative)]
    )
    labels = torch.cat([torch.ones(QUERIES), torch.zeros(QUERIES)])
    return memory, Pairs(torch.from_numpy(rows), labels, pd.DataFrame())


def our_epoch(
    memory: FeatureMemory, pairs: Pairs, task: str, attention: str, batch_size: int
) -> Callable[[], None]:
    """Return one epoch of training on cached features."""
    rules = TrainingRules("contrastive", 1.0, 0.07, 1, 1, batch_size, 3e-4, 0.01)
    model = Siamese(SiameseConfig(task, attention, IMAGE_DIM, TEXT_DIM, WIDTH, 4, 32, 0.3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    loss = Contrastive(1.0)

    def epoch() -> None:
        model.train()
        for batch in batches(pairs, rules, np.random.default_rng(0)):
            value = batch_loss(model, loss, memory, pairs, batch, torch.float32)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()

    return epoch


def seconds(work: Callable[[], None]) -> float:
    """Return how long one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--tokens", default=36, show_default=True, help="Mean tokens of a cached caption.")
@click.option("--batch-size", default=128, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def main(rounds: int, tokens: int, batch_size: int, output: Path | None) -> None:
    """Measure milliseconds a pair."""
    memory, pairs = cached_features(tokens)
    heads = {
        f"{task} {attention}": our_epoch(memory, pairs, task, attention, batch_size)
        for task in ("match", "pair")
        for attention in ("none", "base", "cross")
    }
    seed = seed_step()
    seed()
    times: dict[str, list[float]] = {"seed's step": [], **{name: [] for name in heads}}
    for _ in range(rounds):
        times["seed's step"].append(1000 * seconds(seed) / SEED_BATCH)
        for name, epoch in heads.items():
            times[name].append(1000 * seconds(epoch) / len(pairs))
    figures = {}
    for name, values in times.items():
        ratios = [a / b for a, b in zip(times["seed's step"], values, strict=True)]
        figures[name] = {
            "ms_per_pair": statistics.median(values),
            "times_cheaper": statistics.median(ratios),
            "times_cheaper_min": min(ratios),
        }
        print(
            f"{name:12}  {figures[name]['ms_per_pair']:9.2f} ms a pair  "
            f"{figures[name]['times_cheaper']:7.1f} times cheaper (least {min(ratios):.1f})"
        )
    if output:
        write_json(output, figures)


if __name__ == "__main__":
    main()
