import dataclasses
import json
import math

import numpy as np
import pytest
from link_tables import NIL, gold_scores, instances, random_list_scores, seed_scores, tables

from mmsim.evaluation.ambiguity import ambiguity_rates
from mmsim.evaluation.linking.baselines import baseline_scores
from mmsim.evaluation.linking.lists import candidate_lists, gold_entities, mention_clusters
from mmsim.evaluation.linking.ranks import CUTOFFS, list_ranks
from mmsim.evaluation.linking.report import report
from mmsim.evaluation.linking.slices import slice_rows
from mmsim.evaluation.predictions import RANK_COLUMNS

HITS = {f"hits_at_{k}" for k in CUTOFFS}
FIGURES = HITS | {"mrr", "mean_rank", "candidate_recall"}
BASELINES = {
    *("memorised_form", "string_similarity", "tfidf"),
    *("frozen_cosine", "list_order", "chance"),
}


def with_sides(names, seeds=2):
    sides = ("", "_low", "_high") if seeds == 1 else ("", "_std", "_low", "_high")
    return {f"{name}{side}" for name in names for side in sides}


def several(count=40, first=0):
    """Mentions of twelve entities, a NIL one and one whose gold is absent in every ten."""
    rows = []
    for number in range(first, first + count):
        gold = NIL if number % 10 == 7 else (5 * number) % 12
        others = [(number + step) % 12 for step in (1, 3, 4)]
        own = [entity for entity in others if entity != gold]
        if number % 10 != 3 and gold != NIL:
            own.insert(number % 3, gold)
        about = {"surface": f"Title {number % 5}", "image": -1 if number % 4 == 0 else 2}
        about |= {"type": ("Person", "Place")[number % 2], "topic": ("sports", "U.S.")[number % 2]}
        rows.append((gold, own, about))
    return rows


def splits(train=True, valid=True):
    titles = [f"Title {number}" for number in range(11)] + ["Title 4 (other)"]
    return tables(
        several(),
        several(30) if train else [],
        several(20, 3) if valid else [],
        titles,
    )


def means():
    return np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)


def run(found, scores=None, draws=60, **changes):
    scores = scores or {seed: seed_scores(found, seed, **changes) for seed in (3, 8)}
    return report(scores, baseline_scores(found, means()), found, instances(found), draws)


def scalars(figures):
    for value in figures.values():
        yield from scalars(value) if isinstance(value, dict) else [value]


def test_the_metrics_have_these_names():
    metrics = run(splits()).metrics
    assert set(metrics) == {
        *("valid", "link", "baselines", "margins", "controls"),
        *("slices", "ambiguity", "counts"),
    }
    assert set(metrics["valid"]) == with_sides(FIGURES)
    link = metrics["link"]
    headline = with_sides({"hits_at_1", "hits_at_3", "hits_at_5", "mrr"})
    assert set(link) == headline | {"candidates", "injected", "pool"}
    assert set(link["candidates"]) == with_sides(FIGURES)
    assert set(link["injected"]) == with_sides(FIGURES) | {"baselines"}
    assert set(link["pool"]) == with_sides(FIGURES | {"retrieved"}) | {"baselines"}
    assert set(metrics["baselines"]) == set(link["injected"]["baselines"]) == BASELINES
    assert set(link["pool"]["baselines"]) == BASELINES - {"list_order"}
    for place in (metrics, link["injected"], link["pool"]):
        for figures in place["baselines"].values():
            # A rule without training has no seeds.
            assert set(figures) == with_sides(FIGURES, seeds=1)
    assert {name: set(found) for name, found in metrics["controls"].items()} == {
        "no_images": with_sides({"hits_at_1", "mrr"})
    }
    for found in metrics["slices"].values():
        assert set(found) == {"mentions"} | with_sides({"hits_at_1", "mrr"})


def test_a_margin_is_what_the_head_adds_to_a_baseline_on_the_same_mentions():
    metrics = run(splits()).metrics
    for name, found in metrics["margins"].items():
        expected = metrics["link"]["mrr"] - metrics["baselines"][name]["mrr"]
        assert found["mrr"] == pytest.approx(expected)
        assert found["mrr_low"] <= found["mrr"] <= found["mrr_high"]
    of_itself = metrics["margins"]["string_similarity"]
    assert of_itself["mrr_high"] - of_itself["mrr_low"] > 0


def test_the_short_names_are_the_figures_of_protocol_candidates():
    link = run(splits()).metrics["link"]
    for name in with_sides({"hits_at_1", "hits_at_3", "hits_at_5", "mrr"}):
        assert link[name] == link["candidates"][name]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("valid", [True, False])
