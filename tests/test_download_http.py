"""Fetching one file over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from file_server import FileServer, Served, running_server

from mmsim.data.download.http import (
    ATTEMPTS,
    LONGEST_WAIT_S,
    USER_AGENT,
    FetchError,
    fetch,
    new_session,
)

CONTENT = bytes(range(256)) * 400


class Naps(list[float]):
    """Stands in for sleeping: notes how long, and takes no time."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with running_server() as running:
        yield running


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "file.zip"


def get(server: FileServer, target: Path, naps: Naps, path: str = "file.zip") -> None:
    with new_session() as session:
        fetch(session, server.url(path), target, label="file.zip", sleep=naps)


def test_a_file_comes_whole_and_leaves_nothing_else(server, target, naps):
    server.files["file.zip"] = Served(CONTENT)
    get(server, target, naps)
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


def test_every_request_says_who_asks(server, target, naps):
    server.files["file.zip"] = Served(CONTENT)
    get(server, target, naps)
    assert server.requests[0].headers["User-Agent"] == USER_AGENT


def test_a_redirect_is_followed(server, target, naps):
    server.files["file.zip"] = Served(redirect="/elsewhere.zip")
    server.files["elsewhere.zip"] = Served(CONTENT)
    get(server, target, naps)
    assert target.read_bytes() == CONTENT


def test_after_breaks_only_the_rest_is_asked_for(server, target, naps):
    server.files["file.zip"] = Served(CONTENT, break_after=[30_000, 40_000])
    get(server, target, naps)
    assert target.read_bytes() == CONTENT
    assert [request.headers.get("Range") for request in server.requests] == [
        None,
        "bytes=30000-",
        "bytes=70000-",
    ]
    assert sum(request.sent for request in server.requests) == len(CONTENT)


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(server, target, naps):
    # One useful answer, then nothing but empty ones: the first run gives up.
    server.files["file.zip"] = Served(CONTENT, break_after=[50_000] + [0] * (ATTEMPTS - 1))
    with pytest.raises(FetchError, match=f"50,000 of 102,400 bytes, {ATTEMPTS} times"):
        get(server, target, naps)
    assert not target.exists()
    get(server, target, naps)
    assert target.read_bytes() == CONTENT
    assert server.requests[-1].status == 206
    assert server.requests[-1].sent == len(CONTENT) - 50_000


def test_breaks_do_not_count_as_long_as_bytes_come(server, target, naps):
    server.files["file.zip"] = Served(CONTENT, break_after=[5_000] * (3 * ATTEMPTS))
    get(server, target, naps)
    assert target.read_bytes() == CONTENT


def test_a_server_that_ignores_range_sends_the_file_again(server, target, naps):
    server.files["file.zip"] = Served(CONTENT, break_after=[30_000], accepts_ranges=False)
    get(server, target, naps)
    assert target.read_bytes() == CONTENT
    assert server.requests[1].headers["Range"] == "bytes=30000-"
    assert [request.sent for request in server.requests] == [30_000, len(CONTENT)]


@pytest.mark.parametrize("etag", ['"first"', None])
def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(server, target, naps, etag):
    server.files["file.zip"] = Served(CONTENT, etag, break_after=[30_000] + [0] * (ATTEMPTS - 1))
    with pytest.raises(FetchError):
        get(server, target, naps)
    changed = CONTENT[::-1] if etag else CONTENT[:-10][::-1]  # without an ETag, the size tells
    server.files["file.zip"] = Served(changed, '"second"' if etag else None)
    get(server, target, naps)
    assert target.read_bytes() == changed


def test_a_part_longer_than_the_changed_file_is_dropped(server, target, naps):
    server.files["file.zip"] = Served(CONTENT, None, break_after=[30_000] + [0] * (ATTEMPTS - 1))
    with pytest.raises(FetchError):
        get(server, target, naps)
    server.files["file.zip"] = Served(b"short", None)
    get(server, target, naps)
    assert target.read_bytes() == b"short"
    assert 416 in [request.status for request in server.requests]


def test_a_part_of_another_address_is_not_gone_on_with(server, target, naps):
    server.files["file.zip"] = Served(CONTENT, None, break_after=[30_000] + [0] * (ATTEMPTS - 1))
    with pytest.raises(FetchError):
        get(server, target, naps)
    other = CONTENT[::-1]
    server.files["other.zip"] = Served(other, None)
    get(server, target, naps, "other.zip")
    assert target.read_bytes() == other


def test_a_part_that_is_whole_already_is_not_fetched_again(server, target, naps):
    server.files["file.zip"] = Served(CONTENT, break_after=[30_000] + [0] * (ATTEMPTS - 1))
    with pytest.raises(FetchError):
        get(server, target, naps)
    target.with_name("file.zip.part").write_bytes(CONTENT)
    asked = len(server.requests)
    get(server, target, naps)
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == asked


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_is_waited_for_and_said(server, target, naps, status, capsys):
    server.files["file.zip"] = Served(CONTENT, failures=[(status, {"Retry-After": "7"})])
    get(server, target, naps)
    assert naps == [7.0]
    assert "trying again in 7 s" in capsys.readouterr().out
    assert target.read_bytes() == CONTENT


def test_retry_after_as_a_date_is_waited_for(server, target, naps):
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=120), usegmt=True)
    server.files["file.zip"] = Served(CONTENT, failures=[(429, {"Retry-After": until})])
    get(server, target, naps)
    assert len(naps) == 1
    assert 60 < naps[0] <= 120


def test_a_server_that_asks_for_too_long_a_wait_is_left_alone(server, target, naps):
    wait = f"{LONGEST_WAIT_S + 1}"
    server.files["file.zip"] = Served(CONTENT, failures=[(429, {"Retry-After": wait})])
    with pytest.raises(FetchError, match="left alone for 301 s"):
        get(server, target, naps)
    assert naps == []
    assert len(server.requests) == 1


def test_server_errors_are_tried_again_ever_later_and_then_given_up(server, target, naps):
    server.files["file.zip"] = Served(CONTENT, failures=[(500, {})] * ATTEMPTS)
    with pytest.raises(FetchError, match="500 Internal Server Error, 5 times") as caught:
        get(server, target, naps)
    assert caught.value.status == 500
    assert naps == [1, 2, 4, 8]


def test_no_connection_is_tried_again_and_then_given_up(tmp_path, target, naps):
    with new_session() as session, pytest.raises(FetchError, match="no connection"):
        fetch(session, "http://127.0.0.1:9/file.zip", target, sleep=naps)
    assert len(naps) == ATTEMPTS - 1


def test_what_is_not_there_fails_at_once_with_its_status(server, target, naps):
    with pytest.raises(FetchError, match="404 Not Found") as caught:
        get(server, target, naps)
    assert caught.value.status == 404
    assert len(server.requests) == 1


def test_drives_confirmation_form_is_followed_also_when_resuming(server, target, naps):
    server.drive_file("abc", content=CONTENT, confirm_form=True, break_after=[30_000])
    get(server, target, naps, "download?id=abc")
    assert target.read_bytes() == CONTENT
    assert server.requests[-1].status == 206


def test_a_web_page_in_place_of_the_file_is_refused_by_its_title(server, target, naps):
    quota = "<html><head><title>Google Drive - Quota exceeded</title></head><body/></html>"
    server.files["file.zip"] = Served(page=quota)
    with pytest.raises(FetchError, match="Google Drive - Quota exceeded"):
        get(server, target, naps)
    assert not target.exists()
