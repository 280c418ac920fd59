"""Checks that a downloaded file is the one that it was."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mmsim.files import replacing_file


def checksum_problem(path: Path, expected: str | None) -> str | None:
    """Compare the SHA-256 of `path` with the one known for it.

    Where none is known beforehand, the one seen first is recorded in ``<path>.sha256`` (as
    ``sha256sum`` writes it) and holds from then on.

    Parameters
    ----------
    path : Path
        A complete file.
    expected : str or None
        Its SHA-256 in hexadecimal, where known beforehand.

    Returns
    -------
    str or None
        What is wrong and which file to delete, or None if all is well.
    """
    record = path.with_name(path.name + ".sha256")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    known, origin = expected, "published"
    if known is None and record.exists():
        known, origin = record.read_text(encoding="utf-8").split(maxsplit=1)[0], "recorded"
    if known is None:
        with replacing_file(record) as temporary:
            temporary.write_text(f"{found}  {path.name}\n", encoding="utf-8")
        return None
    if found == known:
        return None
    problem = f"{path} has SHA-256 {found}, but {known} is {origin}; delete it to fetch it again"
    if origin == "recorded":
        problem += f", and also {record} if the file was replaced on purpose"
    return problem
