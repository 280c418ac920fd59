"""What the report page says of pairs: decisions, retrieval, simpler explanations, parts."""

from __future__ import annotations

import csv
from typing import Any

from mmsim.paths import AMBIGUOUS_FORMS, PLOTS
from mmsim.reporting.html import cell, figures_table, line_plot, table, words

FIGURES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "auc": "AUC",
    "average_precision": "average precision",
}
SHORT = {
    "pairs": "pairs",
    "accuracy": "accuracy",
    "auc": "AUC",
    "caption_tfidf_auc": "AUC of caption TF-IDF",
}
RANKING = {
    "recall_at_1": "R@1",
    "recall_at_5": "R@5",
    "recall_at_10": "R@10",
    "mrr": "MRR",
}


def pair_blocks(metrics: dict[str, Any], summary: dict[str, Any]) -> list[str]:
    """Return the blocks of the page for the tasks match and pair.

    Parameters
    ----------
    metrics, summary : dict
        What ``metrics.json`` and the pairs' ``summary.json`` hold.
    """
    counts = metrics["counts"]
    return [
        f"<p>{counts['test_pairs']:,} test pairs of {counts['test_entities']:,} entities; "
        f"threshold from {counts['valid_pairs']:,} validation pairs.</p>",
        *_decisions(metrics),
        *_retrieval(metrics),
        *_explanations(metrics),
        *_parts_of_the_test(metrics),
        *_ambiguity(metrics),
        "<h2>Curves of the test pairs</h2>",
        f'<div class="plots">{"".join(_curves())}</div>',
        "<h2>Pairs</h2>",
        table(
            ("split", "tier", "label", "pairs"),
            [
                (row["split"], words(row["tier"]), str(row["label"]), f"{row['pairs']:,}")
                for row in summary["pairs"]
            ],
        ),
    ]


def _decisions(metrics: dict[str, Any]) -> list[str]:
    calibration = metrics["calibration"]
    return [
        "<h2>Decisions</h2>",
        figures_table(FIGURES, {name: metrics[name] for name in ("test", "valid")}),
        f"<p>As a probability: Brier score {cell(calibration, 'brier')} (0.25 is a constant "
        f"one half), expected calibration error {cell(calibration, 'ece')}.</p>",
    ]


def _retrieval(metrics: dict[str, Any]) -> list[str]:
    if "retrieval" not in metrics:
        return []
    found = metrics["retrieval"]
    rows = {}
    for prefix, place in (("", found), ("own caption only: ", found["own_caption"])):
        for direction in ("image_to_text", "text_to_image"):
            rows[f"{prefix}{words(direction)}"] = place[direction]
            rows[f"{prefix}{words(direction)}, by lot"] = place[direction]["chance"]
    return [
        "<h2>Retrieval</h2>",
        f"<p>{found['pool_images']:,} images and {found['pool_texts']:,} captions of the test "
        "split. Right is whatever shows an entity of the query; below, an image's own caption "
        "alone.</p>",
        figures_table(RANKING, rows),
    ]


def _explanations(metrics: dict[str, Any]) -> list[str]:
    blocks = [
        "<h2>Simpler explanations</h2>",
        "<p>What rules without attention score on the same pairs. If query only or candidate "
        "only is above 0.5, one side betrays the label.</p>",
        figures_table(FIGURES, {words(n): f for n, f in metrics["baselines"].items()}),
        "<p>What is left of the head without its images, or with those of other pairs.</p>",
        figures_table(SHORT, {words(n): f for n, f in metrics["controls"].items()}),
    ]
    if "emap" in metrics:
        emap = metrics["emap"]
        parts = ("with_interaction", "without_interaction", "gap")
        rows = {
            words(part): {
                key.removeprefix(f"{part}_"): value
                for key, value in emap.items()
                if key.startswith(f"{part}_")
            }
            for part in parts
        }
        blocks += [
            "<h2>Does interaction matter?</h2>",
            f"<p>The head's scores of {emap['pairs']:,} test pairs, and the same without what "
            "only image and text together say (EMAP, Hessel and Lee 2020). A gap whose interval "
            "holds 0 is no evidence of interaction.</p>",
            figures_table({"accuracy": "accuracy", "auc": "AUC"}, rows),
        ]
    return blocks


def _parts_of_the_test(metrics: dict[str, Any]) -> list[str]:
    blocks = []
    if metrics["tiers"]:
        tiers = {words(name): found for name, found in metrics["tiers"].items()}
        blocks += ["<h2>Tiers</h2>", figures_table(SHORT, tiers)]
    if metrics["slices"]:
        slices = {words(name): found for name, found in metrics["slices"].items()}
        blocks += ["<h2>Slices of the test pairs</h2>", figures_table(SHORT, slices)]
    return blocks


def _ambiguity(metrics: dict[str, Any]) -> list[str]:
    found = metrics["ambiguity"]
    sentence = (
        f"Of {found['forms']:,} surface forms of the test split {found['ambiguous_forms']:,} name "
        f"several entities ({found['form_rate']:.1%}; {found['mention_rate']:.1%} of mentions); "
        f"{found['train_ambiguous_mentions']:,} mentions ({found['train_mention_rate']:.1%}) have "
        f"a form that names another entity in training. "
    )
    if "told_apart" in found:
        sentence += (
            f"Of {found['pairs']:,} pairs of one form and different entities, the head tells "
            f"apart {cell(found, 'told_apart')}"
        )
        sentence += f", AUC {cell(found, 'auc')}." if "auc" in found else "."
    blocks = ["<h2>Ambiguous surface forms</h2>", f"<p>{sentence}</p>"]
    with AMBIGUOUS_FORMS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if rows:
        names = ("form", "means", "mentions", "negatives", "positives", "accuracy", "auc")
        for row in rows:
            row["means"] = row["means"].replace("; ", "\n")
        blocks.append(table(names, [[row.get(name) or "" for name in names] for row in rows]))
    return blocks


def _curves() -> list[str]:
    names = ("roc", "precision_recall", "reliability")
    roc, precision_recall, reliability = (PLOTS / f"{name}.csv" for name in names)
    return [
        line_plot(roc, "fpr", "tpr", "false positive rate", "true positive rate"),
        line_plot(precision_recall, "recall", "precision", "recall", "precision"),
        line_plot(reliability, "predicted", "observed", "chance of a match", "share that match"),
    ]
