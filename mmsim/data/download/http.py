"""Fetches one file over HTTP: goes on after a break, waits where a server asks for it."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests
import urllib3

from mmsim import __version__
from mmsim.data.download.drive import confirmed_address, page_title
from mmsim.files import write_json
from mmsim.progress import track

USER_AGENT = f"mmsim/{__version__} (multimodal similarity research; python-requests)"
TIMEOUT_S = (10, 60)
ATTEMPTS = 5
LONGEST_WAIT_S = 300
CHUNK_BYTES = 2**18
PAGE_BYTES = 2**20
PARTIAL, RANGE_REFUSED = 206, 416
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


class FetchError(Exception):
    """An address did not give its file; `status` is the HTTP status, where there was one."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class _InterruptedError(FetchError):
    """A failure after which another attempt may succeed, `wait_s` later if the server said so."""

    def __init__(self, reason: str, status: int | None = None, wait_s: float | None = None) -> None:
        super().__init__(reason, status)
        self.wait_s = wait_s


@dataclass(frozen=True)
class _Started:
    """What is known of a file that has come in part; lies beside the part as JSON."""

    url: str
    validator: str | None
    total: int | None


def new_session() -> requests.Session:
    """Return a session that says who is asking, as Wikimedia's policy wants it."""
    session = requests.Session()
    session.headers["User-Agent"] = USER_AGENT
    return session


def fetch(
    session: requests.Session,
    url: str,
    target: Path,
    *,
    label: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Fetch `url` into `target`.

    Bytes go to ``<target>.part`` first. After a break, here or in an earlier run, only the
    rest is asked for; if the file has changed since, or the server sends no parts, it is
    fetched from its start. Broken transfers, 429 and server errors are tried again, after
    the time that the server names or 1, 2, 4, ... seconds; `ATTEMPTS` in a row without a new
    byte are the end.

    Parameters
    ----------
    session : requests.Session
        From `new_session`.
    url : str
        HTTP address. A confirmation page of Google Drive is followed.
    target : Path
        File to write; its folder exists.
    label : str, optional
        Shows progress in bytes under this name.
    sleep : callable
        Waits for a number of seconds.

    Raises
    ------
    FetchError
        If the file cannot be had from this address now; the message is the reason.
    """
    part = target.with_name(target.name + ".part")
    failures, furthest = 0, _size(part)
    while True:
        try:
            _transfer(session, url, part, label)
        except _InterruptedError as problem:
            failures = 1 if _size(part) > furthest else failures + 1
            furthest = max(furthest, _size(part))
            if failures >= ATTEMPTS:
                raise FetchError(f"{problem}, {ATTEMPTS} times", problem.status) from problem
            wait_s = 2.0 ** (failures - 1) if problem.wait_s is None else problem.wait_s
            if wait_s > LONGEST_WAIT_S:
                reason = f"{problem}; it asks to be left alone for {wait_s:,.0f} s"
                raise FetchError(reason, problem.status) from problem
            print(f"{url}: {problem}; trying again in {wait_s:,.0f} s", flush=True)
            sleep(wait_s)
        else:
            break
    os.replace(part, target)
    _notes(part).unlink()


def _transfer(session: requests.Session, url: str, part: Path, label: str | None) -> None:
    """Bring `part` to its full length, or raise with what has come so far kept."""
    started = _read_notes(part, url)
    have = _size(part) if started else 0
    if started and have and have == started.total:
        return
    headers = {"Accept-Encoding": "identity"}
    if started and have:
        headers["Range"] = f"bytes={have}-"
        if started.validator:
            headers["If-Range"] = started.validator
    with _open(session, url, headers) as response:
        if response.status_code == RANGE_REFUSED or (
            response.status_code == PARTIAL and started and not _continues(response, have, started)
        ):
            part.unlink(missing_ok=True)
            raise _InterruptedError("the file has changed since its first part came")
        if response.status_code == PARTIAL and started:
            total = started.total
        else:
            have = 0
            total = _content_length(response)
            # Empty the part before noting what it is now a part of: a kill between the two
            # must not leave old bytes under new notes.
            part.write_bytes(b"")
            write_json(_notes(part), asdict(_Started(url, _validator(response), total)))
        _append(response, part, have, total, label)
    if total is not None and _size(part) != total:
        if _size(part) > total:
            part.unlink()
        raise _InterruptedError(f"the transfer broke off at {_size(part):,} of {total:,} bytes")


def _append(
    response: requests.Response, part: Path, have: int, total: int | None, label: str | None
) -> None:
    try:
        with part.open("ab") as file, track(label, total, "B") if label else nullcontext() as shown:
            if shown and have:
                shown.advance(have, note="(resumed)")
            for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
                file.write(chunk)
                if shown:
                    shown.advance(len(chunk))
    except urllib3.exceptions.HTTPError as error:
        if total is None:  # else the length says it
            raise _InterruptedError("the transfer broke off") from error


def _open(session: requests.Session, url: str, headers: dict[str, str]) -> requests.Response:
    """Ask for a file, and go through a confirmation page if one comes in its place."""
    response = _get(session, url, headers)
    for _ in range(2):
        is_page = response.headers.get("Content-Type", "").startswith("text/html")
        if not is_page or response.status_code == RANGE_REFUSED:
            return response
        with response:
            page = response.raw.read(PAGE_BYTES, decode_content=True).decode(errors="replace")
        confirmed = confirmed_address(page, response.url)
        if confirmed is None:
            break
        response = _get(session, confirmed, headers)
    raise FetchError(f'a web page came in place of the file: "{page_title(page)}"')


def _get(session: requests.Session, url: str, headers: dict[str, str]) -> requests.Response:
    try:
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _InterruptedError(f"no connection ({type(error).__name__})") from error
    except requests.RequestException as error:
        raise FetchError(str(error)) from error
    status = response.status_code
    if status < requests.codes.bad_request or status == RANGE_REFUSED:
        return response
    response.close()
    reason = f"{status} {response.reason}"
    if status in TRANSIENT:
        raise _InterruptedError(reason, status, _wait_asked_for(response))
    raise FetchError(reason, status)


def _wait_asked_for(response: requests.Response) -> float | None:
    """Return the seconds that ``Retry-After`` names, as a number or as a date (always GMT)."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (until.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds())


def _content_length(response: requests.Response) -> int | None:
    value = response.headers.get("Content-Length", "")
    return int(value) if value.isdigit() else None


def _validator(response: requests.Response) -> str | None:
    """Return what ``If-Range`` may carry: a strong ETag, else the date of the last change."""
    etag: str = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    modified: str | None = response.headers.get("Last-Modified")
    return modified


def _continues(response: requests.Response, have: int, started: _Started) -> bool:
    match = re.fullmatch(
        r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip()
    )
    return match is not None and int(match[1]) == have and match[2] in ("*", str(started.total))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _notes(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_notes(part: Path, url: str) -> _Started | None:
    """Return the notes beside `part`, or None if it cannot be gone on with from `url`."""
    try:
        started = _Started(**json.loads(_notes(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    usable = started.validator is not None or started.total is not None
    return started if usable and started.url == url else None
