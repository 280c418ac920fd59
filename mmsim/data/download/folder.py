"""Takes over a folder of the user's own that has the release layout."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from mmsim.data.knowledge import DESCRIPTIONS, KNOWLEDGE_FILES
from mmsim.data.release import (
    IMAGE_FOLDER,
    SPLITS,
    mention_file,
    passage_file,
    read_release,
)
from mmsim.errors import UserError
from mmsim.progress import track


def copy_release(folder: Path, destination: Path) -> None:
    """Copy what belongs to the release layout from `folder` into `destination`.

    `folder` is only read. One split of one level is enough; images and what is known of
    entities may be missing. A folder whose only sub-folder has the layout will do as well. Files
    are copied, not linked: DVC makes the outputs of a stage read-only, and through a link,
    symbolic or hard, it would do so to the user's files.

    Raises
    ------
    UserError
        If `folder` is missing, holds no caption file, or holds one that is no JSON list.
    """
    root = _release_root(folder)
    read_release(root)
    images = (
        sorted(path for path in (root / IMAGE_FOLDER).iterdir() if path.is_file())
        if (root / IMAGE_FOLDER).is_dir()
        else []
    )
    knowledge = [root / name for name in KNOWLEDGE_FILES if (root / name).is_file()]
    sources = _caption_files(root) + knowledge + images
    with track(f"copying {root}", sum(file.stat().st_size for file in sources), "B") as progress:
        for source in sources:
            target = destination / source.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_file(source, target)
            progress.advance(target.stat().st_size)


def copy_file(source: Path, target: Path) -> None:
    """Copy the content of `source`; file systems that can share the blocks of both do so."""
    with suppress(AttributeError, OSError):  # no such call on this platform or file system
        with source.open("rb") as reader, target.open("wb") as writer:
            while os.copy_file_range(reader.fileno(), writer.fileno(), 2**30):
                pass
        if target.stat().st_size == source.stat().st_size:
            return
    shutil.copyfile(source, target)


def _release_root(folder: Path) -> Path:
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise UserError(
            f"data.folder: {folder} {what}; name a folder in the release layout, absolute or "
            f"relative to the project ({Path.cwd()})"
        )
    inside = sorted(folder.iterdir())
    folders = [path for path in inside if path.is_dir()]
    for root in [folder, *(folders if len(folders) == 1 else [])]:
        if _caption_files(root):
            return root
    found = ", ".join(path.name for path in inside[:10]) or "nothing"
    raise UserError(
        f"data.folder: {folder} holds no caption file; found {found}{', ...' * (len(inside) > 10)}"
        f"; expected at least one of "
        + ", ".join(str(path) for path in _caption_paths(Path()))
        + f", and beside them, where you have them, {IMAGE_FOLDER}/ and {DESCRIPTIONS}"
    )


def _caption_files(root: Path) -> list[Path]:
    return [path for path in _caption_paths(root) if path.is_file()]


def _caption_paths(root: Path) -> list[Path]:
    return [file(root, split) for file in (passage_file, mention_file) for split in SPLITS]