def test_every_metric_is_a_finite_plain_number_and_a_name_has_no_dot(train, valid):
    metrics = run(splits(train, valid)).metrics
    values = list(scalars(metrics))
    assert all(type(value) in (int, float) for value in values)
    assert all(math.isfinite(value) for value in values)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert ("valid" in metrics) == valid
    assert "U_S" in metrics["slices"]


def test_with_one_seed_there_are_intervals_and_no_deviation():
    found = splits()
    metrics = run(found, {0: seed_scores(found)}).metrics
    assert set(metrics["link"]["candidates"]) == with_sides(FIGURES, seeds=1)


def test_figures_lie_in_their_intervals():
    link = run(splits(), draws=300).metrics["link"]
    for name in HITS | {"mrr", "mean_rank", "candidate_recall"}:
        figures = link["candidates"]
        assert figures[f"{name}_low"] <= figures[name] <= figures[f"{name}_high"]


def test_intervals_are_over_gold_entities_not_over_mentions():
    # Of one entity nothing can be said of others; a NIL mention is not of it.
    found = tables([(0, [0, 1]), (0, [1]), (0, [1, 0]), (NIL, [1])])
    metrics = run(found).metrics
    for protocol in ("injected", "pool"):
        for figures in (
            metrics["link"][protocol],
            metrics["link"][protocol]["baselines"]["chance"],
        ):
            assert not any(name.endswith(("_low", "_high")) for name in figures)
    for figures in (metrics["link"]["candidates"], metrics["baselines"]["chance"]):
        assert "mrr_low" in figures


def test_counts_say_what_was_measured():
    metrics = run(splits()).metrics
    # Each of the four NIL mentions is a cluster beside the twelve entities.
    assert metrics["counts"] == {
        "valid_mentions": 20,
        "test_mentions": 40,
        "test_entities": 12 + 4,
        "nil_mentions": 4,
        "entities": 12,
        "seeds": 2,
    }


def test_ambiguity_is_that_of_the_prepared_mentions():
    found = splits()
    assert run(found).metrics["ambiguity"] == ambiguity_rates(instances(found))


def by_gold(found, **changes):
    """A head that puts the gold first wherever it can."""
    right = {"valid": gold_scores(found.valid), "test": gold_scores(found.test)}
    return {0: seed_scores(found, **(right | changes))}


def test_nil_mentions_and_those_whose_gold_is_absent_are_errors():
    found = splits()
    link = run(found, by_gold(found)).metrics["link"]
    # Four of forty are NIL, of four more the gold is not among the candidates.
    for name in HITS | {"mrr", "candidate_recall"}:
        assert link["candidates"][name] == pytest.approx(32 / 40)
    assert link["candidates"]["mean_rank"] == 1


def test_defect_accuracy_is_not_divided_by_recall():
    # A published system divides its accuracy by the share of golds among the candidates.
    found = tables([(0, [0, 1]), (1, [2, 1]), (0, [1, 2]), (NIL, [0, 1]), (2, [2])])
    metrics = run(found, by_gold(found)).metrics
    assert metrics["link"]["hits_at_1"] == metrics["link"]["candidates"]["mrr"] == 3 / 5
    assert metrics["link"]["candidates"]["candidate_recall"] == 3 / 5
    assert metrics["baselines"]["chance"]["hits_at_1"] == pytest.approx((1 / 2 + 1 / 2 + 1) / 5)


def test_with_golds_injected_every_linked_mention_can_be_right_and_nil_is_left_out():
    found = splits()
    injected = run(found, by_gold(found)).metrics["link"]["injected"]
    for name in HITS | {"mrr", "mean_rank", "candidate_recall"}:
        assert injected[name] == 1


def with_injected_scores(scores, table, value):
    """The scores with another one for every injected gold."""
    there = candidate_lists(table)[:, -1] >= 0
    changed = scores.copy()
    changed[there, -1] = value
    return changed


@pytest.mark.parametrize("value", [-1000.0, 1000.0])
def test_injected_golds_never_leak_into_what_is_released(value):
    found = splits()
    before, after = (
        {
            seed: dataclasses.replace(
                scores,
                valid=change(scores.valid, found.valid),
                test=change(scores.test, found.test),
                controls={n: change(s, found.test) for n, s in scores.controls.items()},
            )
            for seed, scores in ((seed, seed_scores(found, seed)) for seed in (0, 1))
        }
        for change in (
            lambda scores, table: scores,
            lambda scores, table: with_injected_scores(scores, table, value),
        )
    )
    before, after = run(found, before), run(found, after)
    for evaluation in (before, after):
        evaluation.metrics["injected"] = evaluation.metrics["link"].pop("injected")
    assert before.metrics.pop("injected") != after.metrics.pop("injected")
    assert before.metrics == after.metrics
    assert before.forms.equals(after.forms)
    ranks = [e.ranks[e.ranks["direction"] != "injected"] for e in (before, after)]
    assert ranks[0].equals(ranks[1])
    released = [e.predictions[~e.predictions["injected"]] for e in (before, after)]
    assert released[0].equals(released[1])


