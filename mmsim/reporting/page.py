"""One page that shows the result of the workspace; it opens without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmsim.data.release import SPLITS
from mmsim.errors import UserError
from mmsim.files import replacing_file
from mmsim.paths import METRICS, PAIRS, PREPARED, TRAINING_CURVES
from mmsim.reporting.html import line_plot, table, text
from mmsim.reporting.link_blocks import link_blocks
from mmsim.reporting.pair_blocks import pair_blocks
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
    of_task = link_blocks if settings["task"] == "link" else pair_blocks
    blocks = [
        *_heading(metrics, settings),
        *of_task(metrics, summary),
        "<h2>Training</h2>",
        f'<div class="plots">{"".join(_curves())}</div>',
        "<h2>Left out and mended</h2>",
        _exclusions(exclusions),
        "<h2>Parameters</h2>",
        table(("parameter", "value"), [(key, str(value)) for key, value in flatten(settings)]),
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
    head = settings["model"]["name"]
    if head == "siamese":
        head += f", attention {settings['model']['attention']}"
    blocks = [f"<h1>mmsim: {text(settings['task'])}, {text(head)}</h1>"]
    if settings["data"]["source"] == "sample":
        blocks.append(
            '<p class="note">The sample is drawn and its encoders are random: these figures show '
            "that the pipeline runs, nothing else.</p>"
        )
    blocks.append(
        f"<p>{counts['parameters']:,} parameters. Means over {seeds}, ± standard deviation over "
        "them. In brackets the 95 % interval of the mean over other entities: figures whose "
        "intervals overlap may still differ, which <code>mmsim compare</code> tests.</p>"
    )
    return blocks


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is missing or broken; run `dvc repro` to make it") from error
    return content


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
    return table(("records", *splits), rows) + f'<p class="note">Image files: {images}.</p>'


def _curves() -> list[str]:
    return [
        line_plot(TRAINING_CURVES, "epoch", "train_loss", "epoch", "training loss"),
        line_plot(TRAINING_CURVES, "epoch", "validation", "epoch", "validation"),
    ]
