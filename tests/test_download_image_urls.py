"""Fetching images one by one from their own addresses."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import FileServer, Served, running_server

from mmsim.data.download.image_urls import (
    CONNECTIONS,
    FAILURES_IN_A_ROW,
    RequestRate,
    fetch_images,
    rendered_address,
)
from mmsim.data.filenames import image_file_name
from mmsim.errors import UserError


@pytest.fixture
def server() -> Iterator[FileServer]:
    with running_server() as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMSIM_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache/downloads"


@pytest.fixture
def rate() -> RequestRate:
    return RequestRate(1e6, sleep=lambda _: None)


def failures(cache: Path) -> dict[str, dict[str, object]]:
    return json.loads((cache / "image_failures.json").read_text())


def test_images_come_under_the_releases_names_each_address_once(server, cache, tmp_path, rate):
    server.files["a/One.JPG"] = Served(b"one")
    server.files["b/Two.png"] = Served(b"two")
    urls = [server.url("a/One.JPG"), server.url("b/Two.png"), server.url("a/One.JPG")]
    outcomes = fetch_images(urls, tmp_path / "images", 2, rate)
    assert outcomes == {"there": 2}
    assert len(server.requests) == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "images").iterdir()} == {
        image_file_name(urls[0]): b"one",
        image_file_name(urls[1]): b"two",
    }


def test_finished_images_are_not_fetched_again(server, cache, tmp_path, rate):
    server.files["a.jpg"] = Served(b"one")
    for folder in ("first", "second"):
        fetch_images([server.url("a.jpg")], tmp_path / folder, 1, rate)
    assert len(server.requests) == 1
    assert (tmp_path / "second" / image_file_name("/a.jpg")).read_bytes() == b"one"


@pytest.mark.parametrize("status", [404, 410])
def test_an_image_that_is_gone_is_recorded_and_not_asked_for_again(
    server, cache, tmp_path, rate, status, capsys
):
    server.files["a.jpg"] = Served(b"back", failures=[(status, {})])
    url = server.url("a.jpg")
    for _ in range(2):
        outcomes = fetch_images([url], tmp_path / "images", 1, rate)
    assert len(server.requests) == 1
    record = failures(cache)[image_file_name(url)]
    assert (record["url"], record["status"]) == (url, status)
    assert sum(outcomes.values()) == 1
    assert f"images: 1 of 1: {record['reason']}" in capsys.readouterr().out


def test_a_forbidden_image_is_recorded_and_asked_for_by_the_next_run(server, cache, tmp_path, rate):
    server.files["a.jpg"] = Served(b"one", failures=[(403, {})])
    urls = [server.url("a.jpg")]
    assert fetch_images(urls, tmp_path / "images", 1, rate) == {"403 Forbidden": 1}
    assert fetch_images(urls, tmp_path / "images", 1, rate) == {"there": 1}
    assert failures(cache) == {}


def test_too_many_requests_are_waited_out(server, cache, tmp_path):
    slept: list[float] = []
    server.files["a.jpg"] = Served(b"one", failures=[(429, {"Retry-After": "9"})])
    rate = RequestRate(1e6, sleep=slept.append)
    assert fetch_images([server.url("a.jpg")], tmp_path / "images", 1, rate) == {"there": 1}
    assert max(slept) == pytest.approx(9, abs=1)


def test_when_one_connection_is_asked_to_wait_all_wait():
    slept: list[float] = []
    rate = RequestRate(1e6, sleep=slept.append)
    rate.pause(100)
    other = threading.Thread(target=rate.wait)
    other.start()
    other.join()
    assert slept == [pytest.approx(100, abs=5), pytest.approx(100, abs=5)]


def test_requests_are_spread_over_time():
    slept: list[float] = []
    rate = RequestRate(per_second=0.01, sleep=slept.append)
    for _ in range(4):
        rate.wait()
    assert slept == [pytest.approx(100 * turn, abs=5) for turn in (1, 2, 3)]


def test_no_more_connections_than_polite_are_open(server, cache, tmp_path, rate, monkeypatch):
    now, most, lock = 0, 0, threading.Lock()

    def count(session: object, url: str, target: Path, **_: object) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.005)
        target.write_bytes(b"x")
        with lock:
            now -= 1

    monkeypatch.setattr("mmsim.data.download.image_urls.fetch", count)
    fetch_images([f"http://example.org/{n}.jpg" for n in range(40)], tmp_path / "images", 99, rate)
    assert most == CONNECTIONS


def test_a_dead_network_ends_the_run_and_keeps_what_is_finished(server, cache, tmp_path, rate):
    server.files["0.jpg"] = Served(b"one")
    gone = [server.url(f"{n}.jpg") for n in range(1, 4)]
    refused = [server.url(f"x{n}.jpg") for n in range(FAILURES_IN_A_ROW + 5)]
    for n in range(len(refused)):
        server.files[f"x{n}.jpg"] = Served(failures=[(403, {})])
    with pytest.raises(UserError, match=f"{FAILURES_IN_A_ROW} images in a row"):
        fetch_images([server.url("0.jpg"), *gone, *refused], tmp_path / "images", 1, rate)
    assert len(server.requests) < 1 + len(gone) + len(refused)
    assert (cache / "images" / image_file_name("/0.jpg")).exists()
    assert len(failures(cache)) == len(gone) + FAILURES_IN_A_ROW


def test_a_name_that_no_file_can_have_is_counted(server, cache, tmp_path, rate):
    outcomes = fetch_images([server.url("%C3%A9" * 50 + ".gif")], tmp_path / "images", 1, rate)
    assert outcomes == {"name too long for a file": 1}
    assert server.requests == []


def test_an_image_that_breaks_off_is_completed(server, cache, tmp_path, rate):
    server.files["a.jpg"] = Served(b"0123456789" * 1000, break_after=[4000])
    fetch_images([server.url("a.jpg")], tmp_path / "images", 1, rate)
    assert [request.sent for request in server.requests] == [4000, 6000]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "https://upload.wikimedia.org/wikipedia/commons/a/ab/Flag_of_X.svg",
            "https://upload.wikimedia.org/wikipedia/commons/thumb/a/ab/Flag_of_X.svg"
            "/500px-Flag_of_X.svg.png",
        ),
        (
            "https://upload.wikimedia.org/wikipedia/en/0/1f/L%C3%A9o.SVG",
            "https://upload.wikimedia.org/wikipedia/en/thumb/0/1f/L%C3%A9o.SVG/500px-L%C3%A9o.SVG.png",
        ),
    ],
)
def test_a_drawing_on_wikimedia_is_fetched_as_rendered(url, expected):
    assert rendered_address(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "https://upload.wikimedia.org/wikipedia/commons/a/ab/Photo.jpg",
        "https://example.org/a/ab/Flag.svg",
        "https://upload.wikimedia.org/wikipedia/commons/thumb/a/ab/F.svg/500px-F.svg.png",
    ],
)
def test_other_addresses_are_fetched_as_they_are(url):
    assert rendered_address(url) == url
