"""Canonical entity titles from the URLs and titles of a release."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote

NIL_MARKS = frozenset({"", "nil", "null", "none", "-"})
"""What releases write, in any case, where a mention's entity is in no knowledge base."""

_ARTICLE = re.compile(
    r"(?:(?P<language>[a-z][a-z-]*)\.)?(?:m\.)?wikipedia\.org/+wiki/+(?P<title>[^?#]+)",
    re.IGNORECASE,
)


def canonical_title(title: str) -> str:
    """Return the one spelling of an entity title.

    Percent-encoding is undone, underscores and runs of white space become one space, Unicode is
    brought to NFC and the first letter is a capital, as in MediaWiki. Punctuation and the case
    of all other letters are kept: they tell articles apart.
    """
    text = " ".join(unicodedata.normalize("NFC", unquote(title)).replace("_", " ").split())
    return text[:1].upper() + text[1:]


def is_nil(url: str | None) -> bool:
    """Tell whether an entity field says that the entity is in no knowledge base."""
    return url is None or url.strip().lower() in NIL_MARKS


def title_from_url(url: str) -> str | None:
    """Return the canonical title of a Wikipedia address, or None if it is none.

    Repairs what releases are known to hold: stray characters before the scheme
    (``nhttps``, ``]https``, ``ttps``), brackets around the address, doubled slashes,
    percent-encoding, fragments and queries. An article of another language than English is
    another entity: its title begins with the language, ``fr:Paris``.

    Examples
    --------
    >>> title_from_url("nhttps://en.wikipedia.org//wiki/Mercury_%28planet%29")
    'Mercury (planet)'
    """
    found = _ARTICLE.search(url.strip().rstrip("]>\"'"))
    if not found:
        return None
    title = canonical_title(found["title"])
    if title.endswith(")") and title.count(")") > title.count("("):
        title = title[:-1]
    language = (found["language"] or "en").lower()
    if not title:
        return None
    return title if language in ("en", "www") else f"{language}:{title}"
