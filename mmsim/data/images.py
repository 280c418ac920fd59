"""Looks at every image file once: is it whole, what is in it, which others are like it."""

from __future__ import annotations

import hashlib
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsim.data.filenames import image_file_name
from mmsim.progress import track

MAX_PIXELS = 100_000_000
"""Images of more pixels are not decoded: a small file can hold a huge image."""

BLANK_DEVIATION = 3.0
"""Grey-level standard deviation (0 to 255) under which an image is blank.

A perceptual hash of a blank image is noise, so blank images are only ever exact duplicates.
"""


@dataclass(frozen=True)
class ImageFacts:
    """What is known of one image file.

    `status` is ``ok``, ``missing``, ``corrupt`` or ``unsupported``, and `reason` says why.
    `sha256` is the hash of the file's bytes ("" if missing); `perceptual_hash` is a 64-bit DCT
    hash in hexadecimal, "" for blank and unreadable images.
    """

    name: str
    status: str
    reason: str = ""
    sha256: str = ""
    perceptual_hash: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    format: str = ""


def image_identity(fact: ImageFacts) -> str:
    """Return what two names of one image share: the content's hash, else the name itself."""
    return fact.sha256 or fact.name


class ImageIndex:
    """Finds the file of an image address in a folder.

    The release's own file name is tried first. Folders that were unpacked or renamed elsewhere
    differ in the suffix (its case, or ``.png`` for an SVG), never in the hash before it, so any
    file with that hash is the next choice.
    """

    def __init__(self, folder: Path) -> None:
        self.names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        self._by_hash: dict[str, str] = {}
        for name in sorted(self.names, reverse=True):
            self._by_hash[name[:32]] = name

    def find(self, url: str) -> str:
        """Return the name of the file of `url`, or the name it should have if none is there."""
        name = image_file_name(url)
        return name if name in self.names else self._by_hash.get(name[:32], name)


def inspect_images(folder: Path, names: list[str], workers: int) -> list[ImageFacts]:
    """Read and decode the files `names` in `folder`, `workers` at a time, in order."""
    with ThreadPoolExecutor(workers) as pool, track("images checked", len(names)) as progress:
        facts = []
        for fact in pool.map(lambda name: inspect_image(folder / name), names):
            facts.append(fact)
            progress.advance()
    return facts


def inspect_image(path: Path) -> ImageFacts:
    """Read and decode one image file; what is wrong with it becomes its status."""
    import imagehash
    from PIL import Image, UnidentifiedImageError

    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ImageFacts(path.name, "missing", "no such file")
    except OSError as error:
        return ImageFacts(path.name, "corrupt", f"cannot be read: {error.strerror}")
    digest = hashlib.sha256(content).hexdigest()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
    except (UnidentifiedImageError, OSError):
        if b"<svg" in content[:1024].lower():
            return ImageFacts(path.name, "unsupported", "SVG drawing", digest)
        return ImageFacts(path.name, "corrupt", "no image format that can be read", digest)
    with image:
        width, height, mode, form = *image.size, image.mode, image.format or ""
        if width * height > MAX_PIXELS:
            reason = f"{width} x {height} pixels, over {MAX_PIXELS:,}"
            return ImageFacts(
                path.name, "unsupported", reason, digest, "", width, height, mode, form
            )
        try:
            image.draft("L", (64, 64))
            grey = image.convert("L").resize((64, 64), Image.Resampling.BOX)
        except Exception as error:  # decoders raise many kinds: OSError, SyntaxError, ValueError
            reason = f"cannot be decoded: {error}"
            return ImageFacts(path.name, "corrupt", reason, digest, "", width, height, mode, form)
    blank = float(np.asarray(grey, dtype=np.float32).std()) < BLANK_DEVIATION
    phash = "" if blank else str(imagehash.phash(grey))
    return ImageFacts(path.name, "ok", "", digest, phash, width, height, mode, form)


def group_near_images(hashes: list[str], max_bits: int) -> NDArray[np.int64]:
    """Number the images so that near-identical ones share a number.

    Parameters
    ----------
    hashes : list of str
        64-bit perceptual hashes in hexadecimal; an image with "" is alone in its group.
    max_bits : int
        Two hashes that differ in at most this many bits are of one group, and so are the ends
        of a chain of such hashes.

    Returns
    -------
    ndarray of int64, shape (len(hashes),)
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    known = np.flatnonzero([bool(value) for value in hashes])
    codes = np.array([int(hashes[i], 16) for i in known], dtype=np.uint64)
    rows: list[NDArray[np.int64]] = []
    columns: list[NDArray[np.int64]] = []
    for position, code in enumerate(codes):
        near = np.flatnonzero(np.bitwise_count(codes[position:] ^ code) <= max_bits) + position
        rows.append(np.full(len(near), known[position]))
        columns.append(known[near])
    links = np.concatenate(rows or [known]), np.concatenate(columns or [known])
    graph = coo_array((np.ones(len(links[0]), bool), links), shape=(len(hashes), len(hashes)))
    _, groups = connected_components(graph, directed=False)
    return np.asarray(groups, dtype=np.int64)
