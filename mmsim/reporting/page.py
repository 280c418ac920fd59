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
from mmsim.paths import AMBIGUOUS_FORMS, METRICS, PAIRS, PLOTS, PREPARED, TRAINING_CURVES
from mmsim.reporting.table import flatten

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; }
th, td { text-align: right; padding: 0.2rem 0.8rem; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
td { white-space: pre; vertical-align: top; }
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
    blocks = [
        *_heading(metrics, settings),
        *_decisions(metrics),
        *_retrieval(metrics),
        *_explanations(metrics),
        *_parts_of_the_test(metrics),
        *_ambiguity(metrics),
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


def _heading(metrics: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    counts = metrics["counts"]
    seeds = f"{counts['seeds']} seed" + ("s" if counts["seeds"] > 1 else "")
    attention = settings["model"]["attention"]
    blocks = [f"<h1>mmsim: {_text(settings['task'])}, attention {_text(attention)}</h1>"]
    if settings["data"]["source"] == "sample":
        blocks.append(
            '<p class="note">The sample is drawn and its encoders are random: these figures show '
            "that the pipeline runs, nothing else.</p>"
        )
    blocks.append(
        f"<p>{counts['test_pairs']:,} test pairs of {counts['test_entities']:,} entities; "
        f"threshold from {counts['valid_pairs']:,} validation pairs; "
        f"{counts['parameters']:,} parameters. Means over {seeds}, ± standard deviation over "
        "them. In brackets the 95 % interval of the mean over other entities: figures whose "
        "intervals overlap may still differ, which <code>mmsim compare</code> tests.</p>"
    )
    return blocks


def _decisions(metrics: dict[str, Any]) -> list[str]:
    calibration = metrics["calibration"]
    return [
        "<h2>Decisions</h2>",
        _figures_table(FIGURES, {name: metrics[name] for name in ("test", "valid")}),
        f"<p>As a probability: Brier score {_cell(calibration, 'brier')} (0.25 is a constant "
        f"one half), expected calibration error {_cell(calibration, 'ece')}.</p>",
    ]


def _retrieval(metrics: dict[str, Any]) -> list[str]:
    if "retrieval" not in metrics:
        return []
    found = metrics["retrieval"]
    rows = {}
    for prefix, place in (("", found), ("own caption only: ", found["own_caption"])):
        for direction in ("image_to_text", "text_to_image"):
            rows[f"{prefix}{_words(direction)}"] = place[direction]
            rows[f"{prefix}{_words(direction)}, by lot"] = place[direction]["chance"]
    return [
        "<h2>Retrieval</h2>",
        f"<p>{found['pool_images']:,} images and {found['pool_texts']:,} captions of the test "
        "split. Right is whatever shows an entity of the query; below, an image's own caption "
        "alone.</p>",
        _figures_table(RANKING, rows),
    ]


def _explanations(metrics: dict[str, Any]) -> list[str]:
    blocks = [
        "<h2>Simpler explanations</h2>",
        "<p>What rules without attention score on the same pairs. If query only or candidate "
        "only is above 0.5, one side betrays the label.</p>",
        _figures_table(FIGURES, {_words(n): f for n, f in metrics["baselines"].items()}),
        "<p>What is left of the head without its images, or with those of other pairs.</p>",
        _figures_table(SHORT, {_words(n): f for n, f in metrics["controls"].items()}),
    ]
    if "emap" in metrics:
        emap = metrics["emap"]
        parts = ("with_interaction", "without_interaction", "gap")
        rows = {
            _words(part): {
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
            _figures_table({"accuracy": "accuracy", "auc": "AUC"}, rows),
        ]
    return blocks


def _parts_of_the_test(metrics: dict[str, Any]) -> list[str]:
    blocks = []
    if metrics["tiers"]:
        tiers = {_words(name): found for name, found in metrics["tiers"].items()}
        blocks += ["<h2>Tiers</h2>", _figures_table(SHORT, tiers)]
    if metrics["slices"]:
        slices = {_words(name): found for name, found in metrics["slices"].items()}
        blocks += ["<h2>Slices of the test pairs</h2>", _figures_table(SHORT, slices)]
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
            f"apart {_cell(found, 'told_apart')}"
        )
        sentence += f", AUC {_cell(found, 'auc')}." if "auc" in found else "."
    blocks = ["<h2>Ambiguous surface forms</h2>", f"<p>{sentence}</p>"]
    with AMBIGUOUS_FORMS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if rows:
        names = ("form", "means", "mentions", "negatives", "positives", "accuracy", "auc")
        for row in rows:
            row["means"] = row["means"].replace("; ", "\n")
        blocks.append(_table(names, [[row.get(name) or "" for name in names] for row in rows]))
    return blocks


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is missing or broken; run `dvc repro` to make it") from error
    return content


def _figures_table(names: dict[str, str], rows: dict[str, dict[str, float]]) -> str:
    names = {key: name for key, name in names.items() if any(key in f for f in rows.values())}
    body = [(label, *(_cell(found, name) for name in names)) for label, found in rows.items()]
    return _table(("", *names.values()), body)


def _cell(found: dict[str, float], name: str) -> str:
    value, spread, low = (found.get(f"{name}{side}") for side in ("", "_std", "_low"))
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    figure = f"{value:.3f}" + ("" if spread is None else f" ± {spread:.3f}")
    return figure if low is None else f"{figure}\n[{low:.3f}, {found[f'{name}_high']:.3f}]"


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
    names = ("roc", "precision_recall", "reliability")
    roc, precision_recall, reliability = (PLOTS / f"{name}.csv" for name in names)
    return [
        _line_plot(TRAINING_CURVES, "epoch", "train_loss", "epoch", "training loss"),
        _line_plot(TRAINING_CURVES, "epoch", "valid_auc", "epoch", "validation AUC"),
        _line_plot(roc, "fpr", "tpr", "false positive rate", "true positive rate"),
        _line_plot(precision_recall, "recall", "precision", "recall", "precision"),
        _line_plot(reliability, "predicted", "observed", "chance of a match", "share that match"),
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
