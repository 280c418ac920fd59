"""The sample's invented world: who and what there is, how it is called and how it looks."""

from __future__ import annotations

import colorsys
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

RGB = tuple[float, float, float]

FAMILY_SHARE = 0.4  # of the entities have a name that another entity has too
FAMILY_SIZES = (2, 3, 4)
LOOKALIKE_EVERY = 7  # each seventh entity looks like an earlier one of its type
BYSTANDERS = 12  # entities that are candidates and have descriptions, but are never mentioned
CANDIDATES = 10
TEXTURES = ("plain", "bars", "bands", "checks", "dots", "waves")


@dataclass(frozen=True)
class Kind:
    """What an entity is: its type and topic, how its full name is built, words that go with it."""

    type: str
    label: str
    topic: str
    full_name: str
    words: tuple[str, ...]


KINDS = (
    Kind("Person", "singer", "entertain", "{given} {name}", ("stage", "song", "album")),
    Kind("Person", "footballer", "sports", "{given} {name}", ("goal", "pitch", "jersey")),
    Kind("Person", "minister", "politic", "{given} {name}", ("speech", "cabinet", "vote")),
    Kind("Location", "city", "politic", "{name} City", ("street", "square", "mayor")),
    Kind("Location", "river", "disaster", "River {name}", ("flood", "bank", "bridge")),
    Kind("Location", "island", "weather", "{name} Island", ("beach", "cliff", "ferry")),
    Kind("Organization", "company", "economy", "{name} Works", ("factory", "shares", "office")),
    Kind("Organization", "club", "sports", "{name} United", ("team", "stadium", "coach")),
    Kind("Organization", "hospital", "health", "{name} Hospital", ("ward", "doctor", "patients")),
    Kind("Event", "festival", "entertain", "{name} Festival", ("parade", "music", "dancers")),
    Kind("Event", "cup", "sports", "{name} Cup", ("final", "trophy", "match")),
    Kind("Event", "storm", "disaster", "Storm {name}", ("wind", "damage", "rescue")),
    Kind("Other", "satellite", "technology", "{name} Orbiter", ("launch", "signal", "orbit")),
    Kind("Other", "car", "technology", "{name} Roadster", ("engine", "wheel", "road")),
    Kind("Other", "medicine", "health", "{name} Tablet", ("dose", "trial", "vaccine")),
)

# Each entity is known for three of these.
TRAITS = (
    "amber", "anchor", "apple", "arrow", "barley", "basket", "beacon", "bell", "birch", "bread",
    "bronze", "candle", "canvas", "cedar", "clay", "clover", "coal", "copper", "coral", "cotton",
    "crystal", "dolphin", "eagle", "ember", "falcon", "feather", "fern", "flint", "garden",
    "ginger", "glass", "granite", "hammer", "harbour", "hazel", "honey", "iron", "ivory",
    "jasmine", "kite", "lantern", "leather", "lemon", "lily", "linen", "lion", "maple", "marble",
    "mint", "moss", "needle", "oak", "olive", "orchid", "owl", "paper", "pearl", "pepper", "pine",
    "plum", "pottery", "quilt", "raven", "ribbon", "rope", "rose", "saddle", "salt", "sand",
    "silk", "silver", "spice", "stone", "sugar", "swan", "tea", "thistle", "thread", "tiger",
    "timber", "velvet", "violet", "walnut", "wax", "wheat", "willow", "wool",
)  # fmt: skip

