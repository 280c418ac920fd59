"""Progress of long work: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

PLAIN_INTERVAL_S = 10.0


class Progress(ABC):
    """Counts work done; made by `track`."""

    def __init__(self, label: str, total: float | None, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0.0
        self.started = time.monotonic()

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Add `amount` units of finished work; `note` is shown behind the figures."""
        self.done += amount
        self._show(note)

    @abstractmethod
    def _show(self, note: str) -> None: ...

    def figure(self, amount: float) -> str:
        """Return `amount` without its unit: bytes are told in MB."""
        return f"{amount / 1e6:,.1f}" if self.unit == "B" else f"{amount:,.0f}"

    def describe(self, amount: float) -> str:
        """Return `amount` with its unit."""
        return f"{self.figure(amount)} {'MB' if self.unit == 'B' else self.unit}"


class PlainProgress(Progress):
    """One line every ten seconds, for logs."""

    last = 0.0

    def _show(self, note: str) -> None:
        now = time.monotonic()
        if now - self.last < PLAIN_INTERVAL_S:
            return
        self.last = now
        rate = self.done / max(now - self.started, 1e-9)
        line = f"{self.label}: {self.describe(self.done)}"
        if self.total:
            left = (self.total - self.done) / max(rate, 1e-9)
            of_all = f"{self.figure(self.done)} of {self.describe(self.total)}"
            line = f"{self.label}: {of_all}, {left:,.0f} s left"
        print(f"{line}, {self.describe(rate)}/s {note}".rstrip(), flush=True)


class RichProgress(Progress):
    """A live bar with an estimate of the time left."""

    def __init__(self, label: str, total: float | None, unit: str) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as RichBar

        super().__init__(label, total, unit)
        counts = (
            [DownloadColumn(), TransferSpeedColumn()] if unit == "B" else [MofNCompleteColumn()]
        )
        self.bar = RichBar(
            TextColumn("{task.description}"),
            BarColumn(),
            *counts,
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self.task = self.bar.add_task(label, total=total, note="")

    def _show(self, note: str) -> None:
        self.bar.update(self.task, completed=self.done, note=note)


@contextmanager
def track(label: str, total: float | None = None, unit: str = "rows") -> Iterator[Progress]:
    """Show the progress of one piece of work.

    Parameters
    ----------
    label : str
        What is being done.
    total : float, optional
        Units of work in all, where known: the time left is estimated from it.
    unit : str
        Name of one unit of work; ``"B"`` for bytes.

    Yields
    ------
    Progress
        Call ``advance`` on it as work is done.
    """
    if sys.stdout.isatty():
        progress = RichProgress(label, total, unit)
        with progress.bar:
            yield progress
        return
    plain = PlainProgress(label, total, unit)
    plain.last = plain.started
    yield plain
    seconds = time.monotonic() - plain.started
    print(f"{label}: {plain.describe(plain.done)} in {seconds:,.1f} s", flush=True)
