"""Predictions of any revision that Git or DVC knows, read through DVC's cache."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmsim.errors import UserError
from mmsim.paths import PREDICTIONS, RANKS

if TYPE_CHECKING:
    import pandas as pd

WORKSPACE = "workspace"

OF_THE_MODEL = ["split", "seed", "score", "called"]
"""Columns of predictions that do not say what was predicted."""


@dataclass(frozen=True)
class Revision:
    """What evaluate wrote in a revision: its test predictions, and ranks if there are any."""

    name: str
    predictions: pd.DataFrame
    ranks: pd.DataFrame

    @property
    def pairs(self) -> pd.DataFrame:
        """The test pairs, or mentions with each candidate, without what any model says of them."""
        first = self.predictions["seed"].iloc[0]
        rows = self.predictions[self.predictions["seed"] == first]
        return rows.drop(columns=OF_THE_MODEL, errors="ignore").reset_index(drop=True)

    @property
    def links(self) -> bool:
        """Whether mentions were linked, not pairs told apart."""
        return "candidate" in self.predictions


def read_revision(name: str) -> Revision:
    """Read a Git revision, branch, tag, DVC experiment, or the ``workspace``.

    Raises
    ------
    UserError
        If there is no such revision, or its predictions are neither in DVC's cache nor in a
        remote.
    """
    predictions = _read(name, PREDICTIONS)
    return Revision(
        name, predictions[predictions["split"] == "test"].reset_index(drop=True), _read(name, RANKS)
    )


def require_same_pairs(first: Revision, other: Revision) -> None:
    """Refuse to compare figures that were measured on different pairs.

    Raises
    ------
    UserError
        If the test pairs differ in number, rows, labels or order.
    """
    ours, theirs = first.pairs, other.pairs
    if first.links != other.links:
        found = "one links mentions, the other tells pairs apart"
    elif len(ours) == len(theirs):
        different = int((ours != theirs).any(axis=1).sum())
        if not different:
            return
        found = f"{different:,} of {len(ours):,} test rows differ"
    else:
        found = f"they have {len(ours):,} and {len(theirs):,} test rows"
    raise UserError(
        f"{first.name} and {other.name} were measured on different pairs ({found}), so their "
        f"figures cannot be compared; run both with the same data, task and pairs parameters"
    )


def _read(name: str, path: Path) -> pd.DataFrame:
    import pandas as pd

    if name == WORKSPACE:
        try:
            return pd.read_parquet(path)
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing; run `dvc repro` to make it") from error
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.repo.brancher import switch
    from dvc.scm import resolve_rev
    from scmrepo.exceptions import SCMError

    try:
        with (
            Repo() as repo,
            switch(repo, resolve_rev(repo.scm, name)),
            repo.dvcfs.open(path.as_posix(), "rb") as file,
        ):
            return pd.read_parquet(io.BytesIO(file.read()))
    except FileNotFoundError as error:
        raise UserError(
            f"revision {name} has no {path} that can be read: it was made by an older version, "
            f"or is neither in the DVC cache nor in a remote; run `dvc repro` there, or `dvc pull`"
        ) from error
    except (DvcException, SCMError) as error:
        raise UserError(
            f"{name!r} is no revision that can be read ({error}); give a Git revision, branch or "
            f"tag, a DVC experiment (`dvc exp show`), or `{WORKSPACE}`"
        ) from error