def test_the_pool_has_the_heads_own_ranks_and_the_share_that_was_scored_in_full():
    found = tables([(0, [0]), (NIL, [1]), (2, [1]), (1, [])])
    scores = seed_scores(
        found,
        pool_ranks=np.array([1.0, 3.0, 2.0]),
        retrieved=np.array([True, False, True]),
    )
    pool = run(found, {0: scores}).metrics["link"]["pool"]
    assert pool["hits_at_1"] == pytest.approx(1 / 3)
    assert pool["mean_rank"] == pytest.approx(2)
    assert pool["retrieved"] == pytest.approx(2 / 3)
    chance = pool["baselines"]["chance"]
    assert chance["hits_at_1"] == pytest.approx(1 / 3)
    assert chance["mean_rank"] == pytest.approx(2)


def test_baselines_are_measured_by_each_protocol():
    found = splits()
    baselines = baseline_scores(found, means())
    lists, gold = candidate_lists(found.test), gold_entities(found.test)
    metrics = run(found).metrics
    for name, scores in baselines.items():
        released = list_ranks(scores.lists[:, :-1], lists[:, :-1], gold)
        injected = list_ranks(scores.lists, lists, gold)[gold >= 0]
        places = {"": (metrics["baselines"], released)}
        places["injected"] = metrics["link"]["injected"]["baselines"], injected
        if scores.pool_ranks is not None:
            places["pool"] = metrics["link"]["pool"]["baselines"], scores.pool_ranks
        for place, ranks in places.values():
            assert place[name]["hits_at_1"] == pytest.approx((ranks <= 1).mean())
            assert place[name]["mrr"] == pytest.approx((1 / ranks).mean())


def test_a_release_of_nil_mentions_alone_has_no_figures_where_nil_is_left_out():
    found = tables([(NIL, [0, 1]), (NIL, [1])], [(0, [0])])
    link = run(found).metrics["link"]
    assert link["candidates"]["hits_at_20"] == 0
    assert set(link["injected"]) == set(link["pool"]) == {"baselines"}


def test_scores_of_other_mentions_are_refused():
    found = splits()
    with pytest.raises(ValueError, match="shape"):
        run(found, test=random_list_scores(found.test)[:, :-1])


def numbers(rows):
    return {name: np.flatnonzero(chosen).tolist() for name, chosen in rows.items()}


def test_slices_by_hand():
    titles = ["Turkey", "Turkey (bird)", "Ankara", "Mercury (planet)"]
    train = [
        *[(0, [], {"surface": "turkey"})] * 3,
        (NIL, [], {"surface": "Ankara"}),
        (3, [], {"surface": "The capital"}),
    ]
    test = [
        (0, [0], {"surface": "Turkey", "image": -1, "type": "Place"}),
        (1, [0], {"surface": "turkey", "topic": "U.S. news"}),
        (NIL, [0], {"surface": "Turkey", "type": ""}),
        (3, [3], {"surface": "MERCURY", "topic": "U S news"}),
        (2, [], {"surface": "the capital", "type": None, "topic": ""}),
        (2, [2, 3], {"surface": "Ankara"}),
    ]
    found = numbers(slice_rows(tables(test, train, titles=titles)))
    assert found == {
        "Place": [0],
        "Person": [1, 3, 5],
        "sports": [0, 2, 5],
        "U_S_news": [1, 3],
        "seen_entity": [0, 3],
        "unseen_entity": [1, 4, 5],
        "training_mentions_0": [1, 4, 5],
        "training_mentions_1": [3],
        "training_mentions_2_to_5": [0],
        "training_mentions_6_to_20": [],
        "training_mentions_over_20": [],
        # Turkey is the land and the bird, the capital another one in training; NIL is no meaning.
        "ambiguous_form": [0, 1, 4],
        "unambiguous_form": [3, 5],
        "exact_title": [0, 1, 3, 5],
        "other_title": [4],
        "has_image": [1, 2, 3, 4, 5],
        "no_image": [0],
        "gold_in_candidates": [0, 3, 5],
    }


def test_without_training_all_linked_mentions_are_of_unseen_entities():
    found = numbers(slice_rows(tables([(0, [0]), (NIL, [0]), (1, [])])))
    assert (found["seen_entity"], found["unseen_entity"]) == ([], [0, 2])
    assert found["training_mentions_0"] == [0, 2]