SYLLABLES = (
    "ba", "bre", "cor", "da", "del", "dra", "el", "fen", "gal", "hal", "il", "jor", "ka", "lan",
    "lor", "mar", "mer", "na", "nor", "or", "pel", "que", "ra", "ro", "sel", "sor", "ta", "tal",
    "ten", "ul", "va", "vel", "vi", "wen", "yar", "zan", "é", "ø",
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """What all pictures of one entity have in common; colours are from 0 to 1."""

    sky: RGB
    ground: RGB
    figure: RGB
    texture: str
    period: float  # of the texture, in parts of the picture's shorter side
    variant: int  # which of the shapes of its type


@dataclass(frozen=True)
class Entity:
    """One thing of the world; entities stand in order of how often they are mentioned."""

    title: str
    name: str
    full_name: str
    shares_name: bool
    kind: Kind
    traits: tuple[str, ...]
    look: Look

    @property
    def description(self) -> str:
        """Return the text of the description file."""
        first, second, third = self.traits
        words = ", ".join(self.kind.words[:-1])
        return (
            f"{self.full_name} is a {self.kind.label} known for {first}, {second} and {third}. "
            f"Topics: {self.kind.topic}, {words} and {self.kind.words[-1]}."
        )


@dataclass(frozen=True)
class World:
    """All entities: those that captions mention, and bystanders."""

    entities: tuple[Entity, ...]
    bystanders: tuple[Entity, ...]

    @property
    def first_family(self) -> list[Entity]:
        """Return the commonest entities that share one name."""
        name = next(entity.name for entity in self.entities if entity.shares_name)
        return [entity for entity in self.entities if entity.name == name]


def make_world(entities: int, rng: np.random.Generator) -> World:
    """Invent `entities` entities, and `BYSTANDERS` more that no caption mentions."""
    names: set[str] = set()
    made: list[Entity] = []
    in_families = max(2, int(FAMILY_SHARE * entities))
    while len(made) < in_families:
        size = FAMILY_SIZES[len(names) % len(FAMILY_SIZES)]
        size = min(size, entities - len(made))
        name = _new_name(names, rng)
        for kind in rng.choice(len(KINDS), size=size, replace=False):
            made.append(_make_entity(name, KINDS[kind], size > 1, made, rng))
    while len(made) < entities + BYSTANDERS:
        kind = KINDS[int(rng.integers(len(KINDS)))]
        made.append(_make_entity(_new_name(names, rng), kind, False, made, rng))
    mentioned = [made[index] for index in rng.permutation(entities)]
    return World(tuple(mentioned), tuple(made[entities:]))


def list_candidates(world: World, seed: int) -> dict[str, list[str]]:
    """Return ten candidate titles (with underscores) for each surface form.

    A list belongs to a form, as in the release: first everything of that name, then others.
    Where three or more share a name the rarest is left out, so that now and then the right
    answer is not on the list.
    """
    by_form: dict[str, list[Entity]] = defaultdict(list)
    for entity in world.entities:
        by_form[entity.name].append(entity)
        by_form[entity.full_name].append(entity)
    everyone = world.entities + world.bystanders
    lists = {}
    for number, (form, meant) in enumerate(by_form.items()):
        rng = np.random.default_rng([seed, number])
        listed = [entity.title for entity in (meant[:-1] if len(meant) > 2 else meant)]
        left_out = {entity.title for entity in meant}
        for index in rng.choice(len(everyone), size=CANDIDATES + len(meant), replace=False):
            if len(listed) < CANDIDATES and everyone[index].title not in left_out:
                listed.append(everyone[index].title)
        lists[form] = [listed[index].replace(" ", "_") for index in rng.permutation(len(listed))]
    return lists


def _new_name(taken: set[str], rng: np.random.Generator) -> str:
    while True:
        length = int(rng.integers(2, 4))
        name = "".join(SYLLABLES[index] for index in rng.integers(len(SYLLABLES), size=length))
        if len(name) > 3 and name.title() not in taken:
            taken.add(name.title())
            return name.title()


def _make_entity(
    name: str, kind: Kind, shares_name: bool, earlier: list[Entity], rng: np.random.Generator
) -> Entity:
    full_name = kind.full_name.format(name=name, given=_new_name(set(), rng))
    alike = [entity for entity in earlier if entity.kind.type == kind.type]
    if alike and len(earlier) % LOOKALIKE_EVERY == LOOKALIKE_EVERY - 1:
        look = alike[int(rng.integers(len(alike)))].look
    else:
        look = _make_look(rng)
    traits = rng.choice(len(TRAITS), size=3, replace=False)
    return Entity(
        title=f"{name} ({kind.label})" if shares_name else full_name,
        name=name,
        full_name=full_name,
        shares_name=shares_name,
        kind=kind,
        traits=tuple(TRAITS[index] for index in traits),
        look=look,
    )


def _make_look(rng: np.random.Generator) -> Look:
    sky, ground, figure = rng.random(3)
    return Look(
        sky=_rgb(sky, rng.uniform(0.15, 0.7), rng.uniform(0.65, 0.95)),
        ground=_rgb(ground, rng.uniform(0.2, 0.7), rng.uniform(0.3, 0.65)),
        figure=_rgb(figure, rng.uniform(0.6, 1.0), rng.uniform(0.35, 0.95)),
        texture=TEXTURES[int(rng.integers(len(TEXTURES)))],
        period=float(rng.uniform(0.06, 0.18)),
        variant=int(rng.integers(3)),
    )


def _rgb(hue: float, saturation: float, value: float) -> RGB:
    return colorsys.hsv_to_rgb(float(hue), float(saturation), float(value))
