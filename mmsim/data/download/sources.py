"""Brings the data into the release layout, from wherever params.yaml says."""

from __future__ import annotations

import errno
from pathlib import Path

from mmsim.errors import UserError
from mmsim.files import replacing_folder
from mmsim.params import DataParams


def download(params: DataParams, destination: Path, workers: int) -> None:
    """Fill `destination` with a release: captions, images and entity descriptions.

    Parameters
    ----------
    params : DataParams
        Names the source.
    destination : Path
        Replaced as a whole, and only if all went well.
    workers : int
        Connections at a time, where images are fetched one by one.

    Raises
    ------
    UserError
        If the data cannot be had, is not what it should be, or does not fit on the disk.
    """
    own = Path(params.folder or "").expanduser()
    if params.source == "folder" and own.resolve().is_relative_to(destination.resolve()):
        raise UserError(
            f"data.folder: {own} is {destination} or lies inside, which is replaced by "
            f"every run; keep your own files elsewhere"
        )
    try:
        with replacing_folder(destination) as folder:
            if params.source == "sample":
                from mmsim.data.sample.generate import write_sample

                write_sample(
                    folder, params.sample_captions, params.sample_entities, params.sample_seed
                )
            elif params.source == "folder":
                from mmsim.data.download.folder import copy_release

                copy_release(own, folder)
            else:
                from mmsim.data.download.wikidiverse import fetch_release

                fetch_release(folder, params.images, workers, entity_images=params.entity_images)
            if params.entity_images:
                from mmsim.data.download.entity_images import fetch_entity_images

                fetch_entity_images(folder, workers)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UserError(
            f"the disk is full ({error.filename or destination}); make room and run again: "
            f"finished downloads are kept"
        ) from error
