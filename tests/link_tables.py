"""Small tables of mentions and entities, for tests of the figures of linking."""

import numpy as np
import pandas as pd

from mmsim.data.items import surface_form
from mmsim.data.mentions import COLUMNS
from mmsim.evaluation.linking.lists import LinkTables, candidate_lists
from mmsim.evaluation.linking.scores import SeedLinkScores

NIL = -1


def mentions(*rows, first=0):
    """Rows of (gold, candidates), with other columns in a dict behind them where they matter."""
    made = []
    for number, (gold, candidates, *rest) in enumerate(rows):
        given = rest[0] if rest else {}
        surface = given.get("surface", f"name {gold}")
        made.append(
            {
                **{"instance": first + number, "text": 0, "name_text": 0, "image": 0},
                **{"objects": -1, "scene": -1, "surface": surface, "form": surface_form(surface)},
                **{"sentence": f"A sentence of {surface}.", "type": "Person", "topic": "sports"},
                **{"entity": gold, "nil": gold == NIL, "candidates": list(candidates)},
            }
            | given
        )
    return pd.DataFrame(made, columns=list(COLUMNS))


def entities(*titles, descriptions=None):
    """Entities by title, the text of each with its own row number."""
    count = len(titles)
    return pd.DataFrame(
        {
            "entity": range(count),
            "title": titles,
            "description": descriptions or [""] * count,
            "text": range(count),
            "image": -1,
        }
    )


def tables(test, train=(), valid=(), titles=None, descriptions=None):
    """Tables of such rows; instances are numbered through all splits, entities as need be."""
    made = [mentions(*rows, first=1000 * place) for place, rows in enumerate((train, valid, test))]
    linked = [[gold, *listed] for rows in (train, valid, test) for gold, listed, *_ in rows]
    most = max(map(max, linked))
    titles = titles or [f"Title {number}" for number in range(most + 1)]
    return LinkTables(*made, entities(*titles, descriptions=descriptions))


def instances(found):
    """The prepared mentions of such tables."""
    splits = {"train": found.train, "valid": found.valid, "test": found.test}
    rows = [table.assign(split=split) for split, table in splits.items() if len(table)]
    return pd.concat(rows, ignore_index=True).rename(columns={"surface": "mention"})


def random_list_scores(table, seed=0):
    """A score for each entity of the lists, no two alike, -inf where there is none."""
    lists = candidate_lists(table)
    scores = np.random.default_rng(seed).permutation(lists.size).reshape(lists.shape)
    return np.where(lists >= 0, scores, -np.inf).astype(np.float32)


def seed_scores(found, seed=0, **changes):
    """Scores by lot of a head of one seed."""
    linked = int((found.test["entity"] >= 0).sum())
    rng = np.random.default_rng(seed)
    made = {
        "valid": random_list_scores(found.valid, seed),
        "test": random_list_scores(found.test, seed + 1),
        "controls": {"no_images": random_list_scores(found.test, seed + 2)},
        "pool_ranks": rng.integers(1, 1 + len(found.entities), linked).astype(np.float64),
        "retrieved": rng.random(linked) < 0.5,
    }
    return SeedLinkScores(**(made | changes))


def gold_scores(table):
    """Scores of a head that puts the gold first wherever it is in the list."""
    lists = candidate_lists(table)
    right = (lists == table["entity"].to_numpy()[:, None]).astype(np.float32)
    return np.where(lists >= 0, right, -np.inf).astype(np.float32)
