"""From a release to clean tables: instances, images, texts and entities.

Rules
-----
* Nothing vanishes: each record left out is counted under a reason, each record mended under
  another (`exclusions.json`, and as a table in `exclusions.txt`).
* A caption or image that stands in several splits stays in the last of train, valid, test, so
  that the released test set is kept whole: every record of the others is left out.
* NIL is no entity: such mentions are kept, with no gold.
* Entities are those of the kept mentions, then those that are candidates only. An entity's image is
  the first of the release's list whose file is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsim.data.entities import add_knowledge
from mmsim.data.exclusions import Tally
from mmsim.data.images import (
    ImageFacts,
    ImageIndex,
    group_near_images,
    image_identity,
    inspect_images,
)
from mmsim.data.release import IMAGE_FOLDER, SPLITS, Caption, Mention, read_release
from mmsim.data.tables import ENTITIES, IMAGES, INSTANCES, TEXTS, write_table
from mmsim.data.titles import canonical_title, is_nil, title_from_url
from mmsim.errors import UserError
from mmsim.files import replacing_file, replacing_folder, write_json

if TYPE_CHECKING:
    import pandas as pd

NO_ENTITY = -1


def prepare(
    raw: Path, destination: Path, near_bits: int, max_excluded: float, workers: int
) -> Tally:
    """Write the tables of the release in `raw` to the folder `destination`.

    Parameters
    ----------
    raw : Path
        Folder in the release layout.
    destination : Path
        Replaced as a whole, and only if all went well.
    near_bits : int
        Two images whose perceptual hashes differ in at most this many bits are one image.
    max_excluded : float
        Largest share of records that may be left out, or have no usable image.
    workers : int
        Images that are decoded at a time.

    Raises
    ------
    UserError
        If no release is there, or too much of it would be left out.
    """
    release = read_release(raw)
    tally = Tally()
    for split in SPLITS:
        tally.excluded["malformed record"][split] = release.malformed.get(split, 0)
        tally.mended["record repeated, merged"][split] = release.repeated.get(split, 0)

    captions = [caption for caption in release.captions if _has_text(caption, tally)]
    image_folder = raw / IMAGE_FOLDER
    index = ImageIndex(image_folder)
    name_of = {caption.image_url: index.find(caption.image_url) for caption in captions}
    names = list(dict.fromkeys(name_of.values()))
    facts = {fact.name: fact for fact in inspect_images(image_folder, names, workers)}
    images = {url: facts[name] for url, name in name_of.items()}

    groups = group_near_images([fact.perceptual_hash for fact in facts.values()], near_bits)
    group_of = _joined_by_content(facts, groups.tolist())

    captions = _without_cross_split_duplicates(captions, images, group_of, tally)
    tables = _build_tables(captions, images, group_of, tally)
    add_knowledge(tables, raw, index, workers)
    tally.kept.update(tables[INSTANCES]["split"])
    tally.images.update(fact.status for fact in facts.values())
    _check_losses(tally, tables, max_excluded, images_expected=bool(index.names))
    with replacing_folder(destination) as folder:
        for name, table in tables.items():
            write_table(folder / name, table)
        write_json(folder / "exclusions.json", tally.as_json())
        with replacing_file(folder / "exclusions.txt") as path:
            path.write_text(tally.as_table(), encoding="utf-8")
    return tally


def _has_text(caption: Caption, tally: Tally) -> bool:
    if caption.sentence.strip():
        return True
    tally.excluded["caption is empty"][caption.split] += max(len(caption.mentions), 1)
    return False


def _joined_by_content(facts: dict[str, ImageFacts], groups: list[int]) -> dict[str, int]:
    """Map each image identity to the group of its first file."""
    group_of: dict[str, int] = {}
    for fact, group in zip(facts.values(), groups, strict=True):
        group_of.setdefault(image_identity(fact), group)
    return group_of


def _caption_key(sentence: str) -> str:
    return " ".join(sentence.casefold().split())


def _without_cross_split_duplicates(
    captions: list[Caption],
    images: dict[str, ImageFacts],
    group_of: dict[str, int],
    tally: Tally,
) -> list[Caption]:
    """Drop every caption whose text or image, exact or near, also stands in a later split."""
    later_texts: set[str] = set()
    later_images: set[str] = set()
    later_groups: set[int] = set()
    kept: list[Caption] = []
    for split in reversed(SPLITS):
        here = [caption for caption in captions if caption.split == split]
        identities = [image_identity(images[caption.image_url]) for caption in here]
        for caption, identity in zip(here, identities, strict=True):
            if _caption_key(caption.sentence) in later_texts:
                reason = "caption also in a later split"
            elif identity in later_images:
                reason = "image also in a later split"
            elif group_of[identity] in later_groups:
                reason = "near-identical image in a later split"
            else:
                kept.append(caption)
                continue
            tally.excluded[reason][split] += max(len(caption.mentions), 1)
        later_texts |= {_caption_key(caption.sentence) for caption in here}
        later_images |= set(identities)
        later_groups |= {group_of[identity] for identity in identities}
    return sorted(kept, key=lambda caption: SPLITS.index(caption.split))


class _Numbering:
    """Row numbers for unique values, in order of first sight."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}

    def __call__(self, value: str) -> int:
        return self.rows.setdefault(value, len(self.rows))


