"""What a head sees: feature sequences with masks, and pairs that point into them."""

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
