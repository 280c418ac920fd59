from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsim.data.titles import canonical_title, is_nil, title_from_url


@pytest.mark.parametrize(
    "url",
    [
        "https://en.wikipedia.org/wiki/Mercury_(planet)",
        "nhttps://en.wikipedia.org/wiki/Mercury_(planet)",
        "]https://en.wikipedia.org/wiki/Mercury_(planet)",
        "ttps://en.wikipedia.org//wiki/Mercury_(planet)",
        "[https://en.wikipedia.org/wiki/Mercury_(planet)]",
        "(https://en.wikipedia.org/wiki/Mercury_(planet))",
        "https://en.m.wikipedia.org/wiki/Mercury_%28planet%29#Orbit",
        " https://en.wikipedia.org/wiki/mercury_(planet)?oldid=1 ",
    ],
)
def test_spellings_of_one_address_are_one_title(url):
    assert title_from_url(url) == "Mercury (planet)"


def test_articles_of_another_language_are_another_entity():
    assert title_from_url("https://fr.wikipedia.org/wiki/Paris") == "fr:Paris"


@pytest.mark.parametrize(
    "url", ["https://example.org/wiki/X", "Mercury", "https://en.wikipedia.org/wiki/"]
)
def test_other_addresses_are_no_title(url):
    assert title_from_url(url) is None


@pytest.mark.parametrize("url", [None, "", "NIL", "nil", " Nil "])
def test_nil_is_recognised_in_any_case(url):
    assert is_nil(url)


@given(st.text(st.characters(codec="utf-8", exclude_characters="?#%_[]()<>\"'"), min_size=1))
def test_percent_encoding_changes_no_title(title):
    plain = canonical_title(title)
    if plain:
        # A title's own first slash is encoded: a doubled slash in an address is a slip, and mended.
        assert title_from_url(f"https://en.wikipedia.org/wiki/{quote(plain, safe='')}") == plain


@given(st.text(st.characters(codec="utf-8", exclude_characters="%")))
def test_canonical_titles_stay_as_they_are(title):
    once = canonical_title(title)
    assert canonical_title(once) == once
