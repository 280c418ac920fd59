"""Small features, pairs and heads, made of random numbers, for tests of models and training."""

import hashlib

import numpy as np
import pandas as pd
import torch

from mmsim.evaluation.inputs import Data
from mmsim.models.batch import PairBatch, Sequences
from mmsim.models.siamese import Siamese, SiameseConfig
from mmsim.training.fit import TrainingRules
from mmsim.training.memory import ROW_COLUMNS, FeatureMemory, Pairs

ATTENTIONS = ["none", "base", "cross"]
TASKS = ["match", "pair"]
LOSSES = ["contrastive", "bce", "infonce"]


def config(attention="base", task="match", **changes):
    sizes = {"image_dim": 6, "text_dim": 5, "width": 8, "heads": 2, "head_width": 3, "dropout": 0.0}
    return SiameseConfig(task=task, attention=attention, **(sizes | changes))


def head(attention="base", task="match", seed=0, **changes):
    torch.manual_seed(seed)
    return Siamese(config(attention, task, **changes)).eval()


def sequences(lengths, dim, seed=0, dtype=torch.float32):
    """Random tokens, as many as `lengths` says for each item; padding holds noise as well."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(len(lengths), max(lengths), dim, generator=generator, dtype=dtype)
    return Sequences(values, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])


def with_padding(items, value, extra=3):
    """The same items, with `extra` more padding tokens, and `value` in all padding."""
    count, _, dim = items.values.shape
    more = items.values.new_full((count, extra, dim), value)
    values = torch.cat([items.values.masked_fill(~items.mask[..., None], value), more], dim=1)
    mask = torch.cat([items.mask, items.mask.new_zeros(count, extra)], dim=1)
    return Sequences(values, mask)


def pair_batch(seed=0):
    """Five pairs over four images and four texts, some of which stand in several pairs."""
    return PairBatch(
        images=sequences([4, 2, 3, 4], 6, seed),
        texts=sequences([3, 5, 1, 2], 5, seed + 1),
        query_image=torch.tensor([0, 1, 2, 2, 0]),
        query_text=torch.tensor([0, 1, 2, 2, 3]),
        candidate_image=torch.tensor([0, 1, 3, 1, 3]),
        candidate_text=torch.tensor([1, 0, 3, 1, 3]),
    )


def memory(images=12, texts=12, seed=0, image_dim=6, text_dim=5):
    """Features of rows of which image i and text i have a part in common."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(max(images, texts), 5))
    lengths = rng.integers(1, 5, texts)
    grid = rng.normal(size=(images, 4, image_dim))
    grid[:, :, :5] += 2 * common[:images, None]
    tokens = rng.normal(size=(lengths.sum(), text_dim))
    tokens[:, :5] += 2 * np.repeat(common[:texts], lengths, axis=0)
    return FeatureMemory(
        torch.from_numpy(grid).half(),
        torch.from_numpy(tokens).half(),
        torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])),
        torch.ones(images, dtype=torch.bool),
        torch.ones(texts, dtype=torch.bool),
    )


def pairs(rows, labels, gold=None, tiers=None, contrasts=None, forms=None):
    """Pairs of captioned images; row i's image and text show entity i, unless `gold` says."""
    rows = np.asarray(rows, dtype=np.int64).reshape(-1, 4)
    gold = gold or {}
    table = pd.DataFrame(rows, columns=ROW_COLUMNS).assign(
        pair=range(len(rows)),
        label=labels,
        tier=tiers or ["own_caption" if label else "random" for label in labels],
        contrast=contrasts or "own_caption",
        entity=rows[:, 0],
        query_gold=[gold.get(row, [row]) for row in rows[:, 0]],
        candidate_gold=[gold.get(row, [row]) for row in rows[:, 3]],
        form=forms or "",
    )
    return Pairs(torch.from_numpy(rows), torch.tensor(labels, dtype=torch.float32), table)


def own_and_next(count, first=0):
    """For each of `count` images its own caption, label 1, and the next one's, label 0."""
    numbers = first + np.arange(count)
    after = first + (np.arange(count) + 1) % count
    positives = np.stack([numbers, numbers, numbers, numbers], axis=1)
    negatives = np.stack([numbers, numbers, after, after], axis=1)
    return pairs(np.concatenate([positives, negatives]), [1] * count + [0] * count)


def same_and_other(count):
    """Pair task: items 2i and 2i + 1 show one entity, 2i and 2i + 3 do not."""
    query = 2 * np.arange(count)
    same, other = query + 1, (query + 3) % (2 * count)
    rows = np.concatenate([np.stack([query, query, to, to], axis=1) for to in (same, other)])
    gold = {row: [row // 2] for row in range(2 * count)}
    tiers = ["same_entity"] * count + ["random"] * count
    return pairs(rows, [1] * count + [0] * count, gold, tiers, "same_entity")


def data(task, train, valid, test):
    """The pairs of three splits and the prepared tables that they could come from.

    Entity e is called "name<e>" in each caption that shows it, and nothing else is called so.
    """
    mentions = []
    for split, chosen in (("train", train), ("valid", valid), ("test", test)):
        table = chosen.table
        shown = {}
        for side in ("query", "candidate"):
            items = zip(table[f"{side}_image"], table[f"{side}_text"], strict=True)
            shown = dict(zip(items, table[f"{side}_gold"], strict=True)) | shown
        for (image, text), gold in shown.items():
            for place, entity in enumerate(gold):
                mention, start = f"name{entity}", 8 + sum(len(f"name{e} ") for e in gold[:place])
                span = (mention, start, start + len(mention))
                kind = ["person", "place", "team"][entity % 3]
                mentions.append((split, image, text, *span, kind, entity))
            if not len(gold):
                mentions.append((split, image, text, "", -1, -1, "", -1))
    columns = ["split", "image", "text", "mention", "start", "end", "type", "entity"]
    instances = pd.DataFrame(mentions, columns=columns)
    instances["topic"] = np.where(instances["image"] % 2, "history", "sports")
    instances["nil"] = False
    rows = np.concatenate([chosen.rows.numpy() for chosen in (train, valid, test)])
    images, texts = np.arange(rows[:, [0, 2]].max() + 1), np.arange(rows[:, [1, 3]].max() + 1)
    entities = np.arange(instances["entity"].max() + 1)
    names = instances.groupby("text")["mention"].agg(lambda said: " ".join(dict.fromkeys(said)))
    hashes = [hashlib.sha256(str(image).encode()).hexdigest() for image in images]
    counts = instances["entity"].value_counts().reindex(entities, fill_value=0)
    return Data(
        task,
        train,
        valid,
        test,
        instances,
        pd.DataFrame(
            {
                "image": images,
                "group": images,
                "status": "ok",
                "sha256": hashes,
                "perceptual_hash": [name[:16] for name in hashes],
            }
        ),
        pd.DataFrame(
            {
                "text": texts,
                "group": texts,
                "content": [f"here is {names.get(text, '')} in picture{text}" for text in texts],
                "kind": "caption",
            }
        ),
        pd.DataFrame(
            {
                "entity": entities,
                "title": [f"Title {entity}" for entity in entities],
                "description": "",
                "mentions": counts.to_numpy(),
            }
        ),
    )


def rules(loss="contrastive", **changes):
    defaults = {
        "margin": 1.0,
        "temperature": 0.1,
        "epochs": 3,
        "patience": 3,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "weight_decay": 0.0,
    }
    return TrainingRules(loss=loss, **(defaults | changes))
