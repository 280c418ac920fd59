"""Entities of the prepared tables: descriptions, images and priors from the release's lists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsim.data.images import ImageIndex, image_identity, inspect_images
from mmsim.data.knowledge import (
    read_descriptions,
    read_entity_images,
    read_phrases,
    read_prior,
)
from mmsim.data.release import IMAGE_FOLDER
from mmsim.data.tables import ENTITIES, IMAGES, PRIORS

if TYPE_CHECKING:
    import pandas as pd

NO_IMAGE = -1


def add_knowledge(
    tables: dict[str, pd.DataFrame], raw: Path, index: ImageIndex, workers: int
) -> None:
    """Add what the release knows of entities and images beside its captions.

    Parameters
    ----------
    tables : dict of str to DataFrame
        The prepared tables by name. ENTITIES gets description and image, IMAGES gets objects,
        scene and the rows of images that only entities have, and PRIORS is made.
    raw : Path
        Folder in the release layout.
    index : ImageIndex
        Of its images.
    workers : int
        Images that are decoded at a time.
    """
    import pandas as pd

    entities = tables[ENTITIES]
    row_of = dict(zip(entities["title"], entities["entity"], strict=True))
    descriptions = read_descriptions(raw, row_of)
    entities["description"] = [descriptions.get(title, "") for title in entities["title"]]
    entities["image"] = _entity_image_rows(tables, raw, index, workers)
    priors = [(form, row_of[title], share) for form, title, share in read_prior(raw, row_of)]
    tables[PRIORS] = pd.DataFrame(priors, columns=["mention", "entity", "probability"])
    phrases = read_phrases(raw)
    of_images = [phrases.get(name, ("", "")) for name in tables[IMAGES]["name"]]
    tables[IMAGES]["objects"] = [objects for objects, _ in of_images]
    tables[IMAGES]["scene"] = [scene for _, scene in of_images]


def _entity_image_rows(
    tables: dict[str, pd.DataFrame], raw: Path, index: ImageIndex, workers: int
) -> list[int]:
    """Return each entity's row in the image table, NO_IMAGE without one; append the new rows."""
    import pandas as pd

    titles, images = tables[ENTITIES]["title"], tables[IMAGES]
    name_of = {}
    for title, urls in read_entity_images(raw, set(titles)).items():
        names = (index.find(url) for url in urls)
        if found := next((name for name in names if name in index.names), None):
            name_of[title] = found
    new = [name for name in dict.fromkeys(name_of.values()) if name not in set(images["name"])]
    row_of: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    identities = [fact["sha256"] or fact["name"] for fact in images.to_dict("records")]
    known = {identity: row for row, identity in enumerate(identities)}
    group = int(images["group"].max()) + 1
    for fact in inspect_images(raw / IMAGE_FOLDER, new, workers):
        identity = image_identity(fact)
        if identity not in known:
            known[identity] = len(images) + len(rows)
            # A group of its own: near-identity is asked between captions' images only.
            rows.append({"image": known[identity], "group": group + len(rows)} | vars(fact))
        row_of[fact.name] = known[identity]
    row_of |= dict(zip(images["name"], images["image"], strict=True))
    tables[IMAGES] = pd.concat([images, pd.DataFrame(rows)], ignore_index=True) if rows else images
    return [row_of[name_of[title]] if title in name_of else NO_IMAGE for title in titles]
