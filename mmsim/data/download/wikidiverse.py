"""Fetches the public WikiDiverse archives and lays them out as the release.

Addresses: README of https://github.com/wangxw5/wikiDiverse (Wang et al., ACL 2022). The
annotations are CC BY-SA 4.0; each image has a licence of its own.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from mmsim.data.download.archives import archive_format, unpack
from mmsim.data.download.checksums import checksum_problem
from mmsim.data.download.drive import DRIVE, drive_address
from mmsim.data.download.folder import copy_file
from mmsim.data.download.http import FetchError, fetch, new_session
from mmsim.data.download.image_urls import fetch_images
from mmsim.data.knowledge import DESCRIPTIONS, ENTITY_IMAGES
from mmsim.data.release import (
    IMAGE_FOLDER,
    SPLITS,
    mention_file,
    passage_file,
    read_release,
)
from mmsim.errors import UserError
from mmsim.paths import cache_dir

MIRRORS_VARIABLE = "MMSIM_MIRRORS"
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".tif", ".tiff", ".webp", ".bmp"})


@dataclass(frozen=True)
class Artefact:
    """One file of the public release.

    `file_name` is its name among the downloads and on mirrors, `contents` the files of the
    release layout that it holds (for images, their folder). Its format is read from its
    content. `sha256` is None where the publisher states none.
    """

    file_name: str
    drive_id: str
    contents: tuple[Path, ...]
    sha256: str | None = None
    mirrors: tuple[str, ...] = ()


PASSAGES = Artefact(
    "wikidiverse.zip",
    "1jsoa994_8tW9X19pb1cISKrMG8hTwItv",
    tuple(passage_file(Path(), split) for split in SPLITS),
)
MENTIONS = Artefact(
    "wikidiverse_w_cands.zip",
    "1ATTF_AzYAnUlM1N84S_dtFu-y867CELY",
    tuple(mention_file(Path(), split) for split in SPLITS),
)
ENTITY_DESCRIPTIONS = Artefact(
    DESCRIPTIONS, "1LKjcWrU6YdFfLX6iKi0cFKtyhf4t2bbe", (Path(DESCRIPTIONS),)
)
ENTITY_IMAGE_LIST = Artefact(
    ENTITY_IMAGES, "1ukoThqll410GG3P0I7-29kg299OzYgOT", (Path(ENTITY_IMAGES),)
)
IMAGES = Artefact(f"{IMAGE_FOLDER}.zip", "1Xg7HxKbvhfKWrrHOYi2-59tE634ILTph", (Path(IMAGE_FOLDER),))


def fetch_release(
    destination: Path,
    images: Literal["archive", "urls"],
    workers: int,
    drive: str = DRIVE,
    sleep: Callable[[float], None] = time.sleep,
    entity_images: bool = False,
) -> None:
    """Fetch WikiDiverse and lay it out in `destination`.

    Downloads are kept in the cache, so that a rerun fetches nothing twice.

    Parameters
    ----------
    destination : Path
        Existing folder that becomes a release.
    images : str
        Where images come from: the public archive, or each caption's own address.
    workers : int
        Connections at a time, for images from their addresses.
    drive : str
        Where Google Drive answers.
    sleep : callable
        Waits for a number of seconds between attempts.
    entity_images : bool
        Also fetch the list of entities' images; the images themselves are fetched by
        `mmsim.data.download.entity_images`.

    Raises
    ------
    UserError
        If an artefact cannot be had from any address, is not the file that it was, or does
        not hold what it should.
    """
    with _alone_in(cache_dir("downloads")):
        lists = [ENTITY_DESCRIPTIONS, *([ENTITY_IMAGE_LIST] if entity_images else [])]
        for artefact in (PASSAGES, MENTIONS, *lists):
            fetch_artefact(artefact, destination, drive, sleep)
        if images == "archive":
            fetch_artefact(IMAGES, destination, drive, sleep)
        else:
            urls = (caption.image_url for caption in read_release(destination).captions)
            fetch_images(urls, destination / IMAGE_FOLDER, workers)


def fetch_artefact(
    artefact: Artefact,
    destination: Path,
    drive: str = DRIVE,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Fetch one artefact and put what it holds into `destination`; see `fetch_release`."""
    obtained = _obtain(artefact, cache_dir("downloads"), drive, sleep)
    if obtained.is_dir():
        _place(artefact, obtained, obtained, destination, copy_file)
    elif artefact.file_name.endswith(".tsv") and archive_format(obtained) is None:
        _check_list(obtained)
        copy_file(obtained, destination / artefact.file_name)
    else:
        unpacked = destination / ".unpacked"
        unpack(obtained, unpacked)
        _place(artefact, obtained, unpacked, destination, os.replace)
        shutil.rmtree(unpacked)


