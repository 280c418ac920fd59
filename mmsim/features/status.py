"""What became of a row: every row of a feature store carries one of these."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Status of one row; every row but an ``ok`` one holds zeros that mean nothing."""

    OK = 0
    MISSING = 1  # the file is not there or cannot be read
    CORRUPT = 2  # the file is no image that can be decoded
    UNSUPPORTED = 3  # an image that is refused: too many pixels
    OVERFLOW = 4  # its features do not fit into float16

    @property
    def label(self) -> str:
        """The name that Parquet files and manifests use: ``"ok"``, ``"missing"``, ..."""
        return self.name.lower()
