"""The sample's scenes, and the sentences that describe them."""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass
from string import Formatter

import numpy as np

from mmsim.data.sample.world import Entity

WRONG_ATTRIBUTE_SHARE = 0.05  # attributes that a caption gets wrong, as people do
SHORT_NAME_SHARE = 0.75  # mentions that use the short (for a family: the shared) name
CONTEXT_WORDS = 10

# Attributes of a single picture: value in the scene -> phrase in the caption.
LIGHTS = {"noon": "at noon", "dusk": "at dusk", "night": "at night"}
WEATHERS = {"clear": "under a clear sky", "fog": "in fog", "rain": "in the rain", "snow": "in snow"}
SIDES = {"left": "seen on the left", "centre": "in the centre", "right": "seen on the right"}
BANNERS = {
    "red": "beside a red banner",
    "yellow": "beside a yellow banner",
    "blue": "beside a blue banner",
    "white": "beside a white banner",
    "none": "with no banner in sight",
}
COUNTS = {
    1: "alone in the picture",
    2: "shown two times",
    3: "shown three times",
    4: "shown four times",
}
MONTHS = ("January", "March", "April", "May", "June", "August", "September", "October", "December")

ONE = (
    "{a}, the {label}, {action}",
    "The {label} {a} {action}",
    "A picture of {a} {action}",
    "{Word} and {trait} for {a} {action}",
    "{Trait} marks {a} {action}",
    "{a}, known for {trait}, {action}",
)
TWO = (
    "{a} and {b} {action}",
    "{a} {action} with {b}",
    "The {label} {a} {action}, near {b}",
    "{b} behind {a}, known for {trait}, {action}",
)
NONE = ("A crowd {action}", "An unnamed place {action}", "Nobody known {action}")
ACTIONS = (
    "by the {word}",
    "in front of the {word}",
    "close to the {word}",
    "behind the {word}",
    "with the {word} in view",
    "where the {word} was",
)


@dataclass(frozen=True)
class Attributes:
    """What differs from one picture of an entity to the next, and can be told in words."""

    count: int
    light: str
    weather: str
    side: str
    banner: str


@dataclass(frozen=True)
class Scene:
    """What one picture shows.

    `entity` is what it is of, None for a picture of nothing in particular; `other` stands
    small beside it. `model` lends its look and words where there is no entity.
    """

    model: Entity
    entity: Entity | None
    other: Entity | None
    attributes: Attributes
    width: int
    height: int
    seed: int


@dataclass(frozen=True)
class Mention:
    """One mention of an entity in a sentence: characters `start` to `end`."""

    text: str
    type: str
    start: int
    end: int
    entity_url: str
    candidates: list[str]


def draw_scene(
    model: Entity, other: Entity | None, anonymous: bool, rng: np.random.Generator
) -> Scene:
    """Draw the attributes of a picture of `model`, and of `other` if there is one."""
    ratio = (4 / 3, 3 / 2, 16 / 9, 1.0, 3 / 4)[int(rng.integers(5))]
    long_side = int(rng.integers(256, 321))
    width, height = (
        (long_side, round(long_side / ratio))
        if ratio >= 1
        else (round(long_side * ratio), long_side)
    )
    return Scene(
        model=model,
        entity=None if anonymous else model,
        other=other,
        attributes=_draw_attributes(rng),
        width=width,
        height=height,
        seed=int(rng.integers(2**31)),
    )


def describe(
    scene: Scene,
    candidates: dict[str, list[str]],
    rng: np.random.Generator,
    short_names: bool = False,
) -> tuple[str, list[Mention]]:
    """Write one sentence about a scene.

    Parameters
    ----------
    scene : Scene
        What the picture shows.
    candidates : dict
        Candidate titles for each surface form.
    rng : numpy.random.Generator
        Chooses template, words and noise.
    short_names : bool
        Always use the short name, which for a family of names is the ambiguous one.

    Returns
    -------
    sentence : str
    mentions : list of Mention
    """
    seen = _misremember(scene.attributes, rng)
    details = [
        LIGHTS[seen.light],
        WEATHERS[seen.weather],
        SIDES[seen.side],
        BANNERS[seen.banner],
        COUNTS[seen.count],
    ]
    told = rng.permutation(len(details))[: int(rng.integers(1, 3))]
    if scene.entity is None:
        leads: tuple[str, ...] = NONE
    else:
        leads = ONE if scene.other is None else TWO
    word, trait = _pick(scene.model.kind.words, rng), _pick(scene.model.traits, rng)
    template = ", ".join(
        [
            _pick(leads, rng).replace("{action}", _pick(ACTIONS, rng)),
            *(details[index] for index in told),
            _date(rng),
        ]
    )
    named = {"a": scene.entity, "b": scene.other}
    forms = {
        field: entity.name if short_names or rng.random() < SHORT_NAME_SHARE else entity.full_name
        for field, entity in named.items()
        if entity is not None
    }
    values = {
        **forms,
        "label": scene.model.kind.label,
        "word": word,
        "trait": trait,
        "Word": word.capitalize(),
        "Trait": trait.capitalize(),
    }
    sentence, mentions = "", []
    for literal, field, _, _ in Formatter().parse(template + "."):
        sentence += literal
        if field is None:
            continue
        entity = named.get(field)
        start = len(sentence)
        sentence += values[field]
        if entity is not None:
            mentions.append(
                Mention(
                    text=values[field],
                    type=entity.kind.type,
                    start=start,
                    end=len(sentence),
                    entity_url=f"https://en.wikipedia.org/wiki/{entity.title.replace(' ', '_')}",
                    candidates=candidates[values[field]],
                )
            )
    return sentence, mentions


def context_words(sentence: str, mention: Mention) -> tuple[list[str], list[str]]:
    """Return up to ten words to the left and to the right of a mention."""
    left = re.findall(r"\w+", sentence[: mention.start])[-CONTEXT_WORDS:]
    right = re.findall(r"\w+", sentence[mention.end :])[:CONTEXT_WORDS]
    return left, right


def _draw_attributes(rng: np.random.Generator) -> Attributes:
    return Attributes(
        count=int(rng.integers(1, 5)),
        light=_pick(tuple(LIGHTS), rng),
        weather=_pick(tuple(WEATHERS), rng),
        side=_pick(tuple(SIDES), rng),
        banner=_pick(tuple(BANNERS), rng),
    )


def _misremember(attributes: Attributes, rng: np.random.Generator) -> Attributes:
    others = _draw_attributes(rng)
    return Attributes(
        *(
            wrong if rng.random() < WRONG_ATTRIBUTE_SHARE else right
            for right, wrong in zip(astuple(attributes), astuple(others), strict=True)
        )
    )


def _pick(values: tuple[str, ...], rng: np.random.Generator) -> str:
    return values[int(rng.integers(len(values)))]


def _date(rng: np.random.Generator) -> str:
    day, month, year = rng.integers(1, 29), rng.integers(len(MONTHS)), rng.integers(1990, 2025)
    return f"on {day} {MONTHS[month]} {year}" if rng.random() < 0.5 else f"in {year}"
