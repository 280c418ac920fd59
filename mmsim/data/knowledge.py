"""What a release knows of entities and images beside its captions.

Four optional files, all UTF-8, one record a line, fields separated by ``@@@@``:

=================================  =============================================================
wikipedia_entity2desc_filtered.tsv  title, description
wikipedia_entity2imgs.tsv           title, addresses of its images separated by ``[AND]``
mention_entity_prior.tsv            mention, title, P(entity | mention)
image_phrases.tsv                   file name of an image, phrases of the objects in it, phrases of
                                    the scene
=================================  =============================================================

The first two are the public release's; they have millions of lines, so only the wanted titles are
kept. The public release's prior file must be brought into this form; no release has phrases: they
are what a zero-shot tagger of the user's choice says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from mmsim.data.titles import canonical_title
from mmsim.errors import UserError

DESCRIPTIONS = "wikipedia_entity2desc_filtered.tsv"
ENTITY_IMAGES = "wikipedia_entity2imgs.tsv"
PRIOR = "mention_entity_prior.tsv"
PHRASES = "image_phrases.tsv"

KNOWLEDGE_FILES = (DESCRIPTIONS, ENTITY_IMAGES, PRIOR, PHRASES)


def read_descriptions(root: Path, wanted: Collection[str]) -> dict[str, str]:
    """Return the descriptions of the canonical titles `wanted`; the first of a title stands."""
    found: dict[str, str] = {}
    for _, fields in _records(root / DESCRIPTIONS):
        title = canonical_title(fields[0])
        if title in wanted:
            found.setdefault(title, fields[-1].strip())
    return found


def read_entity_images(root: Path, wanted: Collection[str]) -> dict[str, list[str]]:
    """Return the image addresses of the canonical titles `wanted`, in the release's order."""
    found: dict[str, list[str]] = {}
    for _, fields in _records(root / ENTITY_IMAGES):
        title = canonical_title(fields[0])
        # A header line has no address, so it is not mistaken for an entity.
        urls = [url.strip() for url in fields[-1].split("[AND]") if "://" in url]
        if title in wanted and urls:
            found.setdefault(title, urls)
    return found


def read_prior(root: Path, wanted: Collection[str]) -> list[tuple[str, str, float]]:
    """Return (mention, canonical title, probability) of the titles `wanted`.

    Raises
    ------
    UserError
        If a line has not three fields, or no probability in the last.
    """
    found = []
    for number, fields in _records(root / PRIOR):
        try:
            mention, name, share = fields
            probability = float(share)
        except ValueError as error:
            raise UserError(
                f"{root / PRIOR}, line {number}: found {'@@@@'.join(fields)[:80]!r}; expected "
                f"mention@@@@entity@@@@probability"
            ) from error
        title = canonical_title(name)
        if title in wanted:
            found.append((mention, title, probability))
    return found


def read_phrases(root: Path) -> dict[str, tuple[str, str]]:
    """Return the phrases of objects and of the scene by image file name.

    Raises
    ------
    UserError
        If a line has not three fields.
    """
    found = {}
    for number, fields in _records(root / PHRASES):
        if len(fields) != 3:
            raise UserError(
                f"{root / PHRASES}, line {number}: found {len(fields)} fields; expected "
                f"image file name@@@@object phrases@@@@scene phrases (either may be empty)"
            )
        found[fields[0]] = (fields[1].strip(), fields[2].strip())
    return found


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line numbers and fields of the lines that have several; none if there is no file."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            fields = line.rstrip("\n").split("@@@@")
            if len(fields) > 1:
                yield number, fields
