"""The metrics as tables that a person can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SIDE_FIGURES = ("_std", "_low", "_high")


def metrics_table(metrics: dict[str, Any]) -> str:
    """Return every figure of ``metrics.json`` as plain text, a row a figure.

    Behind a figure stand its deviation over seeds and its interval, where it has them.
    """
    rows = list(flatten(metrics))
    values = dict(rows)
    lines = [_line(name, value, values) for name, value in rows if not name.endswith(SIDE_FIGURES)]
    return columns([("figure", "value", "seeds", "95 % interval"), *lines])


def summary_table(metrics: dict[str, Any]) -> str:
    """Return the figures that answer the main questions, a row each."""
    values = dict(flatten(metrics))
    lines: list[tuple[str, ...]] = [("figure", "value", "seeds", "95 % interval")]
    wanted = _main_link_figures(metrics) if "link" in metrics else _main_figures(metrics)
    lines += [_line(name, values[name], values) for name in wanted if name in values]
    counts = metrics["counts"]
    rows = "mentions" if "link" in metrics else "pairs"
    head = (
        f"{counts[f'test_{rows}']:,} test {rows} of {counts['test_entities']:,} entities, "
        f"{counts['seeds']} seeds; intervals over entities. All figures: mmsim show --all"
    )
    return f"{head}\n{columns(lines)}"


def _main_figures(metrics: dict[str, Any]) -> list[str]:
    wanted = ["valid.auc", *(f"test.{name}" for name in ("accuracy", "f1", "auc"))]
    wanted.append("test.average_precision")
    for direction in ("image_to_text", "text_to_image"):
        wanted += [f"retrieval.{direction}.{name}" for name in ("recall_at_1", "recall_at_10")]
        wanted.append(f"retrieval.{direction}.chance.recall_at_10")
    for section in ("baselines", "controls", "tiers"):
        wanted += [f"{section}.{name}.auc" for name in metrics.get(section, {})]
    wanted += [f"slices.{name}_entity.auc" for name in ("seen", "unseen")]
    wanted += [f"emap.{part}_auc" for part in ("with_interaction", "without_interaction", "gap")]
    wanted += ["ambiguity.told_apart", "ambiguity.auc", "calibration.brier", "calibration.ece"]
    return wanted


def _main_link_figures(metrics: dict[str, Any]) -> list[str]:
    wanted = ["valid.mrr"]
    for name in ("hits_at_1", "hits_at_5", "mrr", "candidate_recall"):
        wanted.append(f"link.candidates.{name}")
    wanted += [f"baselines.{name}.mrr" for name in metrics["baselines"]]
    wanted += [f"controls.{name}.mrr" for name in metrics["controls"]]
    wanted += [f"slices.{name}.mrr" for name in ("seen_entity", "unseen_entity", "other_title")]
    for protocol in ("injected", "pool"):
        wanted += [f"link.{protocol}.{name}" for name in ("hits_at_1", "mrr", "retrieved")]
        of_rules = metrics["link"][protocol]["baselines"]
        wanted += [f"link.{protocol}.baselines.{name}.mrr" for name in of_rules]
    return wanted


def _line(name: str, value: float, values: dict[str, Any]) -> tuple[str, str, str, str]:
    figure = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
    spread, low, high = (values.get(f"{name}{side}") for side in SIDE_FIGURES)
    return (
        name,
        figure,
        "" if spread is None else f"± {spread:.4f}",
        "" if low is None else f"[{low:.4f}, {high:.4f}]",
    )


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells under one another, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def flatten(nested: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the leaves of nested dictionaries with their dotted keys, in order."""
    rows: list[tuple[str, Any]] = []
    for name, value in nested.items():
        key = f"{prefix}{name}"
        rows += flatten(value, f"{key}.") if isinstance(value, dict) else [(key, value)]
    return rows
