"""What a head sees: feature sequences with masks, and pairs or mentions that point into them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Sequences:
    """Token features of a batch of images or texts.

    Attributes
    ----------
    values : Tensor, float32, shape (items, tokens, dimension)
        Frozen features; padding holds anything finite.
    mask : Tensor, bool, shape (items, tokens)
        True where there is a token. Each item has at least one.
    """

    values: Tensor
    mask: Tensor


@dataclass(frozen=True)
class PairBatch:
    """Pairs of captioned images over the unique images and texts of the batch.

    An image or text that several pairs share stands once in `images` or `texts`; the pairs
    index into them, so that it is also encoded once.

    Attributes
    ----------
    images, texts : Sequences
        Unique items.
    query_image, query_text, candidate_image, candidate_text : Tensor, int64, shape (pairs,)
        Positions in `images` and `texts`.
    """

    images: Sequences
    texts: Sequences
    query_image: Tensor
    query_text: Tensor
    candidate_image: Tensor
    candidate_text: Tensor


@dataclass(frozen=True)
class LinkItems:
    """Mentions, or entities, of a batch.

    A sequence without any token (its mask is all False) says that the item has no such thing: no
    image, no attribute phrases. Entities have neither `name` nor phrases.

    Attributes
    ----------
    text : Sequences
        "mention [SEP] sentence" of a mention, "name [SEP] description" of an entity; never empty.
    image : Sequences
        Grid cells.
    name : Sequences
        The mention alone.
    objects, scene : Sequences
        Attribute phrases of what the image shows, and of the scene as a whole.
    """

    text: Sequences
    image: Sequences
    name: Sequences
    objects: Sequences
    scene: Sequences


@dataclass(frozen=True)
class RankingBatch:
    """Mentions with their gold entities and their own candidates, to learn a ranking from.

    Attributes
    ----------
    mentions : LinkItems
        M mentions.
    entities : LinkItems
        E distinct entities; the first `golds` of them are the golds of the batch, each once.
    golds : int
        Number of distinct golds, G. They are every mention's in-batch candidates: since each
        stands there once, no copy of a mention's gold is among its negatives.
    gold : Tensor, int64, shape (M,)
        Position of each mention's gold, below G.
    candidates : Tensor, int64, shape (M, C)
        Positions of each mention's own candidates among all E.
    candidate_mask : Tensor, bool, shape (M, C)
        False for padding, and for a candidate that is among the G: it counts once.
    """

    mentions: LinkItems
    entities: LinkItems
    golds: int
    gold: Tensor
    candidates: Tensor
    candidate_mask: Tensor
