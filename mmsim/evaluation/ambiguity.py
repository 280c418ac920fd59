"""Surface forms that name several entities: how common they are, and what a head makes of them.

The documents count forms, never score them. Here a form is a mention in small letters, and it is
ambiguous if its mentions have several gold entities; NIL is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmsim.data.items import surface_form
from mmsim.evaluation.summary import Decisions, Figures, summarize

if TYPE_CHECKING:
    import pandas as pd


def ambiguity_rates(instances: pd.DataFrame) -> Figures:
    """Return how many forms and mentions of the test split are ambiguous.

    Returns
    -------
    dict of str to float
        ``forms``, ``mentions``: all with a gold entity. ``ambiguous_forms``,
        ``ambiguous_mentions``: the form names several entities in the test split;
        ``form_rate``, ``mention_rate``: their shares. The same with ``train_`` before: the form
        names another entity in the training split than the mention's own. ``documents_forms``,
        ``documents_ambiguous_forms``, ``documents_form_rate``: the documents' own count, in
        which NIL is a meaning like any other.
    """
    rows = instances[instances["mention"] != ""]
    rows = rows.assign(form=rows["mention"].map(surface_form))
    test, train = rows[rows["split"] == "test"], rows[rows["split"] == "train"]
    linked = test[test["entity"] >= 0]
    meanings = linked.groupby("form")["entity"].agg(frozenset)
    several = meanings.map(len) > 1
    within = linked["form"].map(several).to_numpy(dtype=bool)
    known = train[train["entity"] >= 0].groupby("form")["entity"].agg(frozenset)
    known_of = linked["form"].map(known)
    against = np.array(
        [
            isinstance(meant, frozenset) and bool(meant - {entity})
            for meant, entity in zip(known_of, linked["entity"], strict=True)
        ],
        dtype=bool,
    )
    documents = test.groupby("form")["entity"].nunique()
    forms, mentions = len(meanings), len(linked)
    against_forms = linked.loc[against, "form"].nunique()
    return {
        "forms": forms,
        "mentions": mentions,
        "ambiguous_forms": int(several.sum()),
        "ambiguous_mentions": int(within.sum()),
        "form_rate": _share(several.sum(), forms),
        "mention_rate": _share(within.sum(), mentions),
        "train_ambiguous_forms": against_forms,
        "train_ambiguous_mentions": int(against.sum()),
        "train_form_rate": _share(against_forms, forms),
        "train_mention_rate": _share(against.sum(), mentions),
        "documents_forms": len(documents),
        "documents_ambiguous_forms": int((documents > 1).sum()),
        "documents_form_rate": _share((documents > 1).sum(), len(documents)),
    }


def ambiguity_scores(
    decisions: Decisions, pairs: pd.DataFrame, instances: pd.DataFrame, titles: list[str]
) -> tuple[Figures, pd.DataFrame]:
    """Return the figures on pairs of one form with different entities, and a row for each form.

    Parameters
    ----------
    decisions : Decisions
        On all test pairs.
    pairs : DataFrame
        The test pairs; negatives of tier ``same_form`` are those in question. With them are
        measured the positives whose query names the pair's entity by one of their forms.
    instances : DataFrame
        ``instances.parquet``.
    titles : list of str
        Of entities, by row number.
    """
    import pandas as pd

    form, label = pairs["form"].to_numpy(), decisions.labels
    conflicts = ((pairs["tier"] == "same_form") & (label == 0)).to_numpy()
    forms = sorted(set(form[conflicts]))
    right = (label == 1) & np.isin(form, forms)
    figures: Figures = {"pairs": int(conflicts.sum()), "positives": int(right.sum())}
    if conflicts.any():
        of_conflicts = summarize(decisions.of(conflicts), ("accuracy",))
        # All are negatives: their accuracy is the share that is told apart.
        for key, value in of_conflicts.items():
            figures[key.replace("accuracy", "told_apart")] = value
        both = decisions.of(conflicts | right)
        if both.has_both_labels:
            figures |= summarize(both, ("accuracy", "auc"))
    rows = []
    linked = instances[(instances["mention"] != "") & (instances["entity"] >= 0)]
    linked = linked.assign(form=linked["mention"].map(surface_form))
    for name in forms:
        chosen = (form == name) & (conflicts | right)
        part = decisions.of(chosen)
        found = summarize(part, ("accuracy", "auc") if part.has_both_labels else ("accuracy",))
        test = linked[(linked["split"] == "test") & (linked["form"] == name)]
        meant = [titles[entity] for entity in test["entity"].drop_duplicates()]
        counts = {"mentions": len(test), "entities": len(meant), "means": "; ".join(meant)}
        pairs_of = {"negatives": int((part.labels == 0).sum()), "positives": int(part.labels.sum())}
        rows.append({"form": name} | counts | pairs_of | found)
    columns = ["form", "mentions", "entities", "means", "negatives", "positives", "accuracy"]
    return figures, pd.DataFrame(rows, columns=None if rows else columns)


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0
