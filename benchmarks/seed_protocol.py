"""What word overlap scores under the documents' own pair protocol, and under ours.

Captions are enough: no image is read, every caption counts as having one. For each protocol the
TF-IDF cosine of two captions, with one threshold from the training pairs, on the validation
pairs; and how well the entity of one side alone tells the label. Example:

    python benchmarks/seed_protocol.py path/of/a/release
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch

from mmsim.data.items import ItemTable, load_items
from mmsim.data.negatives import identity
from mmsim.data.pairs import PairRules, draw_pairs, pair_rows
from mmsim.data.positives import same_entity
from mmsim.data.prepare import prepare
from mmsim.data.seed_protocol import seed_pairs
from mmsim.data.tables import IMAGES, INSTANCES, TEXTS, write_table
from mmsim.data.tiers import hard_negatives
from mmsim.evaluation.baselines import caption_tfidf
from mmsim.evaluation.bootstrap import Resampling
from mmsim.evaluation.metrics import best_threshold, classification_metrics
from mmsim.evaluation.summary import Decisions, summarize
from mmsim.files import write_json
from mmsim.reporting.table import columns
from mmsim.training.memory import ROW_COLUMNS

CAP = 100


def rows_of(pairs: pd.DataFrame) -> torch.Tensor:
    """Return the row numbers of pairs."""
    return torch.tensor(pairs[ROW_COLUMNS].to_numpy())


def one_side(pairs: pd.DataFrame, side: str) -> float:
    """Return the AUC of the share of positives among the pairs of a side's first entity.

    An oracle: it knows the entities and the shares. Where every entity has as many negatives as
    positives on that side it is 0.5.
    """
    entity = pairs[f"{side}_gold"].map(lambda gold: min(gold, default=-1))
    share = pairs["label"].groupby(entity).transform("mean").to_numpy()
    return classification_metrics(share, pairs["label"].to_numpy(), 0.5)["auc"]


def measure(
    train: pd.DataFrame, valid: pd.DataFrame, captions: list[str], draws: int
) -> dict[str, float]:
    """Return the figures of TF-IDF and of one side alone."""
    of_train, of_valid = caption_tfidf(captions, rows_of(train), rows_of(train), rows_of(valid))
    threshold = best_threshold(of_train, train["label"].to_numpy())
    entity = valid["entity"].to_numpy()
    decisions = Decisions(
        of_valid[None],
        valid["label"].to_numpy().astype(np.int64),
        np.array([threshold]),
        Resampling(entity, draws),
    )
    found = summarize(decisions, ("accuracy", "f1", "auc"))
    sides = {f"{side}_entity_auc": one_side(valid, side) for side in ("query", "candidate")}
    return {"train": len(train), "valid": len(valid)} | found | sides


def without_shared(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs whose sides differ in image and caption."""
    differ = (pairs["query_image"] != pairs["candidate_image"]) & (
        pairs["query_text"] != pairs["candidate_text"]
    )
    return pairs[differ]


@click.command()
@click.argument("release", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--repeats", default=3, show_default=True, help="Seeds of the documents' draw.")
@click.option("--draws", default=2000, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Where to write JSON.")
def main(release: Path, repeats: int, draws: int, output: Path | None) -> None:
    """Measure word overlap under both protocols on the captions of a release."""
    with tempfile.TemporaryDirectory() as name:
        prepared = Path(name) / "prepared"
        prepare(release, prepared, near_bits=4, max_excluded=1.0, workers=2)
        images = pd.read_parquet(prepared / IMAGES)
        write_table(prepared / IMAGES, images.assign(status="ok"))
        instances = pd.read_parquet(prepared / INSTANCES)
        captions = pd.read_parquet(prepared / TEXTS).sort_values("text")["content"].tolist()
        table = load_items(prepared)
    mentions = instances[instances["mention"] != ""]
    found = {}
    for seed in range(repeats):
        drawn = {
            split: seed_pairs(
                mentions[mentions["split"] == split], CAP, np.random.default_rng([seed, number])
            )
            for number, split in enumerate(("train", "valid"))
        }
        found[f"documents', seed {seed}"] = measure(*drawn.values(), captions, draws)
        linked = {split: pairs[pairs["entity"] >= 0] for split, pairs in drawn.items()}
        found[f"documents', seed {seed}, without NIL"] = measure(*linked.values(), captions, draws)
        apart = {split: without_shared(pairs) for split, pairs in drawn.items()}
        found[f"documents', seed {seed}, nothing shared"] = measure(
            *apart.values(), captions, draws
        )
    rules = PairRules("pair", CAP, False, 1, 0, False)
    ours = {split: draw_pairs(table, split, rules) for split in ("train", "valid")}
    found["ours"] = measure(*ours.values(), captions, draws)
    lexical = lexical_tier(table, ours["valid"])
    found["ours, lexical tier"] = measure(ours["train"], lexical, captions, draws)
    names = ("accuracy", "f1", "auc")
    rows = [("protocol", "valid pairs", *names, "query entity", "candidate entity")]
    for protocol, figures in found.items():
        cells = [
            f"{figures[n]:.3f} [{figures[f'{n}_low']:.3f}, {figures[f'{n}_high']:.3f}]"
            for n in names
        ]
        sides = [f"{figures[f'{side}_entity_auc']:.3f}" for side in ("query", "candidate")]
        rows.append((protocol, f"{figures['valid']:,}", *cells, *sides))
    click.echo(columns(rows))
    if output:
        write_json(output, found)


def lexical_tier(table: ItemTable, valid: pd.DataFrame) -> pd.DataFrame:
    """Return the validation positives with negatives of the lexical tier in place of the random."""
    items = table.splits["valid"]
    positives = same_entity(items, table.entity_keys, CAP)
    taken = {identity(*pair, ordered=False) for pair in positives}
    tiers = hard_negatives(items, table.traits["valid"], np.array(positives), taken, CAP, "pair")
    negatives = pair_rows(items, tiers["lexical"].pairs, 0, "lexical", "same_entity")
    return pd.concat([valid[valid["label"] == 1], negatives], ignore_index=True)


if __name__ == "__main__":
    main()
