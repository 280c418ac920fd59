"""The heads by name: their tasks, and what an ablation can leave out of them.

Without torch, so that parameters can be checked at once.
"""

from __future__ import annotations

from dataclasses import dataclass

NOTHING = "nothing"
"""Value of ``model.without`` that leaves nothing out."""


@dataclass(frozen=True)
class Entry:
    """One head.

    Attributes
    ----------
    tasks : tuple of str
        The tasks that it is for.
    parts : dict of str to str
        What ``model.without`` can leave out, and what that is.
    """

    tasks: tuple[str, ...]
    parts: dict[str, str]


CATALOGUE: dict[str, Entry] = {
    "siamese": Entry(
        tasks=("match", "pair", "link"),
        parts={},
    ),
    "dedup": Entry(
        tasks=("pair",),
        parts={
            "image": "the images' cosine",
            "text": "the texts' cosine",
            "cosine_losses": "the two cosine-embedding losses",
        },
    ),
    "mimic": Entry(
        tasks=("link",),
        parts={
            "text": "the text unit",
            "image": "the vision unit",
            "cross": "the cross-modal unit",
            "unit_losses": "the units' own losses",
        },
    ),
    "m3el": Entry(
        tasks=("link",),
        parts={
            "text": "the text matching",
            "image": "the image matching",
            "text_image": "the cross-modal matching led by the text",
            "image_text": "the cross-modal matching led by the image",
            "contrastive": "the intra-modal contrastive loss",
            "unit_losses": "the units' own losses",
        },
    ),
    "dwe": Entry(
        tasks=("link",),
        parts={
            "image": "the image, in the vision enhancer",
            "text": "the sentence, in the text enhancer",
            "attributes": "the attribute enhancer",
            "gate": "the gated fusion: a sum in its place",
            "alignment": "the alignment losses",
        },
    ),
}
