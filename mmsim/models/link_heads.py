"""Heads for linking, built from their configurations."""

from __future__ import annotations

from mmsim.models.dwe import DWE
from mmsim.models.link_siamese import LinkSiamese
from mmsim.models.linking import LinkConfig, LinkHead
from mmsim.models.m3el import M3EL
from mmsim.models.mimic import Mimic

LINK_HEADS: dict[str, type[LinkHead]] = {
    "siamese": LinkSiamese,
    "mimic": Mimic,
    "m3el": M3EL,
    "dwe": DWE,
}
"""The linking heads by name."""


def build_link_head(config: LinkConfig) -> LinkHead:
    """Build the linking head of this name.

    Raises
    ------
    KeyError
        If no linking head has this name.
    """
    return LINK_HEADS[config.name](config)
