"""Mention lists of task link: rows, texts, candidates and entities."""

import hashlib
import shutil

import pandas as pd
import pytest
from world import image_url, write_image, write_mentions

from mmsim.data.mentions import write_mentions as write_lists
from mmsim.data.prepare import prepare
from mmsim.errors import UserError

TRAIN = [
    ("Paris in spring", "a", "Paris", "Paris", ["Paris", "Paris, Texas", "Paris"]),
    ("A lake in Rome", "b", "Rome", None, ["Rome"]),
]
VALID = [("Paris again", "c", "Paris", "Paris", ["Paris, Texas"])]
TEST = [("The Rome of old", "d", "Rome", "Rome", ["Rome", "Rome, Georgia"])]


def lists_of(tmp_path, train=TRAIN, valid=VALID, test=TEST):
    raw = write_mentions(tmp_path / "raw", train=train, valid=valid, test=test)
    prepare(raw, tmp_path / "prepared", near_bits=4, max_excluded=1.0, workers=1)
    summary = write_lists(tmp_path / "prepared", tmp_path / "pairs")
    names = ("train", "valid", "test", "entities", "texts")
    tables = {name: pd.read_parquet(tmp_path / f"pairs/{name}.parquet") for name in names}
    return summary, tables


def write(root, name, *lines):
    root.mkdir(exist_ok=True)
    (root / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def content_of(tables, row):
    texts = tables["texts"]
    return None if row < 0 else texts.loc[texts["text"] == row, "content"].item()


def titles_of(tables, rows):
    return tables["entities"].set_index("entity")["title"].loc[list(rows)].tolist()


def test_a_mention_has_its_context_its_name_and_its_own_candidates_without_repeats(tmp_path):
    _, tables = lists_of(tmp_path)
    first = tables["train"].iloc[0]
    assert content_of(tables, first["text"]) == "Paris [SEP] Paris in spring"
    assert content_of(tables, first["name_text"]) == "Paris"
    assert titles_of(tables, first["candidates"]) == ["Paris", "Paris, Texas"]
    assert titles_of(tables, [first["entity"]]) == ["Paris"]


def test_the_gold_is_never_put_among_the_candidates(tmp_path):
    _, tables = lists_of(tmp_path)
    (valid,) = tables["valid"].to_dict("records")
    assert titles_of(tables, valid["candidates"]) == ["Paris, Texas"]
    assert valid["entity"] not in valid["candidates"]


def test_nil_mentions_stay_without_gold(tmp_path):
    summary, tables = lists_of(tmp_path)
    nil = tables["train"].iloc[1]
    assert nil["nil"]
    assert nil["entity"] == -1
    assert summary.set_index("split")["nil"].to_dict() == {"train": 1, "valid": 0, "test": 0}
    assert summary.set_index("split")["gold_among_candidates"].tolist() == [1, 0, 1]


def test_entities_are_golds_and_candidates_each_once_with_their_descriptions(tmp_path):
    write(tmp_path / "raw", "wikipedia_entity2desc_filtered.tsv", "Paris@@@@A capital.")
    _, tables = lists_of(tmp_path)
    entities = tables["entities"]
    assert sorted(entities["title"]) == ["Paris", "Paris, Texas", "Rome", "Rome, Georgia"]
    texts = {row.title: content_of(tables, row.text) for row in entities.itertuples()}
    assert texts["Paris"] == "Paris [SEP] A capital."
    assert texts["Rome"] == "Rome"
    assert entities["entity"].tolist() == list(range(len(entities)))


def test_each_text_has_one_row(tmp_path):
    _, tables = lists_of(tmp_path)
    texts = tables["texts"]
    assert texts["content"].is_unique
    assert texts["text"].tolist() == list(range(len(texts)))
    # "Rome" is a mention and an entity without a description: one row for both.
    assert (texts["content"] == "Rome").sum() == 1


def test_images_that_cannot_be_used_are_absent(tmp_path):
    write_image(tmp_path / "raw", "a", seed=1)
    write_image(tmp_path / "raw", "d", seed=2).write_bytes(b"broken")
    _, tables = lists_of(tmp_path)
    assert tables["train"]["image"].tolist()[0] >= 0
    assert tables["train"]["image"].tolist()[1] == -1
    assert tables["test"]["image"].tolist() == [-1]
    assert (tables["entities"]["image"] == -1).all()


def test_an_entity_has_the_first_listed_image_whose_file_is_there(tmp_path):
    write_image(tmp_path / "raw", "tower", seed=5)
    shutil.copy(
        write_image(tmp_path / "raw", "a", seed=1),
        tmp_path / "raw/wikinewsImgs" / f"{hashlib.md5(b'copy.png').hexdigest()}.png",
    )
    lines = [
        f"Paris@@@@{image_url('gone')}[AND]{image_url('tower')}",
        f"Rome@@@@{image_url('copy')}",
        f"Oslo@@@@{image_url('tower')}",
    ]
    write(tmp_path / "raw", "wikipedia_entity2imgs.tsv", "entity@@@@imgs", *lines)
    _, tables = lists_of(tmp_path)
    images = pd.read_parquet(tmp_path / "prepared/images.parquet").set_index("image")
    image_of = tables["entities"].set_index("title")["image"]
    assert images.loc[image_of["Paris"], "name"].startswith(hashlib.md5(b"tower.png").hexdigest())
    # The same bytes as the caption's image a: the same row, encoded once.
    assert image_of["Rome"] == tables["train"]["image"][0]
    assert image_of["Rome, Georgia"] == -1
    assert images["group"].loc[image_of["Paris"]] not in set(
        images.drop(image_of["Paris"])["group"]
    )


def test_phrases_become_texts_of_the_mention_whose_image_they_are_of(tmp_path):
    path = write_image(tmp_path / "raw", "a", seed=1)
    write(tmp_path / "raw", "image_phrases.tsv", f"{path.name}@@@@an old tower@@@@sunny city")
    _, tables = lists_of(tmp_path)
    first, second = tables["train"].to_dict("records")
    assert content_of(tables, first["objects"]) == "an old tower"
    assert content_of(tables, first["scene"]) == "sunny city"
    assert second["objects"] == second["scene"] == -1


def test_priors_point_at_entities(tmp_path):
    write(tmp_path / "raw", "mention_entity_prior.tsv", "Paris@@@@Paris@@@@0.9", "X@@@@Oslo@@@@1")
    _, tables = lists_of(tmp_path)
    (prior,) = pd.read_parquet(tmp_path / "prepared/priors.parquet").to_dict("records")
    assert titles_of(tables, [prior["entity"]]) == ["Paris"]
    assert prior["probability"] == 0.9


def test_a_split_without_a_gold_is_refused(tmp_path):
    with pytest.raises(UserError, match="no mention with a gold entity in valid"):
        lists_of(tmp_path, valid=[("A lake in Rome", "c", "Rome", None, ["Rome"])])


def test_a_release_without_candidates_is_refused(tmp_path):
    bare = [[(*record[:4], [])] for record in (TRAIN[0], VALID[0], TEST[0])]
    with pytest.raises(UserError, match="finds no candidates"):
        lists_of(tmp_path, *bare)
