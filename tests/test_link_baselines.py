import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from link_tables import NIL, tables
from sklearn.feature_extraction.text import TfidfVectorizer

from mmsim.evaluation.linking.baselines import (
    BLOCK,
    apply_rule,
    baseline_scores,
    by_form,
    frozen_cosine,
    list_order,
    string_similarity,
    tfidf,
    training_links,
)
from mmsim.evaluation.linking.lists import ABSENT, candidate_lists, gold_entities
from mmsim.evaluation.linking.ranks import list_ranks, matrix_ranks
from mmsim.evaluation.linking.slices import bare_title

TITLES = ["Turkey", "Turkey (bird)", "Ankara", "Angela Merkel", "Mercury (planet)"]


def named(*surfaces, gold=0, candidates=(0, 1)):
    return [(gold, candidates, {"surface": surface}) for surface in surfaces]


def every(found):
    return np.arange(len(found.test))


def means(texts=20, dim=6, seed=0):
    return np.random.default_rng(seed).normal(size=(texts, dim)).astype(np.float32)


def test_a_memorised_form_scores_how_often_training_links_it_to_the_entity():
    train = [
        *named("Turkey", " turkey ", gold=0),
        *named("TURKEY", gold=1),
        *named("Turkey", gold=NIL),
        *named("Ankara", gold=2),
    ]
    found = tables(named("turkey", "Angela Merkel"), train, titles=TITLES)
    scores = by_form(training_links(found.train), found.test, len(TITLES))(every(found))
    assert scores.tolist() == [[2, 1, 0, 0, 0], [0] * 5]


def test_only_training_is_memorised():
    found = tables(named("Turkey"), valid=named("Turkey"), titles=TITLES)
    assert training_links(found.train) == {}


def test_the_prior_is_looked_up_by_form_and_entity():
    found = tables(named("Turkey", "Ankara"), titles=TITLES)
    scores = by_form({"turkey": {1: 0.25, 0: 0.75}, "paris": {2: 1.0}}, found.test, len(TITLES))
    assert scores(every(found)).tolist() == [[0.75, 0.25, 0, 0, 0], [0] * 5]


def longest_common_subsequence(first, second):
    lengths = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            lengths[i + 1, j + 1] = (
                lengths[i, j] + 1 if a == b else max(lengths[i, j + 1], lengths[i + 1, j])
            )
    return lengths[-1, -1]


