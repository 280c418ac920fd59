"""What the report page says of linking: one table a protocol, never two in one."""

from __future__ import annotations

import csv
from typing import Any

from mmsim.paths import AMBIGUOUS_FORMS
from mmsim.reporting.html import cell, figures_table, table, words

LISTS = {
    "hits_at_1": "Hits@1",
    "hits_at_3": "Hits@3",
    "hits_at_5": "Hits@5",
    "mrr": "MRR",
    "mean_rank": "mean rank",
}
POOL = {
    "hits_at_1": "Hits@1",
    "hits_at_5": "Hits@5",
    "hits_at_10": "Hits@10",
    "hits_at_20": "Hits@20",
    "mrr": "MRR",
}
SHORT = {"mentions": "mentions", "hits_at_1": "Hits@1", "mrr": "MRR"}

PROTOCOLS = {
    "candidates": "The candidates of the release, none added. A mention whose entity is in no "
    "knowledge base, or not among its candidates, counts as an error; the mean rank is that of "
    "the others.",
    "injected": "The gold entity was put among the candidates where it was missing: easier than "
    "what a linker meets, and not to be compared with the table above.",
    "pool": "All entities that any mention has as gold or candidate.",
}


def link_blocks(metrics: dict[str, Any], summary: dict[str, Any]) -> list[str]:
    """Return the blocks of the page for task link.

    Parameters
    ----------
    metrics, summary : dict
        What ``metrics.json`` and the mention lists' ``summary.json`` hold.
    """
    counts = metrics["counts"]
    blocks = [
        f"<p>{counts['test_mentions']:,} test mentions, {counts['nil_mentions']:,} of them of "
        f"entities in no knowledge base; {counts['entities']:,} entities in all.</p>"
    ]
    for protocol, meaning in PROTOCOLS.items():
        found = metrics["link"][protocol]
        baselines = metrics["baselines"] if protocol == "candidates" else found["baselines"]
        rows = {"head": found} | {words(name): figures for name, figures in baselines.items()}
        blocks += [
            f"<h2>Protocol {protocol}</h2>",
            f"<p>{meaning}</p>",
            figures_table(POOL if protocol == "pool" else LISTS, rows),
        ]
        if protocol == "candidates":
            ceiling = cell(found, "candidate_recall")
            margins = {words(name): found for name, found in metrics["margins"].items()}
            blocks += [
                f"<p>Share whose gold is among the candidates, the most that any head can reach: "
                f"{ceiling}. What the head adds to each baseline, on the same mentions:</p>",
                figures_table({"mrr": "MRR, head less baseline"}, margins),
            ]
        if "retrieved" in found:
            share = cell(found, "retrieved")
            blocks.append(f"<p>Share whose gold was among those scored in full: {share}.</p>")
    for heading, section in (
        ("What is left without the mentions' images, or with those of others", "controls"),
        ("Slices of the test mentions, protocol candidates", "slices"),
    ):
        if metrics.get(section):
            rows = {words(name): found for name, found in metrics[section].items()}
            blocks += [f"<h2>{heading}</h2>", figures_table(SHORT, rows)]
    return [*blocks, *_ambiguity(metrics), "<h2>Mentions</h2>", _mentions(summary)]


def _ambiguity(metrics: dict[str, Any]) -> list[str]:
    found = metrics["ambiguity"]
    with AMBIGUOUS_FORMS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    blocks = [
        "<h2>Ambiguous surface forms</h2>",
        f"<p>Of {found['forms']:,} surface forms of the test split {found['ambiguous_forms']:,} "
        f"name several entities ({found['form_rate']:.1%}; {found['mention_rate']:.1%} of "
        f"mentions).</p>",
    ]
    if rows:
        names = ("form", "means", "mentions", "hits_at_1")
        for row in rows:
            row["means"] = row["means"].replace("; ", "\n")
        blocks.append(table(names, [[row.get(name) or "" for name in names] for row in rows]))
    return blocks


def _mentions(summary: dict[str, Any]) -> str:
    rows = summary["mentions"]
    names = [name for name in rows[0] if name != "split"]
    body = [(row["split"], *(f"{row[name]:,}" for name in names)) for row in rows]
    return table(("split", *(words(name) for name in names)), body)
