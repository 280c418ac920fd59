import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    roc_auc_score,
)
from statsmodels.stats.multitest import multipletests

from mmsim.comparison.compare import FIGURES, RANKING, compare
from mmsim.comparison.paired import delong, difference, mcnemar, randomisation
from mmsim.comparison.revisions import Revision
from mmsim.comparison.text import comparison_text
from mmsim.errors import UserError
from mmsim.evaluation.bootstrap import Resampling, mean_draws
from mmsim.evaluation.predictions import PREDICTION_COLUMNS

PAIRS = 160
DIRECTIONS = ("image_to_text", "text_to_image")


def pair_table(count=PAIRS):
    """Positives, random negatives, and a few hard negatives among them; some without an entity."""
    numbers = np.arange(count)
    hard = numbers % 10 == 4
    label = np.where(hard, 0, numbers % 2)
    entity = numbers // 4
    return pd.DataFrame(
        {
            "pair": numbers,
            "label": label,
            "tier": np.where(hard, "same_form", np.where(label == 1, "own_caption", "random")),
            "contrast": "own_caption",
            "entity": np.where(entity % 7 == 0, -1, entity),
            "form": "",
            "query_image": numbers // 2,
            "query_text": numbers // 2,
            "candidate_image": (numbers * 3) % count,
            "candidate_text": (numbers * 3) % count,
        }
    )


def revision(name, strength=1.0, seeds=(0, 1, 2), noise=1, count=PAIRS, ranks=True):
    """What evaluate would have written: the pairs, and the scores of heads of this strength."""
    pairs = pair_table(count)
    common = np.random.default_rng(99).normal(size=count)
    rng = np.random.default_rng(noise)
    rows = []
    for seed in seeds:
        skill = strength + 0.1 * rng.normal()
        score = skill * pairs["label"] + common + 0.6 * rng.normal(size=count)
        rows.append(
            pairs.assign(split="test", seed=seed, score=score, called=score >= strength / 2)
        )
    queries = np.arange(50)
    found = [
        pd.DataFrame(
            {
                "direction": direction,
                "query": queries,
                "cluster": queries // 2,
                "seed": seed,
                "rank": np.ceil(rng.exponential(12 / (0.2 + strength), 50)),
            }
        )
        for direction in DIRECTIONS
        for seed in seeds
    ]
    columns = ["direction", "query", "cluster", "seed", "rank"]
    return Revision(
        name,
        pd.concat(rows, ignore_index=True),
        pd.concat(found, ignore_index=True) if ranks else pd.DataFrame(columns=columns),
    )


@pytest.fixture(scope="module")
def three():
    revisions = [
        revision("main", noise=1),
        revision("better", strength=3.0, seeds=(5, 6, 7, 8, 9), noise=2),
        revision("alike", seeds=(0, 1, 2, 3), noise=3),
    ]
    return revisions, compare(revisions, draws=200)


NAMES = {*FIGURES, *(f"{direction}.{name}" for direction in DIRECTIONS for name in RANKING)}


def test_each_revision_is_compared_with_the_first(three):
    _, found = three
    assert [(c.first, c.other) for c in found] == [("main", "better"), ("main", "alike")]
    assert [c.seeds for c in found] == [(3, 5), (3, 4)]
    for comparison in found:
        assert set(comparison.differences) == set(comparison.adjusted) == NAMES
        assert set(comparison.secondary) == {
            "mcnemar",
            "delong",
            "randomisation.image_to_text",
            "randomisation.text_to_image",
        }


def test_a_further_revision_changes_only_the_correction(three):
    revisions, found = three
    (alone,) = compare(revisions[:2], draws=200)
    assert alone.differences == found[0].differences
    assert alone.secondary == found[0].secondary
    assert alone.adjusted["auc"] < found[0].adjusted["auc"]


def test_it_is_the_main_pairs_that_are_compared(three):
    revisions, found = three
    main = revisions[0].pairs
    main = main[main["tier"] != "same_form"]
    assert found[0].count == len(main) == 144
    # Pairs without an entity go together if they have one query.
    clusters = np.where(main["entity"] >= 0, main["entity"], -2 - main["query_image"])
    assert found[0].clusters == len(set(clusters))


def figures_of(revision):
    """Figures of each seed on the main pairs, by scikit-learn."""
    values = {name: [] for name in FIGURES}
    rows = revision.predictions
    for seed in sorted(rows["seed"].unique()):
        part = rows[(rows["seed"] == seed) & (rows["tier"] != "same_form")]
        values["accuracy"].append(accuracy_score(part["label"], part["called"]))
        values["f1"].append(f1_score(part["label"], part["called"]))
        values["auc"].append(roc_auc_score(part["label"], part["score"]))
        values["average_precision"].append(average_precision_score(part["label"], part["score"]))
    for direction in DIRECTIONS:
        ranks = revision.ranks[revision.ranks["direction"] == direction]
        for seed in sorted(ranks["seed"].unique()):
            rank = ranks.loc[ranks["seed"] == seed, "rank"]
            for name, value in {
                "recall_at_1": (rank <= 1).mean(),
                "recall_at_10": (rank <= 10).mean(),
                "mrr": (1 / rank).mean(),
            }.items():
                values.setdefault(f"{direction}.{name}", []).append(value)
    return {name: np.array(found) for name, found in values.items()}


