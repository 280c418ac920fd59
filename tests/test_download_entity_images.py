"""One image for each entity, from the release's own list of addresses."""

import pytest
from file_server import Served, running_server
from world import write_mentions

from mmsim.data.download.entity_images import entity_titles, fetch_entity_images
from mmsim.data.download.image_urls import RequestRate
from mmsim.data.filenames import image_file_name
from mmsim.errors import UserError


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("MMSIM_CACHE_DIR", str(tmp_path / "cache"))
    with running_server() as running:
        yield running


@pytest.fixture
def raw(tmp_path):
    records = [
        ("Paris in spring", "a", "Paris", "Paris", ["Paris, Texas"]),
        ("A lake near Rome", "b", "lake", None, ["Lake Nemi"]),
    ]
    return write_mentions(tmp_path / "raw", train=records)


def listed(raw, *lines):
    text = "".join(f"{line}\n" for line in ("entity@@@@imgs", *lines))
    (raw / "wikipedia_entity2imgs.tsv").write_text(text, encoding="utf-8")


def fetch(raw):
    return fetch_entity_images(raw, 2, RequestRate(1e6, sleep=lambda _: None))


def test_golds_and_candidates_are_wanted_nil_is_no_entity(raw):
    assert entity_titles(raw) == {"Paris", "Paris, Texas", "Lake Nemi"}


def test_the_first_image_of_each_entity_comes_under_the_releases_name(server, raw):
    one, two, other = (server.url(f"{name}.jpg") for name in ("one", "two", "other"))
    listed(raw, f"Paris@@@@{one}[AND]{two}", f"Lake_Nemi@@@@{two}", f"Oslo@@@@{other}")
    server.files |= {"one.jpg": Served(b"one"), "two.jpg": Served(b"two")}
    assert fetch(raw) == {"there": 2}
    assert {path.name: path.read_bytes() for path in (raw / "wikinewsImgs").iterdir()} == {
        image_file_name(one): b"one",
        image_file_name(two): b"two",
    }
    assert not server.of("other.jpg")


def test_an_image_that_is_there_is_not_fetched_and_one_that_is_gone_is_counted(server, raw):
    here, gone = server.url("here.jpg"), server.url("gone.jpg")
    listed(raw, f"Paris@@@@{here}", f"Paris, Texas@@@@{gone}")
    (raw / "wikinewsImgs").mkdir()
    (raw / "wikinewsImgs" / image_file_name(here)).write_bytes(b"mine")
    server.files["gone.jpg"] = Served(failures=[(404, {})] * 9)
    outcomes = fetch(raw)
    assert sum(outcomes.values()) == 1
    assert outcomes["there"] == 0
    assert (raw / "wikinewsImgs" / image_file_name(here)).read_bytes() == b"mine"
    assert not server.of("here.jpg")


def test_a_release_without_the_list_is_refused(server, raw):
    with pytest.raises(UserError, match=r"data\.entity_images is true, but the release has no"):
        fetch(raw)


def test_a_list_of_other_entities_is_refused(server, raw):
    listed(raw, "Oslo@@@@https://example.org/1.jpg")
    with pytest.raises(UserError, match="names no image of any of the 3 entities"):
        fetch(raw)
