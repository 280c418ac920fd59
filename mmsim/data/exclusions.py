"""Counts of what was left out or mended, by reason and split."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from mmsim.data.release import SPLITS

Counts = dict[str, Counter[str]]


@dataclass
class Tally:
    """Counts of records: kept by split, left out and mended by reason and split.

    `images` counts image files by status.
    """

    excluded: Counts = field(default_factory=lambda: defaultdict(Counter))
    mended: Counts = field(default_factory=lambda: defaultdict(Counter))
    kept: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)

    @property
    def total_excluded(self) -> int:
        """Records left out for any reason."""
        return sum(by_split.total() for by_split in self.excluded.values())

    def as_json(self) -> dict[str, Any]:
        """Return the counts as nested dictionaries: reason, split, number."""
        return {
            "kept": dict(self.kept),
            "excluded": {reason: dict(by_split) for reason, by_split in self.excluded.items()},
            "mended": {reason: dict(by_split) for reason, by_split in self.mended.items()},
            "images": dict(self.images),
        }

    def as_table(self) -> str:
        """Return the counts as plain text: a row for a reason, a column for a split."""
        rows = [["", "", *SPLITS, "all"], ["kept", "", *_figures(self.kept)]]
        for heading, counts in (("left out", self.excluded), ("mended", self.mended)):
            rows += [
                [heading, reason, *_figures(by_split)]
                for reason, by_split in sorted(counts.items())
                if by_split.total()
            ]
        rows += [
            ["images", status, *[""] * len(SPLITS), f"{number}"]
            for status, number in sorted(self.images.items())
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = (
            "  ".join(
                cell.ljust(width) if column < 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        )
        return "\n".join(line.rstrip() for line in lines) + "\n"


def _figures(by_split: Counter[str]) -> list[str]:
    return [str(by_split[split]) for split in SPLITS] + [str(by_split.total())]