def _build_tables(
    captions: list[Caption],
    images: dict[str, ImageFacts],
    group_of: dict[str, int],
    tally: Tally,
) -> dict[str, pd.DataFrame]:
    import pandas as pd

    text_row, image_row, entity_row = _Numbering(), _Numbering(), _Numbering()
    caption_group = _Numbering()
    fact_of: dict[str, ImageFacts] = {}
    instances: list[dict[str, Any]] = []
    for caption in captions:
        fact = images[caption.image_url]
        identity = image_identity(fact)
        fact_of.setdefault(identity, fact)
        shared = {
            "split": caption.split,
            "text": text_row(" ".join(caption.sentence.split())),
            "image": image_row(identity),
            "topic": caption.topic,
        }
        mentions = list(_usable_mentions(caption, tally))
        for mention, title in mentions:
            start, end = _span(caption, mention, tally)
            instances.append(
                shared
                | {
                    "mention": mention.surface,
                    "start": start,
                    "end": end,
                    "type": mention.type,
                    "entity": NO_ENTITY if title is None else entity_row(title),
                    "nil": title is None,
                    "candidates": [canonical_title(name) for name in mention.candidates],
                }
            )
        if not mentions:
            blank = {"mention": "", "start": -1, "end": -1, "type": ""}
            instances.append(shared | blank | {"entity": NO_ENTITY, "nil": False, "candidates": []})

    table = pd.DataFrame(instances)
    table.insert(0, "instance", range(len(table)))
    titles = list(entity_row.rows)
    candidates = dict.fromkeys(title for listed in table["candidates"] for title in listed)
    titles += [title for title in candidates if title not in entity_row.rows]
    mentions_of = table["entity"].value_counts().reindex(range(len(titles)), fill_value=0)
    return {
        INSTANCES: table,
        IMAGES: pd.DataFrame(
            [
                {"image": row, "group": group_of[key]} | vars(fact_of[key])
                for key, row in image_row.rows.items()
            ]
        ),
        TEXTS: pd.DataFrame(
            [
                {
                    "text": row,
                    "group": caption_group(_caption_key(text)),
                    "content": text,
                    "kind": "caption",
                }
                for text, row in text_row.rows.items()
            ]
        ),
        ENTITIES: pd.DataFrame(
            {"entity": range(len(titles)), "title": titles, "mentions": mentions_of.to_numpy()}
        ),
    }


def _usable_mentions(caption: Caption, tally: Tally) -> Iterator[tuple[Mention, str | None]]:
    """Yield each mention with its canonical gold title, None for NIL."""
    for mention in caption.mentions:
        if is_nil(mention.entity_url):
            tally.mended["NIL mention, kept without gold"][caption.split] += 1
            yield mention, None
            continue
        url = str(mention.entity_url)
        title = title_from_url(url)
        if title is None:
            tally.excluded["entity address is no Wikipedia article"][caption.split] += 1
            continue
        if not url.startswith(("https://en.wikipedia.org/wiki/", "http://en.wikipedia.org/wiki/")):
            tally.mended["entity address repaired"][caption.split] += 1
        yield mention, title


def _span(caption: Caption, mention: Mention, tally: Tally) -> tuple[int, int]:
    """Return the mention's span in the white-space-normalised caption, (-1, -1) if absent."""
    text = " ".join(caption.sentence.split())
    if text == caption.sentence and text[mention.start : mention.end] == mention.surface:
        return mention.start, mention.end
    surface = " ".join(mention.surface.split())
    if caption.sentence[mention.start : mention.end] == mention.surface:
        before = caption.sentence[: mention.start]
        start = len(" ".join(before.split())) + (before != before.rstrip() and bool(before.strip()))
        return start, start + len(surface)
    start = text.find(surface)
    if surface and start >= 0:
        tally.mended["mention found elsewhere in the caption"][caption.split] += 1
        return start, start + len(surface)
    tally.mended["mention not in the caption, kept without span"][caption.split] += 1
    return -1, -1


def _check_losses(
    tally: Tally, tables: dict[str, pd.DataFrame], max_excluded: float, images_expected: bool
) -> None:
    """Refuse a release of which too much is lost. A release without images is no loss."""
    excluded = tally.total_excluded
    kept = len(tables[INSTANCES])
    lost = excluded
    detail = f"{excluded} records left out"
    if images_expected:
        usable = set(tables[IMAGES].loc[tables[IMAGES]["status"] == "ok", "image"])
        unusable = kept - int(tables[INSTANCES]["image"].isin(usable).sum())
        lost += unusable
        detail += f", {unusable} without a usable image"
    share = lost / max(excluded + kept, 1)
    if share > max_excluded:
        raise UserError(
            f"{share:.1%} of {excluded + kept} records cannot be used ({detail}); "
            f"data.max_excluded allows {max_excluded:.0%}. Nothing was written. "
            f"Raise data.max_excluded if this is right.\n{tally.as_table()}"
        )
