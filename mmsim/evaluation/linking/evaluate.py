"""One pass over the test mentions with the head of every seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mmsim.data.items import surface_form
from mmsim.evaluation.baselines import mean_texts
from mmsim.evaluation.linking.baselines import baseline_scores
from mmsim.evaluation.linking.lists import LinkTables, candidate_lists
from mmsim.evaluation.linking.report import LinkEvaluation, report
from mmsim.evaluation.linking.scores import SeedLinkScores
from mmsim.models.linking import LinkHead
from mmsim.training.link_scoring import entity_index, pool_ranks, score_lists
from mmsim.training.mentions import ABSENT, LinkData

if TYPE_CHECKING:
    import pandas as pd


def evaluate(
    models: dict[int, LinkHead],
    data: LinkData,
    instances: pd.DataFrame,
    priors: pd.DataFrame,
    draws: int,
    rerank: int,
) -> LinkEvaluation:
    """Score the validation and test mentions with the head of each seed, and report on them.

    Parameters
    ----------
    models : dict of int to LinkHead
        Trained heads by seed, on the device of the features.
    data : LinkData
        With all three splits.
    instances, priors : DataFrame
        The prepared tables.
    draws : int
        Draws of the bootstrap behind each interval.
    rerank : int
        Entities of the pool that are scored in full for each mention.
    """
    train, valid, test = (data.splits[split].table for split in ("train", "valid", "test"))
    tables = LinkTables(train, valid, test, data.entity_table)
    # Spellings of one form: the likeliest stands, whatever their order.
    shares: dict[str, dict[int, float]] = {}
    for mention, entity, share in priors.itertuples(index=False):
        of_form = shares.setdefault(surface_form(mention), {})
        of_form[entity] = max(share, of_form.get(entity, 0.0))
    found = report(
        {seed: _score_seed(model, data, rerank) for seed, model in models.items()},
        baseline_scores(tables, mean_texts(data.memory), shares),
        tables,
        instances,
        draws,
    )
    parameters = next(iter(models.values())).parameters()
    found.metrics["counts"]["parameters"] = sum(value.numel() for value in parameters)
    return found


def _score_seed(model: LinkHead, data: LinkData, rerank: int) -> SeedLinkScores:
    """Score all that is reported of one seed."""
    valid, test = data.splits["valid"], data.splits["test"]
    lists = torch.from_numpy(candidate_lists(test.table))
    changed = {}
    if (test.items.image != ABSENT).any():
        changed = {
            "no_image": test.without_images(),
            "shuffled_image": test.with_shuffled_images(),
        }
    ranks, retrieved = pool_ranks(model, data, test, entity_index(model, data), rerank)
    of_valid = torch.from_numpy(candidate_lists(valid.table))
    return SeedLinkScores(
        valid=score_lists(model, data, valid, of_valid).numpy(),
        test=score_lists(model, data, test, lists).numpy(),
        controls={
            name: score_lists(model, data, mentions, lists).numpy()
            for name, mentions in changed.items()
        },
        pool_ranks=ranks,
        retrieved=retrieved,
    )
