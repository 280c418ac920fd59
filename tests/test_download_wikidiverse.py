"""Fetching the public archives, from mirrors, Drive or the user's hand."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from file_server import FileServer, Served, running_server
from filelock import FileLock

from mmsim.data.download.wikidiverse import (
    ENTITY_DESCRIPTIONS,
    ENTITY_IMAGE_LIST,
    IMAGES,
    MENTIONS,
    PASSAGES,
    Artefact,
    fetch_artefact,
    fetch_release,
)
from mmsim.data.filenames import image_file_name
from mmsim.errors import UserError

SPLITS = ("train", "valid", "test")
PASSAGE_FILES = {f"{split}.json": b"[]" for split in SPLITS}
QUOTA = "<html><head><title>Google Drive - Quota exceeded</title></head></html>"


def zipped(files: dict[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return memory.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return memory.getvalue()


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


@pytest.fixture
def server() -> Iterator[FileServer]:
    with running_server() as running:
        yield running


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MMSIM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("MMSIM_MIRRORS", raising=False)
    folder = tmp_path / "cache/downloads"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def get(server: FileServer, artefact: Artefact, raw: Path) -> None:
    fetch_artefact(artefact, raw, server.url("download"), sleep=lambda _: None)


def serve_texts(server: FileServer, url: str) -> None:
    passage = json.dumps([["A caption.", url, "sports", []]]).encode()
    server.drive_file(
        PASSAGES.drive_id, content=zipped({f"V2/{name}": passage for name in PASSAGE_FILES})
    )
    server.drive_file(
        MENTIONS.drive_id, content=tarred({f"w/{split}_w_10cands.json": b"[]" for split in SPLITS})
    )
    server.drive_file(ENTITY_DESCRIPTIONS.drive_id, content=b"A@@@@Text.\n")


def test_the_whole_release_comes_from_drive(server, downloads, raw):
    serve_texts(server, "https://example.org/a.jpg")
    server.drive_file(IMAGES.drive_id, content=tarred({"x/y/0123.jpg": b"jpeg"}), confirm_form=True)
    fetch_release(raw, "archive", 2, server.url("download"), sleep=lambda _: None)
    assert set(contents(raw)) == {
        *(f"wikidiverse/{split}.json" for split in SPLITS),
        *(f"wikidiverse_w_cands/{split}_w_10cands.json" for split in SPLITS),
        "wikipedia_entity2desc_filtered.tsv",
        "wikinewsImgs/0123.jpg",
    }


def test_images_may_come_from_their_own_addresses_instead(server, downloads, raw):
    url = server.url("a.jpg")
    serve_texts(server, url)
    server.files["a.jpg"] = Served(b"jpeg")
    fetch_release(raw, "urls", 2, server.url("download"), sleep=lambda _: None)
    assert (raw / "wikinewsImgs" / image_file_name(url)).read_bytes() == b"jpeg"
    assert not [request for request in server.requests if IMAGES.drive_id in request.path]


def test_the_list_of_entities_images_comes_only_when_asked_for(server, downloads, raw):
    serve_texts(server, "https://example.org/a.jpg")
    server.drive_file(IMAGES.drive_id, content=tarred({"0123.jpg": b"jpeg"}))
    lines = b"entity@@@@imgs\nA@@@@https://example.org/1.jpg[AND]https://example.org/2.jpg\n"
    server.drive_file(ENTITY_IMAGE_LIST.drive_id, content=lines)
    fetch_release(raw, "archive", 2, server.url("download"), lambda _: None)
    assert "wikipedia_entity2imgs.tsv" not in contents(raw)
    fetch_release(raw, "archive", 2, server.url("download"), lambda _: None, entity_images=True)
    assert contents(raw)["wikipedia_entity2imgs.tsv"] == lines


@pytest.mark.parametrize("prefix", ["", "wikidiverse/", "a/b/c/"])
def test_files_are_found_however_deep_they_lie(server, downloads, raw, prefix):
    files = {f"{prefix}{name}": text for name, text in PASSAGE_FILES.items()}
    junk = {f"__MACOSX/{prefix}train.json": b"junk", f"{prefix}._train.json": b"junk"}
    server.drive_file(PASSAGES.drive_id, content=zipped({**files, **junk}))
    get(server, PASSAGES, raw)
    assert contents(raw) == {f"wikidiverse/{name}": text for name, text in PASSAGE_FILES.items()}


def test_what_was_fetched_once_is_not_fetched_again(server, downloads, raw):
    server.drive_file(PASSAGES.drive_id, content=zipped(PASSAGE_FILES))
    get(server, PASSAGES, raw)
    get(server, PASSAGES, raw)
    assert len(server.requests) == 1


def test_the_users_mirrors_come_first_then_the_artefacts_then_drive(
    server, downloads, raw, monkeypatch
):
    monkeypatch.setenv("MMSIM_MIRRORS", f"{server.url('one')} {server.url('two/')}")
    artefact = replace(PASSAGES, mirrors=(server.url("three"),))
    server.drive_file(PASSAGES.drive_id, content=zipped(PASSAGE_FILES))
    get(server, artefact, raw)
    asked = [request.path.partition("?")[0] for request in server.requests]
    assert asked == [
        *(f"/{mirror}/wikidiverse.zip" for mirror in ("one", "two", "three")),
        "/download",
    ]


def test_when_all_fail_each_address_is_named_with_its_reason_and_where_to_put_the_file(
    server, downloads, raw, monkeypatch
):
    monkeypatch.setenv("MMSIM_MIRRORS", server.url("mirror"))
    server.drive_file(PASSAGES.drive_id, page=QUOTA)
    with pytest.raises(UserError) as caught:
        get(server, PASSAGES, raw)
    message = str(caught.value)
    assert f"{server.url('mirror/wikidiverse.zip')}: 404 Not Found" in message
    assert 'Google Drive - Quota exceeded"' in message
    assert f"put it at {downloads / 'wikidiverse.zip'}" in message


def test_a_file_that_the_user_put_there_is_taken_without_any_request(server, downloads, raw):
    (downloads / "wikidiverse.zip").write_bytes(tarred(PASSAGE_FILES))
    get(server, PASSAGES, raw)
    assert contents(raw) == {f"wikidiverse/{name}": text for name, text in PASSAGE_FILES.items()}
    assert server.requests == []


def test_a_folder_that_the_user_unpacked_there_is_taken_and_stays(server, downloads, raw):
    for name in ("deep/0123.jpg", "4567.PNG", "readme.txt"):
        (downloads / "wikinewsImgs" / name).parent.mkdir(parents=True, exist_ok=True)
        (downloads / "wikinewsImgs" / name).write_bytes(b"image")
    before = contents(downloads)
    get(server, IMAGES, raw)
    assert set(contents(raw)) == {"wikinewsImgs/0123.jpg", "wikinewsImgs/4567.PNG"}
    assert contents(downloads) == before


def test_a_mirror_with_another_file_than_the_published_one_is_passed_over(
    server, downloads, raw, monkeypatch
):
    right = zipped(PASSAGE_FILES)
    wrong = zipped({**PASSAGE_FILES, "more": b""})
    monkeypatch.setenv("MMSIM_MIRRORS", server.url("mirror"))
    server.files["mirror/wikidiverse.zip"] = Served(wrong)
    server.drive_file(PASSAGES.drive_id, content=right)
    get(server, replace(PASSAGES, sha256=hashlib.sha256(right).hexdigest()), raw)
    assert (downloads / "wikidiverse.zip").read_bytes() == right


def test_a_file_that_changed_since_it_was_first_seen_is_an_error_naming_both_hashes(
    server, downloads, raw
):
    first = zipped(PASSAGE_FILES)
    server.drive_file(PASSAGES.drive_id, content=first)
    get(server, PASSAGES, raw)
    file = downloads / "wikidiverse.zip"
    file.write_bytes(first + b"x")
    with pytest.raises(UserError) as caught:
        get(server, PASSAGES, raw)
    for part in (first, first + b"x"):
        assert hashlib.sha256(part).hexdigest() in str(caught.value)
    assert f"{file} has SHA-256" in str(caught.value)
    assert f"{file}.sha256" in str(caught.value)


def test_an_upload_that_changed_since_it_was_first_seen_is_not_taken(server, downloads, raw):
    server.drive_file(PASSAGES.drive_id, content=zipped(PASSAGE_FILES))
    get(server, PASSAGES, raw)
    (downloads / "wikidiverse.zip").unlink()
    server.drive_file(PASSAGES.drive_id, content=zipped({**PASSAGE_FILES, "more": b""}))
    with pytest.raises(UserError, match="is recorded"):
        get(server, PASSAGES, raw)
    assert not (downloads / "wikidiverse.zip").exists()


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"train.json": b"[]", "test.json": b"[]"}, "one valid.json; found test.json, train.json"),
        ({**PASSAGE_FILES, "old/test.json": b"[]"}, "one test.json; found old/test.json, test"),
        ({}, "one train.json; found no file"),
    ],
    ids=["missing", "ambiguous", "empty"],
)
def test_an_archive_of_other_content_is_refused_with_what_it_holds(
    server, downloads, raw, files, found
):
    server.drive_file(PASSAGES.drive_id, content=zipped(files))
    with pytest.raises(UserError, match=found):
        get(server, PASSAGES, raw)


def test_descriptions_may_be_packed(server, downloads, raw):
    server.drive_file(
        ENTITY_DESCRIPTIONS.drive_id,
        content=zipped({"d/wikipedia_entity2desc_filtered.tsv": b"A@@@@Text.\n"}),
    )
    get(server, ENTITY_DESCRIPTIONS, raw)
    assert contents(raw) == {"wikipedia_entity2desc_filtered.tsv": b"A@@@@Text.\n"}


def test_descriptions_of_another_form_are_refused(server, downloads, raw):
    server.drive_file(ENTITY_DESCRIPTIONS.drive_id, content=b"A\tText.\n")
    with pytest.raises(UserError, match="separated by @@@@"):
        get(server, ENTITY_DESCRIPTIONS, raw)


def test_a_second_run_waits_for_the_first_to_leave_the_downloads(server, downloads, raw, capsys):
    serve_texts(server, server.url("a.jpg"))
    arguments = (raw, "urls", 1, server.url("download"))
    with FileLock(downloads / ".lock"):
        second = threading.Thread(target=fetch_release, args=arguments)
        second.start()
        second.join(0.3)
        assert server.requests == []
    second.join()
    assert "waiting for another run" in capsys.readouterr().out
    assert (raw / "wikidiverse/train.json").exists()
