"""Unpacks archives that nobody vouches for: no path leads out, no bomb goes off."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mmsim.errors import UserError
from mmsim.files import replacing_folder
from mmsim.progress import Progress, track

CHUNK_BYTES = 2**20
_MAGIC = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "tar"),
    (b"BZh", "tar"),
    (b"\xfd7zXZ\x00", "tar"),
    (b"Rar!\x1a\x07", "rar"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
)
_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,  # zipfile: unknown compression
    RuntimeError,  # zipfile: encrypted
    FileExistsError,
    NotADirectoryError,
)


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to.

    A file may be `ratio` times as large as what it was packed into (in a tar: as the whole
    archive), and in any case `free_bytes`.
    """

    total_bytes: int = 500 * 10**9
    files: int = 2_000_000
    ratio: int = 200
    free_bytes: int = 16 * 2**20


@dataclass(frozen=True)
class _Entry:
    name: str
    content: IO[bytes]
    packed_bytes: int


def archive_format(path: Path) -> str | None:
    """Return "zip", "tar" (also compressed), "rar" or "7z" by the content of `path`, else None."""
    with path.open("rb") as file:
        head = file.read(_TAR_MAGIC_AT + len(_TAR_MAGIC))
    if head[_TAR_MAGIC_AT:] == _TAR_MAGIC:
        return "tar"
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)


def unpack(archive: Path, folder: Path, limits: Limits | None = None) -> None:
    """Unpack `archive` into `folder`, which is replaced as a whole or stays as it was.

    Only plain files are written, with the mode of new files.

    Parameters
    ----------
    archive : Path
        A zip or tar (plain, gz, bz2, xz); its content counts, not its name.
    folder : Path
        Where its files go.
    limits : Limits, optional
        Counted while writing, whatever the archive says of itself.

    Raises
    ------
    UserError
        If it is no such archive, is broken, holds a link, a device or a name that leads out
        of `folder`, or unpacks to more than `limits` allow.
    """
    kind = archive_format(archive)
    if kind not in ("zip", "tar"):
        raise UserError(
            f"{archive} is {'a ' + kind if kind else 'no'} archive that mmsim can unpack (zip, "
            f"tar, tar.gz, tar.bz2, tar.xz); unpack it by hand into {archive.with_suffix('')}/"
        )
    limits = limits or Limits()
    written_bytes = 0
    names: set[Path] = set()
    try:
        with (
            replacing_folder(folder) as temporary,
            track(f"unpacking {archive.name}", unit="B") as progress,
        ):
            for entry in _zip_entries(archive) if kind == "zip" else _tar_entries(archive):
                name = _safe_name(entry.name, archive)
                if name in names:
                    raise _refusal(archive, f"holds {entry.name!r} twice")
                names.add(name)
                if len(names) > limits.files:
                    raise _refusal(archive, f"holds more than {limits.files:,} files")
                allowed = min(
                    limits.total_bytes - written_bytes,
                    max(limits.free_bytes, entry.packed_bytes * limits.ratio),
                )
                path = temporary / name
                path.parent.mkdir(parents=True, exist_ok=True)
                written_bytes += _write(entry, path, allowed, archive, progress)
    except (*_BROKEN, OSError) as error:
        # gzip and bz2 report broken data as an OSError that no system call made.
        if not isinstance(error, _BROKEN) and error.errno is not None:
            raise
        reason = str(error).partition(":\n")[0] or type(error).__name__
        raise UserError(
            f"{archive} cannot be unpacked ({reason}): it is broken, "
            f"encrypted or packed in a way that Python cannot read; delete it to fetch it again, "
            f"or unpack it by hand into {archive.with_suffix('')}/"
        ) from error


def _zip_entries(archive: Path) -> Iterator[_Entry]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if info.is_dir():
                continue
            # Unix keeps the kind of a file in the upper half: 0o12 is a link, 0o10 or 0 a file.
            if info.external_attr >> 28 not in (0o10, 0):
                raise _refusal(archive, f"holds {info.filename!r}, which is no plain file")
            with opened.open(info) as content:
                yield _Entry(info.filename, content, info.compress_size)


def _tar_entries(archive: Path) -> Iterator[_Entry]:
    packed_bytes = archive.stat().st_size
    with tarfile.open(archive) as opened:
        for info in opened:
            if info.isdir():
                continue
            content = opened.extractfile(info) if info.isreg() else None
            if content is None:
                raise _refusal(archive, f"holds {info.name!r}, which is no plain file")
            with content:
                yield _Entry(info.name, content, packed_bytes)
        # A tar ends before the compressed stream does, and the stream's checksum is at its end.
        while opened.fileobj and opened.fileobj.read(CHUNK_BYTES):
            pass


def _safe_name(name: str, archive: Path) -> Path:
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or parts[0][1:2] == ":" or ".." in parts or "\0" in name:
        raise _refusal(archive, f"holds {name!r}, which leads out of its folder")
    return Path(*parts)


def _write(entry: _Entry, path: Path, allowed: int, archive: Path, progress: Progress) -> int:
    """Copy one entry; return its bytes, or raise once they are more than `allowed`."""
    written = 0
    with path.open("xb") as file:
        while chunk := entry.content.read(CHUNK_BYTES):
            written += len(chunk)
            if written > allowed:
                raise _refusal(
                    archive, f"holds {entry.name!r}, which unpacks to more than {allowed:,} bytes"
                )
            file.write(chunk)
            progress.advance(len(chunk))
    return written


def _refusal(archive: Path, finding: str) -> UserError:
    return UserError(
        f"{archive} {finding}, so it was not unpacked; delete it to fetch it again, or, if you "
        f"trust it, unpack it by hand into {archive.with_suffix('')}/"
    )
