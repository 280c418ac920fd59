"""Taking over a folder of the user's own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from mmsim.data.download.folder import copy_file
from mmsim.data.download.sources import download
from mmsim.errors import UserError
from mmsim.params import DataParams, load_params

PASSAGE = ["A caption.", "https://example.org/a.jpg", "sports", []]
MENTION = [
    *("A caption.", "https://example.org/a.jpg", "caption", "Other", [], []),
    *("https://en.wikipedia.org/wiki/Caption", ["Caption"], "sports", 2, 9),
]


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def fill_from(folder: Path, destination: Path) -> None:
    known = load_params(Path(__file__).parent.parent / "params.yaml").data
    params = DataParams(**{**known.model_dump(), "source": "folder", "folder": str(folder)})
    download(params, destination, workers=2)


PASSAGES = {"wikidiverse/train.json": json.dumps([PASSAGE]).encode()}
MENTIONS = {"wikidiverse_w_cands/test_w_10cands.json": json.dumps([MENTION]).encode()}
IMAGES = {"wikinewsImgs/0123.jpg": b"jpeg", "wikinewsImgs/4567.PNG": b"png"}
DESCRIPTIONS = {"wikipedia_entity2desc_filtered.tsv": b"Caption@@@@A text.\n"}


@pytest.mark.parametrize(
    "files",
    [
        PASSAGES,
        MENTIONS,
        {**PASSAGES, **IMAGES},
        {**PASSAGES, **MENTIONS, **IMAGES, **DESCRIPTIONS},
    ],
    ids=["passages alone", "mentions alone", "with images", "everything"],
)
def test_what_belongs_to_the_release_is_copied(tmp_path, files):
    own = write(tmp_path / "own", {**files, "notes.txt": b"private", "wikidiverse/old.json": b"["})
    fill_from(own, tmp_path / "raw")
    assert contents(tmp_path / "raw") == files


def test_the_only_sub_folder_may_hold_the_release(tmp_path):
    write(tmp_path / "own", {f"release/{name}": text for name, text in PASSAGES.items()})
    fill_from(tmp_path / "own", tmp_path / "raw")
    assert contents(tmp_path / "raw") == PASSAGES


def test_the_users_folder_stays_as_it_is_whatever_happens_to_the_copies(tmp_path):
    own = write(tmp_path / "own", {**PASSAGES, **MENTIONS, **IMAGES, **DESCRIPTIONS})
    for path in own.rglob("*.jpg"):
        path.chmod(0o640)

    def state() -> dict[str, tuple[str, int, int, int]]:
        return {
            str(path): (
                hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
                path.stat().st_mode,
                path.stat().st_mtime_ns,
                path.stat().st_nlink if path.is_file() else 0,
            )
            for path in [own, *own.rglob("*")]
        }

    before = state()
    fill_from(own, tmp_path / "raw")
    for copy in (tmp_path / "raw").rglob("*.*"):
        copy.write_bytes(b"changed")
        copy.chmod(0o444)
    assert state() == before


def test_links_in_the_users_folder_become_files(tmp_path):
    elsewhere = write(tmp_path / "elsewhere", IMAGES)
    own = write(tmp_path / "own", PASSAGES)
    (own / "wikinewsImgs").symlink_to(elsewhere / "wikinewsImgs")
    fill_from(own, tmp_path / "raw")
    assert contents(tmp_path / "raw") == {**PASSAGES, **IMAGES}
    assert not any(path.is_symlink() for path in (tmp_path / "raw").rglob("*"))


def test_a_copy_is_whole_where_blocks_cannot_be_shared(tmp_path, monkeypatch):
    def refuse(*_: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.copy_file_range", refuse, raising=False)
    (tmp_path / "a").write_bytes(b"content")
    copy_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"content"


def test_a_copy_is_whole_where_the_system_copies_nothing_and_says_all_is_well(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("os.copy_file_range", lambda *_: 0, raising=False)
    (tmp_path / "a").write_bytes(b"content")
    copy_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"content"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"data\.folder: .*nowhere does not exist"):
        fill_from(tmp_path / "nowhere", tmp_path / "raw")


def test_a_file_is_no_folder(tmp_path):
    own = write(tmp_path, {"own.zip": b""}) / "own.zip"
    with pytest.raises(UserError, match="is a file, not a folder"):
        fill_from(own, tmp_path / "raw")


def test_a_folder_of_another_layout_is_refused_with_what_it_holds_and_should_hold(tmp_path):
    own = write(tmp_path / "own", {"captions.csv": b"", "train.json": b"[]"})
    with pytest.raises(UserError) as caught:
        fill_from(own, tmp_path / "raw")
    assert "found captions.csv, train.json" in str(caught.value)
    assert "wikidiverse/train.json" in str(caught.value)
    assert "wikidiverse_w_cands/test_w_10cands.json" in str(caught.value)


@pytest.mark.parametrize("text", [b'[["cut off', b'{"an": "object"}', b"\xff\xfe"])
def test_a_file_that_is_no_json_list_is_named(tmp_path, text):
    own = write(tmp_path / "own", {"wikidiverse/valid.json": text})
    with pytest.raises(UserError, match=r"own/wikidiverse/valid\.json"):
        fill_from(own, tmp_path / "raw")


@pytest.mark.parametrize("inside", [".", "wikidiverse"])
def test_the_output_itself_is_refused_as_a_source(tmp_path, inside):
    raw = write(tmp_path / "raw", PASSAGES)
    with pytest.raises(UserError, match="replaced by every run"):
        fill_from(raw / inside, raw)
    assert contents(raw) == PASSAGES


def test_what_was_there_before_stays_if_the_source_is_wrong(tmp_path):
    raw = write(tmp_path / "raw", PASSAGES)
    with pytest.raises(UserError):
        fill_from(tmp_path / "nowhere", raw)
    assert contents(tmp_path) == {f"raw/{name}": text for name, text in PASSAGES.items()}


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "image.jpg")

    monkeypatch.setattr("mmsim.data.download.folder.copy_file", fail)
    with pytest.raises(UserError, match=r"the disk is full \(image\.jpg\)"):
        fill_from(write(tmp_path / "own", PASSAGES), tmp_path / "raw")
