"""Pieces of the report page: tables of figures with their intervals, and line plots."""

from __future__ import annotations

import csv
import html
from collections.abc import Sequence
from pathlib import Path

Row = Sequence[str]


def figures_table(names: dict[str, str], rows: dict[str, dict[str, float]]) -> str:
    """Return a table: a row for each of `rows`, a column for each of `names` that occurs."""
    names = {key: name for key, name in names.items() if any(key in f for f in rows.values())}
    body = [(label, *(cell(found, name) for name in names)) for label, found in rows.items()]
    return table(("", *names.values()), body)


def cell(found: dict[str, float], name: str) -> str:
    """Return a figure with its deviation over seeds and its interval, as far as it has them."""
    value, spread, low = (found.get(f"{name}{side}") for side in ("", "_std", "_low"))
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    figure = f"{value:.3f}" + ("" if spread is None else f" ± {spread:.3f}")
    return figure if low is None else f"{figure}\n[{low:.3f}, {found[f'{name}_high']:.3f}]"


def line_plot(path: Path, x: str, y: str, x_title: str, y_title: str) -> str:
    """Return two columns of a CSV table as an SVG drawing."""
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


def table(head: Row, rows: Sequence[Row]) -> str:
    """Return a table."""

    def line(cells: Row, tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{text(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table>"


def words(name: str) -> str:
    """Return a key as words."""
    return name.replace("_", " ")


def text(value: object) -> str:
    """Return a value as text that HTML does not take for markup."""
    return html.escape(str(value))