def test_slices_hold_figures_of_their_mentions_and_small_ones_are_left_out():
    found = splits()
    scores = seed_scores(found)
    metrics = run(found, {0: scores}).metrics
    lists, gold = candidate_lists(found.test)[:, :-1], gold_entities(found.test)
    ranks = list_ranks(scores.test[:, :-1], lists, gold)
    rows = slice_rows(found)
    large = {name for name, chosen in rows.items() if chosen.sum() >= 10}
    assert set(metrics["slices"]) == large < set(rows)
    for name in large:
        figures, part = metrics["slices"][name], ranks[rows[name]]
        assert figures["mentions"] == len(part)
        assert figures["hits_at_1"] == pytest.approx((part <= 1).mean())
        assert figures["mrr"] == pytest.approx((1 / part).mean())
    assert metrics["slices"]["gold_in_candidates"]["hits_at_1"] > metrics["link"]["hits_at_1"]


def test_predictions_hold_each_candidate_of_valid_and_test_for_each_seed():
    found = tables([(0, [1, 0]), (2, [1]), (NIL, [2])], valid=[(1, [0, 1])])
    scores = {seed: seed_scores(found, seed) for seed in (4, 5)}
    rows = run(found, scores).predictions
    columns = ["split", "seed", "instance", "entity", "candidate", "label", "injected"]
    assert rows.columns.tolist() == [*columns, "score"]
    expected = [
        *[("valid", 4, 1000, 1, 0, 0, False), ("valid", 4, 1000, 1, 1, 1, False)],
        *[("valid", 5, 1000, 1, 0, 0, False), ("valid", 5, 1000, 1, 1, 1, False)],
        *[
            row
            for seed in (4, 5)
            for row in (
                ("test", seed, 2000, 0, 1, 0, False),
                ("test", seed, 2000, 0, 0, 1, False),
                ("test", seed, 2001, 2, 1, 0, False),
                ("test", seed, 2001, 2, 2, 1, True),
                ("test", seed, 2002, NIL, 2, 0, False),
            )
        ],
    ]
    assert list(rows[columns].itertuples(index=False, name=None)) == expected
    of_seed = rows[(rows["split"] == "test") & (rows["seed"] == 5)]["score"]
    assert of_seed.tolist() == scores[5].test[scores[5].test > -np.inf].tolist()


def test_ranks_hold_each_counted_mention_of_each_protocol_for_each_seed():
    found = splits()
    scores = {seed: seed_scores(found, seed) for seed in (4, 5)}
    rows = run(found, scores).ranks
    assert rows.columns.tolist() == RANK_COLUMNS
    linked = gold_entities(found.test) >= 0
    counted = {"candidates": np.ones(40, dtype=bool), "injected": linked, "pool": linked}
    for direction, chosen in counted.items():
        for seed in (4, 5):
            part = rows[(rows["direction"] == direction) & (rows["seed"] == seed)]
            assert part["query"].tolist() == found.test["instance"][chosen].tolist()
            assert part["cluster"].tolist() == mention_clusters(found.test)[chosen].tolist()
            if direction == "pool":
                assert part["rank"].tolist() == scores[seed].pool_ranks.tolist()
    released = rows.loc[rows["direction"] == "candidates", "rank"]
    assert np.isinf(released).sum() == 2 * 8
    assert np.isfinite(rows.loc[rows["direction"] == "injected", "rank"]).all()
    assert len(rows) == 2 * (40 + 36 + 36)


def test_forms_are_those_that_name_several_entities_in_the_test_split():
    titles = ["Turkey", "Turkey (bird)", "Ankara"]
    test = [
        (1, [1, 0], {"surface": "Turkey"}),
        (0, [0, 1], {"surface": "TURKEY"}),
        (NIL, [0], {"surface": "turkey"}),
        (2, [2], {"surface": "Ankara"}),
        (1, [1, 0], {"surface": "turkey"}),
    ]
    found = tables(test, [(0, [], {"surface": "Ankara"})], titles=titles)
    second = gold_scores(found.test)
    second[0] = [0, 1, -np.inf]
    scores = by_gold(found) | {1: seed_scores(found, test=second)}
    rows = run(found, scores).forms.to_dict("records")
    assert rows == [
        {
            "form": "turkey",
            "mentions": 3,
            "entities": 2,
            "means": "Turkey (bird); Turkey",
            "hits_at_1": pytest.approx((3 / 3 + 2 / 3) / 2),
        }
    ]
    none = run(tables([(0, [0])]), None).forms
    assert len(none) == 0
    assert none.columns.tolist() == list(rows[0])
