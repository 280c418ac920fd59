"""Overlap: threads prepare rows ahead, the caller's thread computes, one thread writes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from mmsim.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetched(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int
) -> Iterator[Result]:
    """Yield ``function(item)`` in order, computed by threads at most `ahead` items early."""
    source = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="prepare") as pool:
        waiting = deque(pool.submit(function, item) for item in islice(source, ahead))
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(source, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of `size` items, the last one possibly shorter."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


class BackgroundWriter:
    """Calls a function in one thread of its own, never more than two calls behind.

    Used as a context manager; a failure of the function is raised in the caller's thread.
    """

    def __init__(self, function: Callable[[Any], None]) -> None:
        self._function = function
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> BackgroundWriter:
        return self

    def __call__(self, item: Any) -> None:
        """Hand over one item; waits while two calls are under way."""
        self._waiting.append(self._pool.submit(self._function, item))
        self.wait(allowed=2)

    def wait(self, allowed: int = 0) -> None:
        """Wait until at most `allowed` calls are under way."""
        while len(self._waiting) > allowed:
            self._waiting.popleft().result()

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(wait=True)


@dataclass
class Timings:
    """Where the caller's thread spent its time, in seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of a block under `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def timed(self, items: Iterable[Item], name: str) -> Iterator[Item]:
        """Yield `items`, counting the time that each one is waited for under `name`."""
        source = iter(items)
        while True:
            with self.phase(name):
                item = next(source, None)
            if item is None:
                return
            yield item

    def summary(self, rows: int, unit: str) -> str:
        """Return one line: rate, share of each phase, and which is the bottleneck."""
        wall = time.perf_counter() - self.started
        shares = ", ".join(f"{name} {100 * s / wall:.0f} %" for name, s in self.seconds.items())
        bottleneck = max(self.seconds, key=lambda name: self.seconds[name])
        return (
            f"{rows / wall:,.1f} {unit}/s without loading the encoder; time spent waiting for: "
            f"{shares}. The bottleneck is {bottleneck}"
        )


@dataclass
class Pending:
    """Outputs on their way to the host: the device may still be computing them."""

    outputs: list[dict[str, torch.Tensor]]
    done: torch.cuda.Event | None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Wait for the device and return the outputs, put one after the other."""
        if self.done:
            self.done.synchronize()
        names = self.outputs[0] if self.outputs else ()
        return {
            name: np.concatenate([part[name].numpy() for part in self.outputs]) for name in names
        }


class Launcher:
    """Runs an encoder on a batch, in smaller pieces where memory does not suffice.

    Parameters
    ----------
    forward : callable
        Takes a piece of the batch; returns tensors with the piece's rows first.
    device : torch.device
        Where it computes.
    micro_batch : int
        Rows computed at a time; halved each time that the device's memory runs out.
    """

    def __init__(
        self,
        forward: Callable[[Any], dict[str, torch.Tensor]],
        device: torch.device,
        micro_batch: int,
    ) -> None:
        self.forward, self.device, self.micro_batch = forward, device, micro_batch

    def __call__(self, batch: Sequence[Any] | NDArray[Any]) -> Pending:
        """Start computing a batch; on a GPU this returns before the result is there.

        Raises
        ------
        UserError
            If not even a single row fits into memory.
        """
        outputs: list[dict[str, torch.Tensor]] = []
        start = 0
        while start < len(batch):
            piece = batch[start : start + self.micro_batch]
            try:
                result = self.forward(piece)
            except torch.OutOfMemoryError as error:
                if len(piece) == 1:
                    raise UserError(
                        f"one row does not fit into the memory of {self.device}; free some, or "
                        f"choose runtime.device: cpu"
                    ) from error
                self.micro_batch = len(piece) // 2
                print(f"{self.device} is out of memory: {self.micro_batch} rows at a time now")
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            non_blocking = self.device.type == "cuda"
            outputs.append({n: t.to("cpu", non_blocking=non_blocking) for n, t in result.items()})
            start += len(piece)
        done = None
        if self.device.type == "cuda":
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(self.device))
        return Pending(outputs, done)


def one_behind(
    launched: Iterable[tuple[Item, Pending]], timings: Timings
) -> Iterator[tuple[Item, dict[str, NDArray[Any]]]]:
    """Yield each batch's arrays after the next batch was started, so that a GPU never idles."""
    previous: tuple[Item, Pending] | None = None
    for current in launched:
        if previous:
            with timings.phase("the encoder"):
                arrays = previous[1].arrays()
            yield previous[0], arrays
        previous = current
    if previous:
        with timings.phase("the encoder"):
            arrays = previous[1].arrays()
        yield previous[0], arrays


def to_device(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Copy an array to the device; to a GPU from pinned memory, without waiting."""
    tensor = torch.from_numpy(values)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
