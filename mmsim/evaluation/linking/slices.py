"""Parts of the test mentions that are reported apart."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from mmsim.data.items import surface_form
from mmsim.evaluation.linking.lists import ABSENT, LinkTables, candidate_lists, gold_entities
from mmsim.evaluation.slices import Rows, frequency_rows, slice_key

if TYPE_CHECKING:
    import pandas as pd

_DISAMBIGUATOR = re.compile(r"(?<=\S)\s+\([^()]*\)$")


def bare_title(title: str) -> str:
    """Return a title without the parenthesis at its end that tells it from others.

    Examples
    --------
    >>> bare_title("Mercury (planet)")
    'Mercury'
    """
    return _DISAMBIGUATOR.sub("", title.strip())


def slice_rows(tables: LinkTables) -> dict[str, Rows]:
    """Return the test mentions of each slice, each of shape (test mentions,).

    By type and topic, and whether the mention has an image: of all mentions. Of those with a gold
    entity alone: by whether training links to that entity and how often, whether the form names
    several entities in training and test, whether it is the entity's title (small letters, without
    a parenthesis at the end), and ``gold_in_candidates``.
    """
    test, gold = tables.test, gold_entities(tables.test)
    linked = gold != ABSENT
    known = np.isin(gold, gold_entities(tables.train))
    several = test["form"].isin(ambiguous_forms(tables.train, tables.test)).to_numpy(dtype=bool)
    titles = [surface_form(bare_title(title)) for title in tables.entities["title"]]
    exact = np.array(
        [
            entity != ABSENT and form == titles[entity]
            for form, entity in zip(test["form"], gold, strict=True)
        ],
        dtype=bool,
    )
    image = (test["image"] != ABSENT).to_numpy(dtype=bool)
    listed = (candidate_lists(test)[:, :-1] == gold[:, None]).any(axis=1)
    return (
        _attribute_rows(test)
        | {"seen_entity": linked & known, "unseen_entity": linked & ~known}
        | frequency_rows(
            # Mentions are what positives are among pairs; which split they are of is known here.
            test[["entity"]].assign(label=1, tier=""),
            tables.train[["entity"]].assign(split="train"),
        )
        | {"ambiguous_form": linked & several, "unambiguous_form": linked & ~several}
        | {"exact_title": exact, "other_title": linked & ~exact}
        | {"has_image": image, "no_image": ~image, "gold_in_candidates": linked & listed}
    )


def ambiguous_forms(*splits: pd.DataFrame) -> list[str]:
    """Return the surface forms whose mentions in the splits have several gold entities, sorted."""
    meant: dict[str, set[int]] = {}
    for mentions in splits:
        for form, entity in zip(mentions["form"], gold_entities(mentions), strict=True):
            if entity != ABSENT:
                meant.setdefault(form, set()).add(int(entity))
    return sorted(form for form, entities in meant.items() if len(entities) > 1)


def _attribute_rows(test: pd.DataFrame) -> dict[str, Rows]:
    """Return the mentions of each type and topic; names that make the same key are one slice."""
    found: dict[str, Rows] = {}
    for column in ("type", "topic"):
        values = test[column].to_numpy(dtype=object)
        for value in sorted({v for v in values if isinstance(v, str) and v}):
            if name := slice_key(value):
                found[name] = found.get(name, np.zeros(len(test), dtype=bool)) | (values == value)
    return found
