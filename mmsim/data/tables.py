"""The Parquet tables between stages: their columns, and how they are read and written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsim.errors import UserError
from mmsim.files import replacing_file

if TYPE_CHECKING:
    import pandas as pd

INSTANCES = "instances.parquet"
"""One row for each mention, and one for each caption without any.

instance : int64, row number
split : "train", "valid" or "test"
text, image : int64, row numbers in TEXTS and IMAGES
mention : str, the surface form, "" in a row without a mention
start, end : int64, span of the mention in the text, -1 if it is not there
type, topic : str
entity : int64, row number in ENTITIES, -1 where there is no gold entity
nil : bool, true if the release says that the entity is in no knowledge base
candidates : list of str, canonical titles
"""

IMAGES = "images.parquet"
"""One row for each unique image file: image (row number), group (shared by near-identical
images), the fields of ImageFacts, and objects and scene: phrases of what it shows, "" if the
release has none. First the captions' images, then those that only entities have."""

TEXTS = "texts.parquet"
"""One row for each unique text: text (row number), group (shared by texts that differ only in
case), content, kind ("caption"). The pairs stage writes the texts that its task needs under the
same name; for task link their kinds are "context" (mention [SEP] sentence), "mention", "entity"
(name [SEP] description) and "phrases"."""

ENTITIES = "entities.parquet"
"""One row for each gold entity, then for each that is a candidate only: entity (row number),
title, mentions (with this gold), description ("" if none), image (row number, -1 if none)."""

PRIORS = "priors.parquet"
"""P(entity | mention) as the release has it: mention, entity (row number), probability."""


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a Parquet table.

    Raises
    ------
    UserError
        If the file is missing or is no Parquet table.
    """
    import pandas as pd
    import pyarrow as pa

    try:
        return pd.read_parquet(path, columns=columns)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; run `dvc repro` to make it") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} cannot be read ({error}); run `dvc repro` again") from error


def write_table(path: Path, rows: Any) -> None:
    """Write a data frame as Parquet, the same bytes for the same rows."""
    with replacing_file(path) as temporary:
        rows.to_parquet(temporary, index=False, compression="zstd")