@given(st.text("abcAB c", max_size=8), st.text("abcAB c", min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_strings_are_as_alike_as_their_longest_common_subsequence(surface, title):
    found = tables(named(surface, candidates=()), titles=[title])
    form, bare = (" ".join(text.lower().split()) for text in (surface, title))
    longest = longest_common_subsequence(form, bare)
    expected = 200 * longest / (len(form) + len(bare)) if form or bare else 100
    scores = string_similarity(found.test, found.entities)(every(found))
    assert scores.item() == pytest.approx(expected)


def test_case_and_the_disambiguator_of_a_title_are_no_difference_of_strings():
    found = tables(named("mercury", "TURKEY"), titles=TITLES)
    scores = string_similarity(found.test, found.entities)(every(found))
    assert scores[0].argmax() == 4 and scores[0, 4] == 100
    # Two entities of one name: the rule cannot tell them apart.
    assert scores[1].tolist()[:2] == [100, 100] and scores[1, 2:].max() < 100


@pytest.mark.parametrize(
    ("title", "bare"),
    [
        ("Mercury (planet)", "Mercury"),
        ("Georgia (U.S. state) (film)", "Georgia (U.S. state)"),
        ("(500) Days of Summer", "(500) Days of Summer"),
        ("(500)", "(500)"),
        ("C(sharp)", "C(sharp)"),
        ("Paris", "Paris"),
        ("", ""),
    ],
)
def test_a_title_without_its_disambiguator(title, bare):
    assert bare_title(title) == bare


def test_tfidf_is_the_cosine_of_sentence_and_title_with_description():
    train = [
        (0, [], {"sentence": "The chancellor met farmers of the capital"}),
        (0, [], {"sentence": "The chancellor met farmers of the capital"}),
    ]
    test = [
        (0, [], {"sentence": "Turkey: the capital of the country"}),
        (0, [], {"sentence": "unheard words alone"}),
    ]
    descriptions = ["country", "bird of farmers", "capital of Turkey", "chancellor", ""]
    found = tables(test, train, titles=TITLES, descriptions=descriptions)
    contents = [f"{a} {b}" for a, b in zip(TITLES, descriptions, strict=True)]
    # Of several mentions a sentence counts once.
    words = TfidfVectorizer(stop_words="english").fit([train[0][2]["sentence"], *contents])
    expected = words.transform(found.test["sentence"]) @ words.transform(contents).T
    scores = tfidf(found)(every(found))
    assert scores == pytest.approx(expected.toarray())
    assert (scores[0, :3] > 0).all() and (scores[1] == 0).all()


def test_tfidf_needs_neither_training_nor_descriptions():
    found = tables([(0, [], {"sentence": "Ankara in winter"})], titles=TITLES)
    assert tfidf(found)(every(found)).argmax() == 2


def test_the_frozen_cosine_is_of_features_standardised_over_training_and_entities():
    features = 3 + means() * np.array([1, 10, 1, 1, 1, 0], dtype=np.float32)
    # Mentions have texts 5 and on, behind those of the entities; two training mentions share one.
    train = [(0, [], {"text": row}) for row in (5, 6, 6)]
    test = [(0, [], {"text": row}) for row in (7, 19)]
    found = tables(test, train, titles=TITLES)
    known = features[:7].astype(np.float64)
    deviation = known.std(0)
    deviation[5] = 1
    scaled = (features - known.mean(0)) / deviation
    first, second = scaled[[7, 19]], scaled[:5]
    norms = np.linalg.norm(first, axis=1)[:, None] * np.linalg.norm(second, axis=1)
    scores = frozen_cosine(found, features)(every(found))
    assert scores == pytest.approx(first @ second.T / norms, abs=1e-5)


def test_features_of_test_mentions_and_of_texts_in_no_table_are_not_standardised_by():
    found = tables([(0, [], {"text": 7})], titles=TITLES)
    features = means()
    before = frozen_cosine(found, features)(every(found))
    features[8:] = 1000
    assert (frozen_cosine(found, features)(every(found)) == before).all()


def test_the_released_order_ranks_the_first_candidate_first_and_an_injected_gold_last():
    found = tables([(3, [4, 3]), (4, [1, 2, 4, 0]), (0, [1, 2]), (NIL, [1])], titles=TITLES)
    lists, gold = candidate_lists(found.test), gold_entities(found.test)
    order = list_order(lists)
    assert list_ranks(order.lists, lists, gold).tolist() == [2, 3, 3, np.inf]
    assert (order.lists[lists == ABSENT] == -np.inf).all()
    # Among all entities there is no released order.
    assert order.pool_ranks is None


def test_lists_and_pool_are_of_one_rule_in_blocks():
    rng = np.random.default_rng(0)
    count = 2 * BLOCK + 3
    rows = [
        (int(rng.integers(NIL, 9)), rng.permutation(9)[: rng.integers(0, 5)].tolist())
        for _ in range(count)
    ]
    found = tables(rows, titles=[f"Title {number}" for number in range(9)])
    matrix = rng.integers(0, 5, (count, 9)).astype(float)
    lists, gold = candidate_lists(found.test), gold_entities(found.test)
    scores = apply_rule(lambda part: matrix[part], lists, gold)
    for row, listed in enumerate(lists):
        there = listed != ABSENT
        assert scores.lists[row, there].tolist() == matrix[row, listed[there]].tolist()
        assert (scores.lists[row, ~there] == -np.inf).all()
    assert scores.pool_ranks.tolist() == matrix_ranks(matrix[gold >= 0], gold[gold >= 0]).tolist()


def test_the_baselines_have_these_names():
    found = tables(named("Turkey", "Ankara"), named("Turkey"), titles=TITLES)
    names = {"memorised_form", "string_similarity", "tfidf", "frozen_cosine", "list_order"}
    assert set(baseline_scores(found, means())) == names
    assert set(baseline_scores(found, means(), {})) == names
    scores = baseline_scores(found, means(), {"turkey": {0: 1.0}})
    assert set(scores) == names | {"prior"}
    assert {name for name, score in scores.items() if score.pool_ranks is None} == {"list_order"}


def test_without_training_every_baseline_has_scores():
    found = tables([*named("Turkey", "Ankara"), (NIL, [2])], titles=TITLES)
    for name, scores in baseline_scores(found, means()).items():
        assert scores.lists.shape == (3, 3), name
        assert name == "list_order" or np.isfinite(scores.pool_ranks).all(), name
