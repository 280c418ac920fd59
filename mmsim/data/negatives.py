"""Negatives with the positives' own marginals.

The candidates of the positives are dealt out anew among their queries. Every query and every
candidate then stands in as many negatives as positives, so neither side alone says anything
about the label: a model must compare the two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmsim.data.items import Items

Pair = tuple[int, int]

ROUNDS = 200
"""Passes of repair after which a query is given up. Each pass mends most of what is left."""


def deal_negatives(
    items: Items,
    positives: NDArray[np.int64],
    rng: np.random.Generator,
    taken: set[Pair],
    ordered: bool,
) -> NDArray[np.int64]:
    """Give each positive's query the candidate of another positive.

    Parameters
    ----------
    items : Items
        The items of one split.
    positives : ndarray of int64, shape (n, 2)
        Query and candidate positions in `items`.
    rng : Generator
        Source of the draw.
    taken : set of (int, int)
        Pairs that may not be drawn; the pairs drawn are added.
    ordered : bool
        True where (i, j) and (j, i) are two pairs, as for an image and a caption.

    Returns
    -------
    ndarray of int64, shape (m, 2), m <= n
        Negatives. The two items share no image, near-identical image, caption or gold entity,
        and no pair stands twice. Queries for which no such candidate was left are dropped: then,
        and only then, the marginals differ by those rows.
    """
    queries, dealt = positives[:, 0], rng.permutation(positives[:, 1])
    for _ in range(ROUNDS):
        wrong = np.flatnonzero(~_allowed(items, queries, dealt, taken, ordered))
        if not len(wrong):
            break
        # Exchange candidates with rows drawn at random; keep only exchanges that mend a row and
        # spoil none.
        for row in wrong:
            other = int(rng.integers(len(dealt)))
            pair = np.array([row, other])
            swapped = dealt[pair[::-1]]
            fine = _allowed(items, queries[pair], swapped, taken, ordered)
            was_fine = _allowed(items, queries[[other]], dealt[[other]], taken, ordered)[0]
            if fine[0] and (fine[1] or not was_fine):
                dealt[pair] = swapped
    keep = _allowed(items, queries, dealt, taken, ordered)
    negatives = np.stack([queries, dealt], axis=1)[keep]
    taken.update(identity(query, candidate, ordered) for query, candidate in negatives)
    return negatives


def _allowed(
    items: Items,
    queries: NDArray[np.int64],
    candidates: NDArray[np.int64],
    taken: set[Pair],
    ordered: bool,
) -> NDArray[np.bool_]:
    """Tell of each row whether its query and candidate may be a negative, and stand once."""
    allowed = (items.image_group[queries] != items.image_group[candidates]) & (
        items.text_group[queries] != items.text_group[candidates]
    )
    seen: set[Pair] = set()
    for row in np.flatnonzero(allowed):
        pair = identity(queries[row], candidates[row], ordered)
        disjoint = items.gold[queries[row]].isdisjoint(items.gold[candidates[row]])
        allowed[row] = disjoint and pair not in taken and pair not in seen
        seen.add(pair)
    return allowed


def identity(query: int, candidate: int, ordered: bool) -> Pair:
    """Return what a pair is known by: where no order is kept, the same either way round."""
    pair = (int(query), int(candidate))
    return pair if ordered else (min(pair), max(pair))
