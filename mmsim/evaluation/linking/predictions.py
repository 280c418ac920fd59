"""Tables of what each seed's head says of mentions: candidates, ranks, ambiguous forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsim.evaluation.linking.lists import (
    ABSENT,
    LinkTables,
    candidate_lists,
    gold_entities,
    mention_clusters,
)
from mmsim.evaluation.linking.ranks import CUTOFFS
from mmsim.evaluation.linking.slices import ambiguous_forms
from mmsim.evaluation.predictions import RANK_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

PREDICTION_COLUMNS = [
    *("split", "seed", "instance", "entity"),
    *("candidate", "label", "injected", "score"),
]
FORM_COLUMNS = ["form", "mentions", "entities", "means", "hits_at_1"]


def prediction_rows(
    seeds: list[int], splits: dict[str, tuple[pd.DataFrame, list[NDArray[np.floating]]]]
) -> pd.DataFrame:
    """Return a row for each split, seed, mention and candidate, `PREDICTION_COLUMNS`.

    ``entity`` is the gold (-1 for NIL), ``label`` 1 where the candidate is the gold, ``injected``
    true for a gold that the release does not list.

    Parameters
    ----------
    seeds : list of int
    splits : dict of str to (DataFrame, list of ndarray)
        Mentions, and scores of each seed of shape (mentions, L + 1).
    """
    import pandas as pd

    rows = []
    for split, (mentions, by_seed) in splits.items():
        lists, gold = candidate_lists(mentions), gold_entities(mentions)
        mention, place = np.nonzero(lists != ABSENT)
        columns = {
            "instance": mentions["instance"].to_numpy()[mention],
            "entity": gold[mention],
            "candidate": lists[mention, place],
            "label": (lists[mention, place] == gold[mention]).astype(np.int64),
            "injected": place == lists.shape[1] - 1,
        }
        for seed, scores in zip(seeds, by_seed, strict=True):
            found = {"split": split, "seed": seed} | columns | {"score": scores[mention, place]}
            rows.append(pd.DataFrame(found))
    return pd.concat(rows, ignore_index=True)[PREDICTION_COLUMNS]


def rank_rows(
    ranks: dict[str, NDArray[np.float64]], test: pd.DataFrame, seeds: list[int]
) -> pd.DataFrame:
    """Return a row for each protocol, seed and test mention that counts in it, `RANK_COLUMNS`.

    ``direction`` is the protocol, ``query`` the mention's instance; a gold that is not in the list
    has rank inf.

    Parameters
    ----------
    ranks : dict of str to ndarray of float64, shape (seeds, counted mentions)
        By protocol; all but ``candidates`` leave NIL mentions out.
    """
    import pandas as pd

    instance, clusters = test["instance"].to_numpy(), mention_clusters(test)
    linked = gold_entities(test) != ABSENT
    rows = []
    for protocol, by_seed in ranks.items():
        counted = np.ones(len(test), dtype=bool) if protocol == "candidates" else linked
        columns = {"query": instance[counted], "cluster": clusters[counted]}
        for seed, found in zip(seeds, by_seed, strict=True):
            about = {"direction": protocol, "seed": seed, "rank": found}
            rows.append(pd.DataFrame(columns | about))
    return pd.concat(rows, ignore_index=True)[RANK_COLUMNS]


def form_rows(tables: LinkTables, hits_at_1: NDArray[np.float64]) -> pd.DataFrame:
    """Return a row for each form whose test mentions have several gold entities, `FORM_COLUMNS`.

    Mentions are those with a gold; hits_at_1 is the mean over them and over seeds, ``means`` the
    entities' titles.

    Parameters
    ----------
    tables : LinkTables
    hits_at_1 : ndarray of float64, shape (seeds, test mentions)
        0 or 1, of protocol candidates.
    """
    import pandas as pd

    titles, gold = tables.entities["title"].tolist(), gold_entities(tables.test)
    form, of_mention = tables.test["form"].to_numpy(), hits_at_1.mean(axis=0)
    rows = []
    for name in ambiguous_forms(tables.test):
        mentions = (form == name) & (gold != ABSENT)
        meant = [titles[entity] for entity in dict.fromkeys(gold[mentions].tolist())]
        counts = {"mentions": int(mentions.sum()), "entities": len(meant)}
        found = {"means": "; ".join(meant), "hits_at_1": float(of_mention[mentions].mean())}
        rows.append({"form": name} | counts | found)
    return pd.DataFrame(rows, columns=FORM_COLUMNS)


def hit_rows(ranks: dict[str, NDArray[np.float64]]) -> pd.DataFrame:
    """Return, by k from 1 to 20, the share of mentions whose gold is among the first k.

    Parameters
    ----------
    ranks : dict of str to ndarray of float64, shape (seeds, counted mentions)
        By protocol.
    """
    import pandas as pd

    cutoffs = range(1, max(CUTOFFS) + 1)
    shares = {
        name: [float((found <= k).mean()) for k in cutoffs]
        for name, found in ranks.items()
        if found.size
    }
    return pd.DataFrame({"k": cutoffs} | shares)
