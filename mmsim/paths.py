"""Where everything lies: paths inside the project, and the cache outside of it."""

from __future__ import annotations

import os
from pathlib import Path

from mmsim.errors import UserError

PARAMS = Path("params.yaml")

RAW = Path("data/raw")
PREPARED = Path("data/prepared")
PAIRS = Path("data/pairs")
IMAGE_FEATURES = Path("data/features/image.zarr")
TEXT_FEATURES = Path("data/features/text.zarr")
MODELS = Path("models")
METRICS = Path("metrics/metrics.json")
CROSS_VALIDATION = Path("metrics/cross_validation.json")
REPORTS = Path("reports")
TRAINING_CURVES = REPORTS / "training.csv"
PREDICTIONS = REPORTS / "predictions.parquet"
OUT_OF_FOLD = REPORTS / "out_of_fold.parquet"
RANKS = REPORTS / "ranks.parquet"
AMBIGUOUS_FORMS = REPORTS / "ambiguous_forms.csv"
PLOTS = REPORTS / "plots"
PAGE = REPORTS / "index.html"

CACHE_VARIABLE = "MMSIM_CACHE_DIR"


def cache_dir(name: str) -> Path:
    """Return (and make) a folder for work that must outlive a stage's outputs.

    DVC deletes a stage's partial outputs before it runs the stage again, and runs queued
    experiments in a temporary clone. Finished shards and downloads therefore lie outside the
    project, in one absolute place that every clone and experiment of this user finds:
    ``$MMSIM_CACHE_DIR``, else ``$XDG_CACHE_HOME/mmsim``, else ``~/.cache/mmsim``.

    Parameters
    ----------
    name : str
        Folder below the cache: ``"features"`` or ``"downloads"``.

    Raises
    ------
    UserError
        If the folder cannot be made.
    """
    base = os.environ.get(CACHE_VARIABLE)
    root = (
        Path(base).expanduser()
        if base
        else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmsim"
    )
    folder = root.absolute() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache folder {folder} cannot be made ({error.strerror}); "
            f"set {CACHE_VARIABLE} to a folder that you may write to"
        ) from error
    return folder