@contextmanager
def _alone_in(downloads: Path) -> Iterator[None]:
    """Let no other run write to the same downloads meanwhile."""
    lock = FileLock(downloads / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another run that downloads into {downloads}", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _obtain(
    artefact: Artefact, downloads: Path, drive: str, sleep: Callable[[float], None]
) -> Path:
    """Return the artefact's file, or the folder into which the user unpacked it by hand."""
    file = downloads / artefact.file_name
    by_hand = file.with_suffix("")
    if by_hand.is_dir():
        return by_hand
    if file.exists():
        if problem := checksum_problem(file, artefact.sha256):
            raise UserError(problem)
        return file
    tried = []
    with new_session() as session:
        for address in _addresses(artefact, drive):
            try:
                fetch(session, address, file, label=artefact.file_name, sleep=sleep)
            except FetchError as error:
                tried.append(f"  {address}: {error}")
                continue
            problem = checksum_problem(file, artefact.sha256)
            if problem is None:
                return file
            file.unlink()
            tried.append(f"  {address}: {problem}")
    raise UserError(
        f"{artefact.file_name} could not be fetched from any address:\n"
        + "\n".join(tried)
        + f"\nTry again later, or fetch https://drive.google.com/file/d/{artefact.drive_id} with a "
        f"browser and put it at {file} (a zip or tar of any kind under this name, or unpacked as "
        f"the folder {by_hand}/), or name mirrors that hold {artefact.file_name} in "
        f"{MIRRORS_VARIABLE}; then run again. What has come so far is kept."
    )


def _addresses(artefact: Artefact, drive: str) -> list[str]:
    mirrors = [*os.environ.get(MIRRORS_VARIABLE, "").split(), *artefact.mirrors]
    return [
        *(f"{base.rstrip('/')}/{artefact.file_name}" for base in mirrors),
        drive_address(artefact.drive_id, drive),
    ]


def _place(
    artefact: Artefact,
    obtained: Path,
    folder: Path,
    destination: Path,
    put: Callable[[Path, Path], None],
) -> None:
    """Find the artefact's contents in `folder`, however deep they lie, and put them in place."""
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__MACOSX" not in path.parts and not path.name.startswith("._")
    ]
    for content in artefact.contents:
        is_images = content == Path(IMAGE_FOLDER)
        wanted = [
            path
            for path in files
            if (path.suffix.lower() in IMAGE_SUFFIXES if is_images else path.name == content.name)
        ]
        if not wanted or (len(wanted) > 1 and not is_images):
            found = ", ".join(str(path.relative_to(folder)) for path in (wanted or files)[:10])
            raise UserError(
                f"{obtained} should hold {'images' if is_images else f'one {content.name}'}; found "
                f"{found or 'no file'}; put the right file there, or delete it to fetch it again"
            )
        for path in wanted:
            target = destination / content / path.name if is_images else destination / content
            target.parent.mkdir(parents=True, exist_ok=True)
            put(path, target)


def _check_list(path: Path) -> None:
    # One of the lists begins with a line of headings.
    with path.open("rb") as lines:
        start = lines.readline(1000) + lines.readline(1000)
    if b"@@@@" not in start:
        raise UserError(
            f"{path} should hold lines of fields separated by @@@@ (or be a zip or tar); it "
            f"begins with {start[:60]!r}; delete it to fetch it again, or put the right file there"
        )
