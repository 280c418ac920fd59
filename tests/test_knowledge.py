"""What a release knows of entities and images beside its captions."""

import pytest

from mmsim.data.knowledge import (
    read_descriptions,
    read_entity_images,
    read_phrases,
    read_prior,
)
from mmsim.errors import UserError


def write(root, name, *lines):
    (root / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def test_descriptions_of_wanted_titles_in_any_spelling_the_first_stands(tmp_path):
    write(
        tmp_path,
        "wikipedia_entity2desc_filtered.tsv",
        "new_York_City@@@@ A city. ",
        "New York City@@@@Another.",
        "Paris@@@@A capital.",
        "no separator",
    )
    assert read_descriptions(tmp_path, {"New York City"}) == {"New York City": "A city."}


def test_entity_images_skip_the_headings_and_entities_without_an_address(tmp_path):
    write(
        tmp_path,
        "wikipedia_entity2imgs.tsv",
        "entity@@@@imgs",
        "Paris@@@@https://x.org/1.jpg[AND] https://x.org/2.jpg",
        "Rome@@@@",
        "Oslo@@@@https://x.org/3.jpg",
    )
    found = read_entity_images(tmp_path, {"Paris", "Rome", "Entity"})
    assert found == {"Paris": ["https://x.org/1.jpg", "https://x.org/2.jpg"]}


def test_priors_of_wanted_titles(tmp_path):
    write(tmp_path, "mention_entity_prior.tsv", "NYC@@@@New_York_City@@@@0.75", "NYC@@@@Nyc@@@@0.1")
    assert read_prior(tmp_path, {"New York City"}) == [("NYC", "New York City", 0.75)]


@pytest.mark.parametrize("line", ["NYC@@@@New_York@@@@often", "NYC@@@@New_York"])
def test_a_prior_of_another_form_is_refused_with_its_line(tmp_path, line):
    write(tmp_path, "mention_entity_prior.tsv", "NYC@@@@New_York@@@@0.5", line)
    with pytest.raises(UserError, match=r"line 2: found .*expected mention@@@@entity@@@@prob"):
        read_prior(tmp_path, {"New York"})


def test_phrases_by_image_and_lines_of_another_form_refused(tmp_path):
    write(tmp_path, "image_phrases.tsv", "a.png@@@@a red car@@@@sunny street", "b.png@@@@@@@@night")
    assert read_phrases(tmp_path) == {
        "a.png": ("a red car", "sunny street"),
        "b.png": ("", "night"),
    }
    write(tmp_path, "image_phrases.tsv", "a.png@@@@a red car")
    with pytest.raises(UserError, match="line 1: found 2 fields"):
        read_phrases(tmp_path)


def test_no_file_is_no_knowledge(tmp_path):
    assert read_descriptions(tmp_path, {"A"}) == read_entity_images(tmp_path, {"A"}) == {}
    assert read_prior(tmp_path, {"A"}) == []
    assert read_phrases(tmp_path) == {}
