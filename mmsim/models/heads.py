"""Heads for pairs, built from their configurations."""

from __future__ import annotations

from mmsim.models.dedup import Dedup, DedupConfig
from mmsim.models.siamese import Siamese, SiameseConfig

PairConfig = SiameseConfig | DedupConfig
"""Configuration of a head for task match or pair."""

PairHead = Siamese | Dedup
"""A head that scores pairs."""


def build_pair_head(config: PairConfig) -> PairHead:
    """Build the head of task match or pair that a configuration describes."""
    return Dedup(config) if isinstance(config, DedupConfig) else Siamese(config)
