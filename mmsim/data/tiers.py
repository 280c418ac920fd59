"""Hard negatives, each kind a tier of its own: what a shortcut would get wrong.

=================  ===============================================================================
tier               candidate of a query, always of other entities, another image, another caption
=================  ===============================================================================
same_form          mentions another entity by the very same words (Turkey the land, the bird)
lexical            task pair: its caption is as near to the query's as the positive's is, so that
                   word overlap is no help; task match: its caption is the nearest there is
nearest_image      its image is nearest in the 64-bit perceptual hash: alike in coarse layout
same_type_topic    shares a topic and a type of entity
=================  ===============================================================================

They are chosen by content alone, never by features, so that heads over different encoders are
measured on the same pairs. Unlike those of the random tier, their marginals are not the
positives': the one-side probe tells whether that matters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmsim.data.items import Items, Traits
from mmsim.data.negatives import Pair, identity
from mmsim.data.positives import mix
from mmsim.data.words import fit_words

Distances = Callable[[int, int], NDArray[np.float64]]
"""Of a query and its positive candidate: the distance to each item, infinite where unfit."""


@dataclass(frozen=True)
class HardNegatives:
    """The negatives of one tier: pairs of item positions, shape (n, 2), and common words."""

    pairs: NDArray[np.int64]
    forms: list[str]


def hard_negatives(
    items: Items,
    traits: Traits,
    positives: NDArray[np.int64],
    taken: set[Pair],
    cap: int,
    task: str,
) -> dict[str, HardNegatives]:
    """Return the negatives of each tier.

    Parameters
    ----------
    items, traits : Items, Traits
        The items of one split.
    positives : ndarray of int64, shape (n, 2)
        Query and candidate positions; each gets at most one negative a tier, the nearest left.
    taken : set of (int, int)
        Pairs that may not be drawn; the pairs drawn are added.
    cap : int
        Pairs of one surface form at most (tier same_form).
    task : {"match", "pair"}
    """
    rules = _Rules(items, ordered=task == "match")
    # By content: which of two queries gets a candidate that both want is no matter of row order.
    hashes = mix(items.key[positives[:, 0]], items.key[positives[:, 1]])
    positives = positives[np.argsort(hashes, kind="stable")]
    tiers = {"same_form": _same_form(traits, rules, taken, cap)}
    distances: dict[str, Distances] = {
        "lexical": _lexical(traits, task),
        "nearest_image": _nearest_image(traits),
        "same_type_topic": _same_type_topic(traits),
    }
    for tier, distance in distances.items():
        tiers[tier] = _nearest(positives, rules, distance, taken)
    return tiers


class _Rules:
    """What every negative keeps to, whatever its tier."""

    def __init__(self, items: Items, ordered: bool) -> None:
        from scipy.sparse import csr_array

        self.items, self.ordered = items, ordered
        rows = np.repeat(np.arange(len(items)), [len(gold) for gold in items.gold])
        columns = np.array([e for gold in items.gold for e in gold], dtype=np.int64)
        shape = (len(items), int(columns.max(initial=0)) + 1)
        self._gold = csr_array((np.ones(len(rows), np.int32), (rows, columns)), shape=shape)

    def allowed(self, query: int) -> NDArray[np.bool_]:
        """Tell of each item whether it may be a negative of `query`."""
        items = self.items
        common = (self._gold @ self._gold[[query]].T).toarray()[:, 0] > 0
        return np.asarray(
            ~common
            & (items.image_group != items.image_group[query])
            & (items.text_group != items.text_group[query])
        )


def _nearest(
    positives: NDArray[np.int64], rules: _Rules, distance: Distances, taken: set[Pair]
) -> HardNegatives:
    key, chosen = rules.items.key, []
    for query, positive in positives.tolist():
        far = np.where(rules.allowed(query), distance(query, positive), np.inf)
        # Ties are settled by content, so that the order of rows does not matter.
        for candidate in np.lexsort((mix(key[query], key), far)).tolist():
            if not np.isfinite(far[candidate]):
                break
            pair = identity(query, candidate, rules.ordered)
            if pair not in taken:
                taken.add(pair)
                chosen.append((query, candidate))
                break
    return HardNegatives(np.array(chosen, dtype=np.int64).reshape(-1, 2), [""] * len(chosen))


def _same_form(traits: Traits, rules: _Rules, taken: set[Pair], cap: int) -> HardNegatives:
    members: dict[str, list[int]] = defaultdict(list)
    for position, forms in enumerate(traits.forms):
        for form in forms:
            members[form].append(position)
    chosen, names = [], []
    for form in sorted(form for form, positions in members.items() if len(positions) > 1):
        kept = [
            (query, candidate)
            for _, query, candidate in sorted(_conflicts(rules, members[form]))
            if identity(query, candidate, rules.ordered) not in taken
        ][:cap]
        taken.update(identity(query, candidate, rules.ordered) for query, candidate in kept)
        chosen += kept
        names += [form] * len(kept)
    return HardNegatives(np.array(chosen, dtype=np.int64).reshape(-1, 2), names)


def _conflicts(rules: _Rules, positions: list[int]) -> Iterator[tuple[int, int, int]]:
    """Yield (hash, query, candidate) of items with a common form and no common entity."""
    key = rules.items.key
    for query in positions:
        allowed = rules.allowed(query)
        for candidate in positions:
            if allowed[candidate] and (rules.ordered or key[query] < key[candidate]):
                yield int(mix(key[query], key[candidate])[0]), query, candidate


def _lexical(traits: Traits, task: str) -> Distances:
    words = fit_words(traits.captions).transform(traits.captions)

    def distance(query: int, positive: int) -> NDArray[np.float64]:
        similarity = (words @ words[query].T).toarray()[:, 0]
        wanted = similarity[positive] if task == "pair" else 1.0
        return np.asarray(np.abs(similarity - wanted), dtype=np.float64)

    return distance


def _nearest_image(traits: Traits) -> Distances:
    known = np.array([bool(value) for value in traits.image_hashes])
    codes = np.array([int(value or "0", 16) for value in traits.image_hashes], dtype=np.uint64)

    def distance(query: int, _: int) -> NDArray[np.float64]:
        bits = np.bitwise_count(codes ^ codes[query]).astype(np.float64)
        return np.where(known & known[query], bits, np.inf)

    return distance


def _same_type_topic(traits: Traits) -> Distances:
    topics = np.array(traits.topics)

    def distance(query: int, _: int) -> NDArray[np.float64]:
        types = traits.types[query]
        fit = np.array([not types.isdisjoint(other) for other in traits.types])
        return np.where(fit & (topics == topics[query]), 0.0, np.inf)

    return distance