def test_figures_are_means_over_seeds_of_those_of_scikit_learn(three):
    revisions, found = three
    first = figures_of(revisions[0])
    for revision_, comparison in zip(revisions[1:], found, strict=True):
        for name, values in figures_of(revision_).items():
            of = comparison.differences[name]
            assert of.a == pytest.approx(first[name].mean())
            assert of.b == pytest.approx(values.mean())
            assert of.b_std == pytest.approx(values.std(ddof=1))
            assert of.difference == pytest.approx(values.mean() - first[name].mean())
            assert of.low <= of.difference <= of.high


def test_both_directions_are_paired_by_the_clusters_of_their_queries(three):
    revisions, found = three
    values, clusters = [], None
    for revision_ in revisions[:2]:
        ranks = revision_.ranks[revision_.ranks["direction"] == "text_to_image"]
        values.append(np.array([1 / part["rank"].to_numpy() for _, part in ranks.groupby("seed")]))
        clusters = ranks["cluster"].to_numpy()[:50]
    draws = [mean_draws(v, Resampling(clusters, 200)) for v in values]
    pairs = found[0].clusters
    expected = difference(*(v.mean(axis=1) for v in values), *draws, pairs)
    of = found[0].differences["text_to_image.mrr"]
    assert of.difference == pytest.approx(expected.difference)
    # The number of clusters enters by the degrees of freedom alone.
    assert of.low == pytest.approx(expected.low, rel=0.05)
    assert of.p == pytest.approx(expected.p, rel=0.2)
    p = randomisation(*(v.mean(axis=0) for v in values), clusters)
    assert found[0].secondary["randomisation.text_to_image"] == pytest.approx(p)


def test_the_degrees_of_freedom_of_ranks_are_those_of_their_own_clusters():
    # One seed each, so that the interval is of the bootstrap alone; four entities of queries.
    revisions = [
        revision(name, seeds=(0,), noise=noise) for name, noise in (("main", 1), ("other", 2))
    ]
    for made in revisions:
        made.ranks["cluster"] = made.ranks["query"] // 13
    of = compare(revisions, draws=200)[0].differences["image_to_text.mrr"]
    points, draws = [], []
    for made in revisions:
        ranks = made.ranks[made.ranks["direction"] == "image_to_text"]
        values = 1 / ranks["rank"].to_numpy()[None]
        points.append(values.mean(axis=1))
        draws.append(mean_draws(values, Resampling(ranks["cluster"].to_numpy(), 200)))
    expected = difference(*points, *draws, 4)
    assert (of.low, of.high) == pytest.approx((expected.low, expected.high))


def test_the_secondary_tests_take_the_majority_of_calls_and_the_mean_rank_of_scores():
    revisions = [revision("main", noise=1), revision("other", strength=1.4, noise=2)]
    (found,) = compare(revisions, draws=50)
    right, ranks = [], []
    for made in revisions:
        rows = made.predictions[made.predictions["tier"] != "same_form"]
        called = rows.pivot(index="pair", columns="seed", values="called").astype(int)
        labels = rows.groupby("pair")["label"].first()
        # Three seeds: two calls decide.
        right.append(((called.sum(axis=1) >= 2) == (labels == 1)).to_numpy())
        scores = rows.pivot(index="pair", columns="seed", values="score")
        ranks.append(scores.rank().mean(axis=1).to_numpy())
    assert found.secondary["mcnemar"] == pytest.approx(mcnemar(*right))
    assert found.secondary["delong"] == pytest.approx(delong(*ranks, labels.to_numpy()))


def test_a_better_revision_is_found_better_and_one_like_the_first_is_not(three):
    _, (better, alike) = three
    assert better.differences["auc"].difference > 0
    assert better.adjusted["auc"] < 0.05
    assert alike.adjusted["auc"] > 0.05


def test_a_revision_compared_with_itself_has_no_difference():
    (found,) = compare([revision("main"), revision("copy")], draws=50)
    for name, of in found.differences.items():
        assert (of.difference, of.p, found.adjusted[name]) == (0, 1, 1)
    assert set(found.secondary.values()) == {1}


def test_holms_correction_is_over_all_figures_of_all_revisions(three):
    _, found = three
    raw = [of.p for comparison in found for of in comparison.differences.values()]
    assert len(raw) == 2 * len(NAMES)
    expected = multipletests(raw, method="holm")[1]
    adjusted = [p for comparison in found for p in comparison.adjusted.values()]
    assert adjusted == pytest.approx(expected)
    for comparison in found:
        for name, of in comparison.differences.items():
            assert of.p <= comparison.adjusted[name] <= 1
    # The smallest is multiplied by all their number.
    assert min(adjusted) == pytest.approx(min(1, len(raw) * min(raw)))


