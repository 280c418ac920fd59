"""What simple rules score when linking: the figures that a head must beat.

=================  =============================================================================
baseline           score of a mention with an entity
=================  =============================================================================
memorised_form     how often training links the mention's form to the entity
prior              P(entity | form) of a table that comes with the data, if there is one
string_similarity  likeness of the mention's form and the title without a disambiguator
tfidf              TF-IDF cosine of the sentence and the title with its description
frozen_cosine      cosine of the mean frozen features of the mention's and the entity's text
list_order         the place in the released list (there is none among all entities)
=================  =============================================================================

Each scores a few mentions against all entities at a time; the scores of a list are picked out of
these, so that lists and pool are of one rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsim.data.items import surface_form
from mmsim.data.words import fit_words
from mmsim.evaluation.linking.lists import ABSENT, LinkTables, candidate_lists, gold_entities
from mmsim.evaluation.linking.ranks import matrix_ranks
from mmsim.evaluation.linking.slices import bare_title

if TYPE_CHECKING:
    import pandas as pd

BLOCK = 64
"""Mentions scored against all entities at a time."""

Rule = Callable[[NDArray[np.int64]], NDArray[np.floating]]
"""Scores of some test mentions, given by their positions, with all entities: (m, entities)."""

Shares = Mapping[str, Mapping[int, float]]
"""By surface form and entity row number."""


@dataclass(frozen=True)
class BaselineScores:
    """What a rule says of the test mentions.

    Attributes
    ----------
    lists : ndarray of float64, shape (test mentions, L + 1)
        Of the entities in `mmsim.evaluation.linking.lists.candidate_lists`, -inf for padding.
    pool_ranks : ndarray of float64, shape (test mentions with a gold,), or None
        Rank of each gold among all entities; None for a rule about lists alone.
    """

    lists: NDArray[np.float64]
    pool_ranks: NDArray[np.float64] | None


def baseline_scores(
    tables: LinkTables, text_means: NDArray[np.float32], prior: Shares | None = None
) -> dict[str, BaselineScores]:
    """Return what every baseline says of the test mentions.

    Parameters
    ----------
    tables : LinkTables
    text_means : ndarray of float32, shape (texts, dim)
        The mean of each text's frozen features, by row number.
    prior : mapping of str to mapping of int to float, optional
        P(entity | form) by surface form and entity row number; without it, or where it is empty,
        there is no such baseline.
    """
    count = len(tables.entities)
    rules: dict[str, Rule] = {
        "memorised_form": by_form(training_links(tables.train), tables.test, count),
        "string_similarity": string_similarity(tables.test, tables.entities),
        "tfidf": tfidf(tables),
        "frozen_cosine": frozen_cosine(tables, text_means),
    }
    if prior:
        rules["prior"] = by_form(prior, tables.test, count)
    lists, gold = candidate_lists(tables.test), gold_entities(tables.test)
    found = {name: apply_rule(rule, lists, gold) for name, rule in rules.items()}
    return found | {"list_order": list_order(lists)}


def apply_rule(rule: Rule, lists: NDArray[np.int64], gold: NDArray[np.int64]) -> BaselineScores:
    """Score the lists and rank the golds among all entities, `BLOCK` mentions at a time."""
    scores, ranks = np.full(lists.shape, -np.inf), np.full(len(lists), np.inf)
    for start in range(0, len(lists), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(lists)))
        found = rule(rows)
        there, linked = lists[rows] != ABSENT, gold[rows] != ABSENT
        listed = np.take_along_axis(found, np.where(there, lists[rows], 0), axis=1)
        scores[rows] = np.where(there, listed, -np.inf)
        ranks[rows[linked]] = matrix_ranks(found[linked], gold[rows][linked])
    return BaselineScores(scores, ranks[gold != ABSENT])


def list_order(lists: NDArray[np.int64]) -> BaselineScores:
    """Return the released order as scores; a gold that is not in it comes last of all."""
    places = np.broadcast_to(-np.arange(lists.shape[1], dtype=np.float64), lists.shape)
    return BaselineScores(np.where(lists != ABSENT, places, -np.inf), None)


def training_links(train: pd.DataFrame) -> Shares:
    """Return how many training mentions of each form have each entity as gold."""
    links: dict[str, dict[int, float]] = {}
    for form, entity in zip(train["form"], gold_entities(train), strict=True):
        if entity != ABSENT:
            of_form = links.setdefault(form, {})
            of_form[int(entity)] = of_form.get(int(entity), 0.0) + 1
    return links


def by_form(shares: Shares, test: pd.DataFrame, entities: int) -> Rule:
    """Return the rule that looks the mention's form and the entity up; unknown ones score 0."""
    forms = test["form"].tolist()

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        found = np.zeros((len(rows), entities))
        for place, row in enumerate(rows):
            for entity, share in shares.get(forms[row], {}).items():
                found[place, entity] = share
        return found

    return scores


def string_similarity(test: pd.DataFrame, entities: pd.DataFrame) -> Rule:
    """Return the rule that compares the letters of form and title.

    2 x (longest common subsequence) / (letters of both), times 100: 1 - normalised indel distance.
    """
    from rapidfuzz import fuzz, process

    forms = test["form"].tolist()
    titles = [surface_form(bare_title(title)) for title in entities["title"]]

    def scores(rows: NDArray[np.int64]) -> NDArray[np.floating]:
        return process.cdist([forms[row] for row in rows], titles, scorer=fuzz.ratio)

    return scores


def tfidf(tables: LinkTables) -> Rule:
    """Return the rule that compares the words of sentence and entity.

    Words and their frequencies are those of the training sentences and of all entities' texts.
    """
    entities = tables.entities
    described = zip(entities["title"], entities["description"], strict=True)
    contents = [f"{title} {description}" for title, description in described]
    # A sentence with several mentions is one text.
    words = fit_words([*dict.fromkeys(tables.train["sentence"]), *contents])
    sentences = words.transform(tables.test["sentence"])
    columns = words.transform(contents).T.tocsr()

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray((sentences[rows] @ columns).toarray(), dtype=np.float64)

    return scores


def frozen_cosine(tables: LinkTables, text_means: NDArray[np.float32]) -> Rule:
    """Return the rule that compares mean features, standardised over training and all entities."""
    train, mentions, entities = (
        table["text"].to_numpy(dtype=np.int64)
        for table in (tables.train, tables.test, tables.entities)
    )
    known = text_means[np.unique(np.concatenate([train, entities]))]
    mean, deviation = known.mean(0), known.std(0)
    # A channel that hardly moves would be blown up to noise.
    scale = np.where(deviation > 1e-4, deviation, 1.0)

    def unit(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        values = (text_means[rows] - mean) / scale
        norms = np.linalg.norm(values, axis=1, keepdims=True)
        return np.asarray(values / np.maximum(norms, 1e-12), dtype=np.float32)

    columns = unit(entities).T
    return lambda rows: unit(mentions[rows]) @ columns
