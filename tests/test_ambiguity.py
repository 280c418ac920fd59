import numpy as np
import pandas as pd
import pytest

from mmsim.evaluation.ambiguity import ambiguity_rates, ambiguity_scores
from mmsim.evaluation.bootstrap import Resampling
from mmsim.evaluation.metrics import classification_metrics
from mmsim.evaluation.summary import Decisions

NIL = -1
TITLES = ["Turkey", "Turkey (bird)", "Paris", "Paris, Texas", "Rome", "Jordan", "Jordan (river)"]


def mentions(*rows):
    """Rows of (split, mention, entity); each its own captioned image."""
    table = pd.DataFrame(rows, columns=["split", "mention", "entity"])
    return table.assign(image=range(len(rows)), text=range(len(rows)))


SMALL = mentions(
    ("test", "Turkey", 0),
    ("test", "turkey", 1),
    # Blanks and capitals are no difference.
    ("test", " TURKEY ", 0),
    ("test", "Paris", 2),
    ("test", "Paris", 2),
    ("test", "Rome", 4),
    # NIL is no entity: one meaning for the linked count, two in the documents' own.
    ("test", "Rome", NIL),
    ("test", "nobody", NIL),
    # A caption without a mention.
    ("test", "", NIL),
    ("train", "Paris", 3),
    ("train", "Paris", 2),
    ("train", "Rome", 4),
    ("train", "Turkey", 0),
    ("train", "Jordan", 5),
    ("valid", "Rome", 2),
)


def test_forms_and_mentions_that_name_several_entities_by_hand():
    found = ambiguity_rates(SMALL)
    assert (found["forms"], found["mentions"]) == (3, 6)
    # Turkey, three times.
    assert (found["ambiguous_forms"], found["ambiguous_mentions"]) == (1, 3)
    assert (found["form_rate"], found["mention_rate"]) == pytest.approx((1 / 3, 3 / 6))


def test_forms_and_mentions_that_name_another_entity_in_training_by_hand():
    found = ambiguity_rates(SMALL)
    # Both of Paris, which in training is in Texas too; of Turkey only the bird, since the land
    # is what training means. Validation is not training.
    assert (found["train_ambiguous_forms"], found["train_ambiguous_mentions"]) == (2, 3)
    assert (found["train_form_rate"], found["train_mention_rate"]) == pytest.approx((2 / 3, 3 / 6))


def test_nil_is_a_meaning_only_where_the_documents_count_it_as_one():
    found = ambiguity_rates(SMALL)
    # Turkey, Paris, Rome and nobody; Rome is the entity and NIL.
    assert found["documents_forms"] == 4
    assert found["documents_ambiguous_forms"] == 2
    assert found["documents_form_rate"] == pytest.approx(2 / 4)

    linked = ambiguity_rates(SMALL[SMALL["entity"] != NIL])
    assert linked["documents_ambiguous_forms"] == linked["ambiguous_forms"] == 1
    for name, value in found.items():
        if not name.startswith("documents_"):
            assert linked[name] == value


def test_without_mentions_every_rate_is_nought():
    for table in (SMALL[:0], SMALL[SMALL["mention"] == ""], SMALL[SMALL["split"] == "train"]):
        assert set(ambiguity_rates(table).values()) == {0}


def test_only_nil_mentions_are_no_ambiguity():
    found = ambiguity_rates(mentions(("test", "Rome", NIL), ("test", "Rome", NIL)))
    assert (found["forms"], found["documents_forms"]) == (0, 1)
    assert found["documents_form_rate"] == 0


def pairs(*rows):
    """Rows of (label, tier, form, score)."""
    table = pd.DataFrame(rows, columns=["label", "tier", "form", "score"])
    return table.drop(columns="score"), table["score"].to_numpy()


def decisions(scores, labels, thresholds=(0.5,), draws=200):
    scores = np.atleast_2d(scores)
    clusters = np.arange(scores.shape[1])
    labels = np.asarray(labels, dtype=np.int64)
    return Decisions(scores, labels, np.array(thresholds), Resampling(clusters, draws))


NAMED, SCORES = pairs(
    (1, "same_entity", "turkey", 0.9),
    (1, "same_entity", "turkey", 0.4),
    (1, "same_entity", "paris", 0.8),
    (1, "same_entity", "rome", 0.1),
    (0, "random", "turkey", 0.95),
    (0, "random", "", 0.05),
    (0, "same_form", "turkey", 0.2),
    (0, "same_form", "turkey", 0.6),
    (0, "same_form", "paris", 0.3),
    (0, "lexical", "paris", 0.99),
)


def scored(scores=SCORES, table=NAMED, **rest):
    found = decisions(scores, table["label"], **rest)
    return ambiguity_scores(found, table, SMALL, TITLES)


def test_pairs_of_one_form_are_told_apart_where_they_are_not_called_a_match():
    figures, _ = scored()
    assert (figures["pairs"], figures["positives"]) == (3, 3)
    assert figures["told_apart"] == pytest.approx(2 / 3)
    assert 0 <= figures["told_apart_low"] <= 2 / 3 <= figures["told_apart_high"] <= 1


def test_they_are_measured_with_the_positives_of_the_same_forms_and_nothing_else():
    figures, _ = scored()
    labels, scores = np.array([1, 1, 1, 0, 0, 0]), np.array([0.9, 0.4, 0.8, 0.2, 0.6, 0.3])
    expected = classification_metrics(scores, labels, 0.5)
    assert figures["auc"] == pytest.approx(expected["auc"])
    assert figures["accuracy"] == pytest.approx(expected["accuracy"])


def test_each_seed_has_its_own_threshold():
    figures, _ = scored(np.stack([SCORES, SCORES]), thresholds=(0.5, 0.25))
    assert figures["told_apart"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert figures["told_apart_std"] == pytest.approx(np.std([2 / 3, 1 / 3], ddof=1))


def test_each_form_has_a_row_with_its_meanings_in_the_test_split():
    _, forms = scored()
    forms = forms.set_index("form")
    assert list(forms.index) == ["paris", "turkey"]
    assert forms.loc["turkey", "means"] == "Turkey; Turkey (bird)"
    assert forms.loc["turkey", ["mentions", "entities"]].tolist() == [3, 2]
    # Paris, Texas is meant in training only.
    assert forms.loc["paris", "means"] == "Paris"
    assert forms.loc["turkey", ["negatives", "positives"]].tolist() == [2, 2]
    assert forms.loc["paris", ["negatives", "positives"]].tolist() == [1, 1]
    # Turkey: 0.9 and 0.4 are matches, 0.2 and 0.6 are not.
    assert forms.loc["turkey", "accuracy"] == 0.5
    assert forms.loc["turkey", "auc"] == 0.75
    assert forms.loc["paris", "auc"] == 1


def test_a_form_without_positives_has_an_accuracy_and_no_auc():
    table, scores = pairs((1, "same_entity", "rome", 0.9), (0, "same_form", "turkey", 0.2))
    figures, forms = scored(scores, table)
    assert figures["told_apart"] == 1
    assert (figures["pairs"], figures["positives"]) == (1, 0)
    assert "auc" not in figures
    assert forms["accuracy"].tolist() == [1]
    assert "auc" not in forms


def test_where_no_form_names_two_entities_there_are_counts_and_an_empty_table():
    table, scores = pairs((1, "same_entity", "rome", 0.9), (0, "random", "", 0.2))
    figures, forms = scored(scores, table)
    assert figures == {"pairs": 0, "positives": 0}
    assert len(forms) == 0
    assert {"form", "mentions", "entities", "means", "accuracy"} <= set(forms.columns)
