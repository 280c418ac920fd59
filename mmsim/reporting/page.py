"""One page that shows the result of the workspace; it opens without a network."""

from __future__ import annotations

import csv
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmsim.data.release import SPLITS
from mmsim.errors import UserError
from mmsim.files import replacing_file
from mmsim.paths import METRICS, PAIRS, PLOTS, PREPARED, TRAINING_CURVES
from mmsim.reporting.table import flatten

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; }
th, td { text-align: right; padding: 0.2rem 0.8rem; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
td { white-space: nowrap; }
.plots { display: flex; flex-wrap: wrap; gap: 1.5rem; }
.note { color: #666; }
"""

FIGURES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "auc": "AUC",
    "average_precision": "average precision",
}
RANKING = {
    "recall_at_1": "R@1",
    "recall_at_5": "R@5",
    "recall_at_10": "R@10",
    "mrr": "MRR",
}

Row = Sequence[str]


def write_page(path: Path, settings: dict[str, Any]) -> None:
    """Write the report of the workspace.

    Parameters
    ----------
    path : Path
        Where the page is to lie.
    settings : dict
        The parameters that made the result, nested as in params.yaml.
    """
    metrics = _read_json(METRICS)
    summary = _read_json(PAIRS / "summary.json")
    exclusions = _read_json(PREPARED / "exclusions.json")
    counts = metrics["counts"]
    seeds = f"{counts['seeds']} seed" + ("s" if counts["seeds"] > 1 else "")
    blocks = [
        f"<h1>mmsim: {_text(settings['task'])}, attention {_text(settings['model']['attention'])}"
        "</h1>",
        f"<p>Means over {seeds}, ± standard deviation over them. {counts['test_pairs']:,} test "
        f"pairs, threshold from {counts['valid_pairs']:,} validation pairs, "
        f"{counts['parameters']:,} parameters.</p>",
        "<h2>Decisions</h2>",
        _figures_table(FIGURES, {name: metrics[name] for name in ("test", "valid")}),
    ]
    if settings["data"]["source"] == "sample":
        blocks.insert(
            1,
            '<p class="note">The sample is drawn and its encoders are random: these figures show '
            "that the pipeline runs, nothing else.</p>",
        )
    if len(metrics["tiers"]) > 1:
        tiers = {_words(name): found for name, found in metrics["tiers"].items()}
        blocks += ["<h2>Tiers of the test pairs</h2>", _figures_table(FIGURES, tiers)]
    if "retrieval" in metrics:
        found = metrics["retrieval"]
        directions = ("image_to_text", "text_to_image")
        blocks += [
            "<h2>Retrieval</h2>",
            f"<p>{found['pool_images']:,} images, {found['pool_texts']:,} captions of the test "
            f"split; right is an image's own caption. By chance a query would find one of "
            f"{found['pool_texts']:,} captions in the first ten with probability "
            f"{min(1.0, 10 / found['pool_texts']):.3f}.</p>",
            _figures_table(RANKING, {_words(name): found[name] for name in directions}),
        ]
    blocks += [
        "<h2>Curves</h2>",
        f'<div class="plots">{"".join(_plots())}</div>',
        "<h2>Pairs</h2>",
        _table(
            ("split", "tier", "label", "pairs"),
            [
                (row["split"], _words(row["tier"]), str(row["label"]), f"{row['pairs']:,}")
                for row in summary["pairs"]
            ],
        ),
        "<h2>Left out and mended</h2>",
        _exclusions(exclusions),
        "<h2>Parameters</h2>",
        _table(("parameter", "value"), [(key, str(value)) for key, value in flatten(settings)]),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>mmsim report</title><style>{STYLE}</style></head>"
        f"<body>{''.join(blocks)}</body></html>\n"
    )
    with replacing_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is missing or broken; run `dvc repro` to make it") from error
    return content


def _figures_table(names: dict[str, str], rows: dict[str, dict[str, float]]) -> str:
    def cell(found: dict[str, float], name: str) -> str:
        spread = found.get(f"{name}_std")
        return f"{found[name]:.3f}" + ("" if spread is None else f" ± {spread:.3f}")

    body = [(label, *(cell(found, name) for name in names)) for label, found in rows.items()]
    return _table(("", *names.values()), body)


def _exclusions(tally: dict[str, Any]) -> str:
    splits = [split for split in SPLITS if split in tally["kept"]]
    rows = [("kept", *(f"{tally['kept'][split]:,}" for split in splits))]
    for heading in ("excluded", "mended"):
        rows += [
            (f"{heading}: {reason}", *(f"{by_split.get(split, 0):,}" for split in splits))
            for reason, by_split in tally[heading].items()
            if any(by_split.values())
        ]
    images = ", ".join(f"{number:,} {status}" for status, number in tally["images"].items())
    return _table(("records", *splits), rows) + f'<p class="note">Image files: {images}.</p>'


def _plots() -> list[str]:
    """Return the curves as SVG drawings."""
    roc, precision_recall = PLOTS / "roc.csv", PLOTS / "precision_recall.csv"
    return [
        _line_plot(TRAINING_CURVES, "epoch", "train_loss", "epoch", "training loss"),
        _line_plot(TRAINING_CURVES, "epoch", "valid_auc", "epoch", "validation AUC"),
        _line_plot(roc, "fpr", "tpr", "false positive rate", "true positive rate"),
        _line_plot(precision_recall, "recall", "precision", "recall", "precision"),
    ]


def _line_plot(path: Path, x: str, y: str, x_title: str, y_title: str) -> str:
    import vl_convert

    with path.open(encoding="utf-8", newline="") as file:
        points = [{x: float(row[x]), y: float(row[y])} for row in csv.DictReader(file)]
    plot = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "data": {"values": points},
        "width": 340,
        "height": 240,
        "mark": "line",
        "encoding": {
            "x": {"field": x, "type": "quantitative", "title": x_title},
            "y": {
                "field": y,
                "type": "quantitative",
                "title": y_title,
                "scale": {"zero": False},
            },
        },
    }
    drawing: str = vl_convert.vegalite_to_svg(plot)
    return drawing


def _table(head: Row, rows: Sequence[Row]) -> str:
    def line(cells: Row, tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{_text(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table>"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _text(value: object) -> str:
    return html.escape(str(value))
