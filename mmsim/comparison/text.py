"""Comparisons as text that a person can read."""

from __future__ import annotations

from mmsim.comparison.compare import HEADLINES, Comparison
from mmsim.comparison.paired import Difference
from mmsim.reporting.table import columns

LEVEL = 0.05


def comparison_text(comparison: Comparison) -> str:
    """Return one table: figure, A, B, difference, interval, p, p after Holm, what could be seen."""
    a, b = comparison.first, comparison.other
    rows = [("figure", a, b, "difference", "95 % interval", "p", "p (Holm)", "detectable")]
    for name, found in comparison.differences.items():
        rows.append(
            (
                name,
                _with_spread(found.a, found.a_std),
                _with_spread(found.b, found.b_std),
                f"{found.difference:+.4f}",
                f"[{found.low:+.4f}, {found.high:+.4f}]",
                f"{found.p:.3f}",
                f"{comparison.adjusted[name]:.3f}",
                f"{found.detectable:.4f}",
            )
        )
    seeds = " and ".join(str(number) for number in comparison.seeds)
    others = ", ".join(f"{name} p {p:.3f}" for name, p in comparison.secondary.items())
    lines = [
        f"{b} against {a}: {comparison.count:,} test {comparison.unit} of "
        f"{comparison.clusters:,} entities, {seeds} seeds",
        columns(rows),
        f"secondary, which take {comparison.unit} as independent or leave seeds out: {others}",
        _verdict(comparison),
    ]
    if 1 in comparison.seeds:
        lines.append("one seed says nothing of other seeds: train.seeds takes a list")
    return "\n".join(lines)


def _with_spread(value: float, spread: float | None) -> str:
    return f"{value:.4f}" + ("" if spread is None else f" ± {spread:.4f}")


def _verdict(comparison: Comparison) -> str:
    a, b = comparison.first, comparison.other
    key, name = HEADLINES[comparison.unit]
    found = comparison.differences[key]
    if comparison.adjusted[key] < LEVEL:
        return f"{name}: {b} is {'above' if found.difference > 0 else 'below'} {a}"
    return (
        f"{name}: no difference is shown; one of {found.detectable:.3f} would have been found four "
        f"times in five" + _leaning(found)
    )


def _leaning(found: Difference) -> str:
    return (
        "; it would have been without the correction for several figures" if found.p < LEVEL else ""
    )
