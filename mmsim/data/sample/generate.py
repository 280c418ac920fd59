"""A small synthetic world in the WikiDiverse release layout, made on the spot and offline.

It exists so that the whole pipeline can be tried and tested without a download. Its entities are
invented, its pictures are drawn; an image goes with its caption through the entity (a look, a
few words) and through what this one picture shows (how many, which light, weather, side and
banner). Some names are shared by several entities and some entities look alike, so that neither
the words nor the image alone decide. Figures measured on it say nothing about real data.
"""

from __future__ import annotations

import json
from hashlib import md5
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from mmsim.data.filenames import image_file_name
from mmsim.data.sample.captions import Mention, Scene, context_words, describe, draw_scene
from mmsim.data.sample.defects import Row, plant_defects
from mmsim.data.sample.images import render
from mmsim.data.sample.world import World, list_candidates, make_world
from mmsim.files import replacing_folder
from mmsim.progress import track

HELD_OUT_SHARE = 0.1  # of the captions, for each of valid and test
ANONYMOUS_EVERY = 17  # each seventeenth caption mentions nobody
TAIL_EXPONENT = 1.8  # of the power law that says how often an entity is mentioned


def write_sample(destination: Path, captions: int = 400, entities: int = 50, seed: int = 0) -> None:
    """Write the sample, with a few planted defects, in the release layout.

    The same arguments give the same bytes on the same versions of numpy and Pillow.

    Parameters
    ----------
    destination : Path
        Folder to write; one that is there already is replaced.
    captions : int
        Captions in all, 60 or more: about 80 % train, 10 % valid, 10 % test. The number of
        faulty rows (about thirty, of which most can be mended) does not grow with it.
    entities : int
        Entities that captions mention, 10 or more.
    seed : int
        0 or more; another seed gives another world.
    """
    rng = np.random.default_rng(seed)
    world = make_world(entities, rng)
    splits = _make_splits(world, captions, seed, rng)
    with replacing_folder(destination) as folder:
        _write_images(folder / "wikinewsImgs", splits)
        for split, rows in splits.items():
            passages = [
                [
                    row.sentence,
                    row.image_url,
                    row.topic,
                    [[m.text, m.type, m.start, m.end, m.entity_url] for m in row.mentions],
                ]
                for row in rows
            ]
            _write_rows(folder / "wikidiverse" / f"{split}.json", passages)
            path = folder / "wikidiverse_w_cands" / f"{split}_w_10cands.json"
            _write_rows(path, _mention_records(rows))
        _write_descriptions(folder / "wikipedia_entity2desc_filtered.tsv", world)


def _make_splits(
    world: World, captions: int, seed: int, rng: np.random.Generator
) -> dict[str, list[Row]]:
    candidates = list_candidates(world, seed)
    weights = 1 / np.arange(3, len(world.entities) + 3) ** TAIL_EXPONENT
    weights /= weights.sum()
    family = world.first_family
    written: set[str] = set()

    def describe_anew(scene: Scene, short_names: bool = False) -> tuple[str, list[Mention]]:
        # The same sentence twice would leak from one split into another: once is on purpose.
        while True:
            sentence, mentions = describe(scene, candidates, rng, short_names)
            if sentence not in written:
                written.add(sentence)
                return sentence, mentions

    held_out = round(HELD_OUT_SHARE * captions)
    sizes = {"train": captions - 2 * held_out, "valid": held_out, "test": held_out}
    splits: dict[str, list[Row]] = {}
    for split, size in sizes.items():
        rows = splits[split] = []
        for number in range(size):
            first, second = rng.choice(len(world.entities), size=2, replace=False, p=weights)
            model, other = world.entities[first], world.entities[second]
            # Each split begins with one shared name that stands for different entities.
            ambiguous = number < len(family)
            if ambiguous:
                model = family[number]
            two = number % 10 >= 6
            anonymous = number % ANONYMOUS_EVERY == ANONYMOUS_EVERY - 1
            scene = draw_scene(model, other if two and not anonymous else None, anonymous, rng)
            sentence, mentions = describe_anew(scene, ambiguous)
            name = f"{model.name}_{split}_{number:05d}.jpg"
            rows.append(Row(sentence, _image_url(name), model.kind.topic, mentions, scene))
    plant_defects(splits, describe_anew)
    for rows in splits.values():
        rng.shuffle(rows)
    return splits


def _image_url(name: str) -> str:
    name = quote(name)
    digest = md5(name.encode(), usedforsecurity=False).hexdigest()
    return f"https://images.invalid/commons/{digest[0]}/{digest[:2]}/{name}"


def _mention_records(rows: list[Row]) -> list[list[Any]]:
    return [
        [
            row.sentence,
            row.image_url,
            mention.text,
            mention.type,
            *context_words(row.sentence, mention),
            mention.entity_url,
            mention.candidates,
            row.topic,
            mention.start,
            mention.end,
        ]
        for row in rows
        for mention in row.mentions
    ]


def _write_images(folder: Path, splits: dict[str, list[Row]]) -> None:
    folder.mkdir()
    rows = [row for split in splits.values() for row in split]
    with track("sample", len(rows), "images") as progress:
        for row in rows:
            if row.encode is not None:
                content = row.encode(render(row.scene))
                (folder / image_file_name(row.image_url)).write_bytes(content)
            progress.advance()


def _write_rows(path: Path, rows: list[list[Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=0), encoding="utf-8")


def _write_descriptions(path: Path, world: World) -> None:
    # The rarest entity has no description, as some of the release's have none.
    described = world.entities[:-1] + world.bystanders
    lines = [f"{entity.title}@@@@{entity.description}\n" for entity in described]
    path.write_text("".join(lines), encoding="utf-8")
