"""Fetches one image for each entity that the release's mentions name, from the release's list."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mmsim.data.download.image_urls import RequestRate, fetch_images
from mmsim.data.filenames import image_file_name
from mmsim.data.knowledge import ENTITY_IMAGES, read_entity_images
from mmsim.data.release import IMAGE_FOLDER, read_release
from mmsim.data.titles import canonical_title, is_nil, title_from_url
from mmsim.errors import UserError


def fetch_entity_images(root: Path, workers: int, rate: RequestRate | None = None) -> Counter[str]:
    """Fetch the first listed image of each gold and candidate entity into the image folder.

    Images that are there already are taken as they are. What cannot be had is counted, and
    preparation takes such an entity as one without an image.

    Parameters
    ----------
    root : Path
        Folder in the release layout, with the list of entities' images.
    workers : int
        Connections at a time.
    rate : RequestRate, optional
        Shared by all connections.

    Raises
    ------
    UserError
        If the list is missing or names no image of any of the entities.
    """
    path = root / ENTITY_IMAGES
    if not path.exists():
        raise UserError(
            f"data.entity_images is true, but the release has no {ENTITY_IMAGES}; put it there "
            f"(lines of entity@@@@address[AND]address...), or set data.entity_images: false"
        )
    titles = entity_titles(root)
    addresses = read_entity_images(root, titles)
    if not addresses:
        raise UserError(f"{path} names no image of any of the {len(titles):,} entities mentioned")
    print(f"entity images: {len(addresses):,} of {len(titles):,} entities have an address")
    folder = root / IMAGE_FOLDER
    first = [urls[0] for urls in addresses.values()]
    absent = [url for url in first if not (folder / image_file_name(url)).exists()]
    return fetch_images(absent, folder, workers, rate)


def entity_titles(root: Path) -> set[str]:
    """Return the canonical titles of all gold and candidate entities of a release."""
    titles: set[str] = set()
    for caption in read_release(root).captions:
        for mention in caption.mentions:
            titles |= {canonical_title(name) for name in mention.candidates}
            title = None if is_nil(mention.entity_url) else title_from_url(str(mention.entity_url))
            if title is not None:
                titles.add(title)
    return titles
