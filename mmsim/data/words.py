"""Words of captions, weighted by how rare they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def fit_words(captions: Iterable[str]) -> Any:
    """Return a TF-IDF vectorizer of scikit-learn, fitted on captions.

    Without English stop words: they tell no two captions apart, and leaving them out makes the
    cosine a stronger rule. The tier of lexical negatives and the baseline that it defeats are of
    one vectorizer.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    known = list(captions)
    try:
        return TfidfVectorizer(stop_words="english").fit(known)
    except ValueError:
        # Nothing but stop words and single letters: then these are the words.
        return TfidfVectorizer(token_pattern=r"\w+|[^\w\s]").fit(known)
