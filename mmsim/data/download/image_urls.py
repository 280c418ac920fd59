"""Fetches images one by one from the addresses in the captions, politely."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import requests

from mmsim.data.download.http import FetchError, fetch, new_session
from mmsim.data.filenames import image_file_name
from mmsim.errors import UserError
from mmsim.files import link_or_copy, write_json
from mmsim.paths import cache_dir
from mmsim.progress import track

CONNECTIONS = 4
REQUESTS_PER_SECOND = 5.0
GONE = frozenset({404, 410})
LONGEST_NAME = 220  # file systems allow 255 bytes, and a file under way has a longer name
FAILURES_IN_A_ROW = 20

# Wikimedia renders drawings at a few fixed widths and refuses others:
# https://www.mediawiki.org/wiki/Common_thumbnail_sizes
THUMBNAIL_WIDTH = 500
_WIKIMEDIA_SVG = re.compile(
    r"(https?://upload\.wikimedia\.org/wikipedia/[^/]+)/(\w/\w\w)/([^/?#]+\.svg)", re.IGNORECASE
)


class RequestRate:
    """Lets the threads that share it make so many requests a second and no more."""

    def __init__(
        self, per_second: float = REQUESTS_PER_SECOND, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._interval_s = 1 / per_second
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Return when this thread may make its next request."""
        with self._lock:
            now = time.monotonic()
            turn = max(self._next, now)
            self._next = turn + self._interval_s
        if turn > now:
            self._sleep(turn - now)

    def pause(self, seconds: float) -> None:
        """Keep every thread from its next request for so long: one was asked to wait."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)
        self.wait()


def rendered_address(url: str) -> str:
    """Return where Wikimedia serves an SVG drawing as PNG; other addresses as they are."""
    match = _WIKIMEDIA_SVG.fullmatch(url)
    if match is None:
        return url
    project, folders, name = match.groups()
    return f"{project}/thumb/{folders}/{name}/{THUMBNAIL_WIDTH}px-{name}.png"


def fetch_images(
    urls: Iterable[str], folder: Path, workers: int, rate: RequestRate | None = None
) -> Counter[str]:
    """Fetch the image of each address into `folder`, under the release's file name.

    Finished images stay in the cache and are not fetched again. Failures are recorded there,
    in ``image_failures.json``, and tried again by the next run, unless the image is gone for
    good (404, 410). A missing image is no error: preparation counts it.

    Parameters
    ----------
    urls : iterable of str
        Addresses, repeated or not.
    folder : Path
        Where the images go; made.
    workers : int
        Connections at a time; more than `CONNECTIONS` are not made.
    rate : RequestRate, optional
        Shared by all connections.

    Returns
    -------
    Counter
        Images by outcome: ``"there"``, or the reason why one is missing.

    Raises
    ------
    UserError
        If `FAILURES_IN_A_ROW` images in a row fail for another reason than being gone.
    """
    rate = rate or RequestRate()
    store = cache_dir("downloads") / "images"
    store.mkdir(exist_ok=True)
    record = store.with_name("image_failures.json")
    failures: dict[str, dict[str, Any]] = (
        json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    )
    addresses = {image_file_name(url): url for url in urls}
    nameable = {name: url for name, url in addresses.items() if len(name) <= LONGEST_NAME}
    wanted = {
        name: url
        for name, url in nameable.items()
        if not (store / name).exists() and failures.get(name, {}).get("status") not in GONE
    }
    try:
        _fetch_all(wanted, store, failures, min(workers, CONNECTIONS), rate)
    finally:
        write_json(record, failures)
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = Counter({"name too long for a file": len(addresses) - len(nameable)})
    for name in nameable:
        if (store / name).exists():
            link_or_copy(store / name, folder / name)
            outcomes["there"] += 1
        else:
            outcomes[failures[name]["reason"]] += 1
    outcomes = +outcomes
    for outcome, number in outcomes.most_common():
        print(f"images: {number:,} of {len(addresses):,}: {outcome}")
    return outcomes


def _fetch_all(
    wanted: dict[str, str],
    store: Path,
    failures: dict[str, dict[str, Any]],
    connections: int,
    rate: RequestRate,
) -> None:
    """Fetch the images `wanted` (name to address), and keep `failures` up to date."""
    in_a_row = 0
    with new_session() as session, track("images", len(wanted), "images") as progress:
        pool = ThreadPoolExecutor(connections)
        try:
            futures = {
                pool.submit(_fetch_one, session, url, store / name, rate): name
                for name, url in wanted.items()
            }
            for future in as_completed(futures):
                name, error = futures[future], future.result()
                failures.pop(name, None)
                if error is not None:
                    failures[name] = {
                        "url": wanted[name],
                        "status": error.status,
                        "reason": str(error),
                    }
                in_a_row = 0 if error is None or error.status in GONE else in_a_row + 1
                if in_a_row >= FAILURES_IN_A_ROW:
                    raise UserError(
                        f"{in_a_row} images in a row could not be fetched, the last {wanted[name]} "
                        f"({error}); check the network and run again: finished images are kept"
                    )
                progress.advance()
        finally:
            pool.shutdown(cancel_futures=True)


def _fetch_one(
    session: requests.Session, url: str, target: Path, rate: RequestRate
) -> FetchError | None:
    rate.wait()
    try:
        fetch(session, rendered_address(url), target, sleep=rate.pause)
    except FetchError as error:
        return error
    return None
