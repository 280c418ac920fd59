"""The metrics as a table that a person can read."""

from __future__ import annotations

from typing import Any


def metrics_table(metrics: dict[str, Any]) -> str:
    """Return the figures of ``metrics.json`` as plain text, a row a figure.

    Standard deviations over seeds stand behind their means.
    """
    rows = list(flatten(metrics))
    values = dict(rows)
    lines = []
    for name, value in rows:
        if name.endswith("_std"):
            continue
        figure = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
        spread = values.get(f"{name}_std")
        lines.append((name, figure, "" if spread is None else f"± {spread:.4f}"))
    width = max(len(name) for name, _, _ in lines)
    return "\n".join(
        f"{name.ljust(width)}  {figure:>10}  {spread}".rstrip() for name, figure, spread in lines
    )


def flatten(nested: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the leaves of nested dictionaries with their dotted keys, in order."""
    rows: list[tuple[str, Any]] = []
    for name, value in nested.items():
        key = f"{prefix}{name}"
        rows += flatten(value, f"{key}.") if isinstance(value, dict) else [(key, value)]
    return rows
