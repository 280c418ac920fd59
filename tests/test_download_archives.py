"""Unpacking archives that nobody vouches for."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from mmsim.data.download.archives import Limits, archive_format, unpack
from mmsim.errors import UserError

FILES = {"top/train.json": b"[1]" * 5000, "top/deep/er/test.json": b"[]"}


def write_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mode = 0o4777
            archive.addfile(info, io.BytesIO(content))
    return path


WRITERS = {
    "zip": write_zip,
    "tar": write_tar,
    "tar.gz": lambda path, files: write_tar(path, files, "w:gz"),
    "tar.bz2": lambda path, files: write_tar(path, files, "w:bz2"),
    "tar.xz": lambda path, files: write_tar(path, files, "w:xz"),
}
every_format = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@every_format
def test_all_files_come_out_whatever_the_archive_is_called(tmp_path, write):
    archive = write(tmp_path / "file.zip", FILES)
    unpack(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


@every_format
def test_files_have_the_mode_of_new_files(tmp_path, write):
    unpack(write(tmp_path / "file.zip", FILES), tmp_path / "out")
    (tmp_path / "new").touch()
    mode = (tmp_path / "new").stat().st_mode
    assert (tmp_path / "out/top/train.json").stat().st_mode == mode


@every_format
@pytest.mark.parametrize(
    "name", ["../outside", "top/../../outside", "/outside", "..\\outside", "C:\\outside", "C:out"]
)
def test_a_name_that_leads_out_is_refused_and_nothing_is_written(tmp_path, write, name):
    folder = tmp_path / "inner" / "out"
    archive = write(tmp_path / "inner.zip", {"good": b"1", name: b"2"})
    with pytest.raises(UserError, match="leads out"):
        unpack(archive, folder)
    assert contents(tmp_path) == {"inner.zip": archive.read_bytes()}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "file.tar", "w") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(UserError, match="'link', which is no plain file"):
        unpack(tmp_path / "file.tar", tmp_path / "out")


def test_a_link_in_a_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "file.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match="'link', which is no plain file"):
        unpack(tmp_path / "file.zip", tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz"])
def test_a_bomb_is_stopped_while_it_unpacks(tmp_path, kind):
    archive = WRITERS[kind](tmp_path / "bomb.zip", {"zeros": bytes(3_000_000)})
    with pytest.raises(UserError, match="more than 1,000,000 bytes"):
        unpack(archive, tmp_path / "out", Limits(free_bytes=1_000_000, ratio=10))
    assert not (tmp_path / "out").exists()


def test_a_file_that_packs_well_but_stays_small_is_no_bomb(tmp_path):
    archive = write_zip(tmp_path / "file.zip", {"zeros": bytes(3_000_000)})
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out/zeros").stat().st_size == 3_000_000


@every_format
def test_the_total_size_is_limited(tmp_path, write):
    archive = write(tmp_path / "file.zip", {name: bytes(600) for name in "abc"})
    with pytest.raises(UserError, match="'c', which unpacks to more than 300 bytes"):
        unpack(archive, tmp_path / "out", Limits(total_bytes=1_500))


@every_format
def test_the_number_of_files_is_limited(tmp_path, write):
    archive = write(tmp_path / "file.zip", dict.fromkeys("abc", b""))
    with pytest.raises(UserError, match="more than 2 files"):
        unpack(archive, tmp_path / "out", Limits(files=2))


def test_a_tar_that_holds_a_name_twice_is_refused(tmp_path):
    with tarfile.open(tmp_path / "file.tar", "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("same"))
    with pytest.raises(UserError, match="'same' twice"):
        unpack(tmp_path / "file.tar", tmp_path / "out")


@every_format
def test_a_file_where_a_folder_is_needed_is_reported(tmp_path, write):
    archive = write(tmp_path / "file.zip", {"a": b"1", "a/b": b"2"})
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "out")


@every_format
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_archive_is_reported_with_what_to_do(tmp_path, write, share):
    noise = bytes(i * i % 251 for i in range(50_000))
    archive = write(tmp_path / "file.zip", {"a": noise, "b": noise[::-1]})
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match=r"file\.zip cannot be unpacked.*delete it to fetch it"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_damaged_content_is_reported(tmp_path, kind):
    noise = bytes(i * i % 251 for i in range(50_000))
    archive = WRITERS[kind](tmp_path / "file.zip", {"a": noise})
    damaged = bytearray(archive.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 20] = bytes(20)
    archive.write_bytes(damaged)
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize(
    ("start", "kind"), [(b"Rar!\x1a\x07\x01\x00", "rar"), (b"7z\xbc\xaf\x27\x1c", "7z")]
)
def test_formats_that_python_cannot_read_are_to_be_unpacked_by_hand(tmp_path, start, kind):
    archive = tmp_path / "wikinewsImgs.zip"
    archive.write_bytes(start + bytes(100))
    with pytest.raises(UserError, match=rf"a {kind} archive .* by hand into .*wikinewsImgs/"):
        unpack(archive, tmp_path / "out")


def test_the_folder_that_was_there_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "out"
    unpack(write_zip(tmp_path / "old.zip", {"old": b"1"}), folder)
    with pytest.raises(UserError):
        unpack(write_zip(tmp_path / "bad.zip", {"new": b"2", "../x": b"3"}), folder)
    assert contents(folder) == {"old": b"1"}
    unpack(write_zip(tmp_path / "good.zip", {"new": b"2"}), folder)
    assert contents(folder) == {"new": b"2"}


def test_plain_text_is_no_archive(tmp_path):
    (tmp_path / "text").write_text("entity@@@@description\n")
    assert archive_format(tmp_path / "text") is None