def test_seeds_are_taken_in_order_whatever_their_order_in_the_file():
    expected = compare([revision("main"), revision("other", noise=2)], draws=50)
    changed = revision("other", noise=2)
    later = changed.predictions["seed"] == 2
    predictions = pd.concat([changed.predictions[later], changed.predictions[~later]])
    found = compare(
        [revision("main"), dataclasses.replace(changed, predictions=predictions)], draws=50
    )
    assert found == expected


def test_revisions_of_other_numbers_of_pairs_are_refused_by_both_names():
    with pytest.raises(UserError, match=r"main.*smaller") as refused:
        compare([revision("main"), revision("smaller", count=120)], draws=10)
    assert "160" in str(refused.value)
    assert "120" in str(refused.value)


@pytest.mark.parametrize("column", PREDICTION_COLUMNS)
def test_revisions_of_pairs_that_differ_anywhere_are_refused(column):
    other = revision("other")
    changed = other.predictions.copy()
    value = {"label": 1, "tier": "lexical", "contrast": "same_entity", "form": "turkey"}.get(
        column, 12345
    )
    changed.loc[changed["pair"] == 8, column] = value
    with pytest.raises(UserError, match=r"main and other .*\(1 of 160 test rows differ"):
        compare([revision("main"), dataclasses.replace(other, predictions=changed)], draws=10)


def test_revisions_of_the_same_pairs_in_another_order_are_refused():
    other = revision("other")
    turned = other.predictions.iloc[::-1].reset_index(drop=True)
    with pytest.raises(UserError, match="different pairs"):
        compare([revision("main"), dataclasses.replace(other, predictions=turned)], draws=10)


def test_the_third_revision_is_held_to_the_first_as_well():
    with pytest.raises(UserError, match=r"main.*third"):
        compare([revision("main"), revision("second"), revision("third", count=40)], draws=10)


def test_without_ranks_the_pairs_alone_are_compared():
    revisions = [revision("main", ranks=False), revision("other", noise=2, ranks=False)]
    (found,) = compare(revisions, draws=50)
    assert set(found.differences) == set(FIGURES)
    assert set(found.secondary) == {"mcnemar", "delong"}


def test_the_text_holds_every_figure_with_its_values(three):
    _, found = three
    for comparison in found:
        text = comparison_text(comparison)
        head, *lines = text.splitlines()
        assert f"{comparison.other} against {comparison.first}" in head
        assert "144 test pairs" in head
        assert f"{comparison.clusters} entities" in head
        assert f"{comparison.seeds[0]} and {comparison.seeds[1]} seeds" in head
        for name, of in comparison.differences.items():
            (line,) = [line for line in lines if line.startswith(f"{name} ")]
            for value in (of.a, of.b, of.a_std, of.b_std, of.detectable):
                assert f"{value:.4f}" in line
            for value in (of.difference, of.low, of.high):
                assert f"{value:+.4f}" in line
            assert f"{of.p:.3f}" in line
            assert f"{comparison.adjusted[name]:.3f}" in line
        for name, p in comparison.secondary.items():
            assert f"{name} p {p:.3f}" in text


def test_the_text_says_what_was_found_and_what_could_have_been(three):
    _, (better, alike) = three
    assert "AUC: better is above main" in comparison_text(better)
    text = comparison_text(alike)
    assert "AUC: no difference is shown" in text
    assert f"one of {alike.differences['auc'].detectable:.3f}" in text
    back = dataclasses.replace(
        better,
        differences=better.differences
        | {"auc": dataclasses.replace(better.differences["auc"], difference=-0.1)},
    )
    assert "AUC: better is below main" in comparison_text(back)


def test_one_seed_is_named_as_such_and_has_no_deviation():
    revisions = [revision("main", seeds=(0,)), revision("other", noise=2)]
    (found,) = compare(revisions, draws=50)
    assert found.differences["auc"].a_std is None
    assert found.differences["auc"].b_std is not None
    assert "one seed says nothing of other seeds" in comparison_text(found)


def test_several_seeds_need_no_such_warning(three):
    assert "one seed" not in comparison_text(three[1][0])


def leaves(value):
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in leaves(part)]
    if isinstance(value, (list, tuple)):
        return [leaf for part in value for leaf in leaves(part)]
    return [value]


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_as_json_all_values_are_plain_and_finite(seeds):
    revisions = [revision("main", seeds=seeds), revision("other", seeds=seeds, noise=2)]
    (found,) = compare(revisions, draws=50)
    again = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert set(again) == {field.name for field in dataclasses.fields(found)}
    assert again["differences"]["auc"]["difference"] == found.differences["auc"].difference
    numbers = [leaf for leaf in leaves(found.to_json()) if not isinstance(leaf, str)]
    assert all(type(leaf) in (int, float, type(None)) for leaf in numbers)
    assert all(math.isfinite(leaf) for leaf in numbers if leaf is not None)
    assert (None in numbers) == (len(seeds) == 1)
