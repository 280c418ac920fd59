"""The sample: a whole release, the same each time, with every defect that real data has."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image, ImageFile, UnidentifiedImageError

from mmsim.data.filenames import image_file_name
from mmsim.data.sample.generate import write_sample

CAPTIONS, ENTITIES = 80, 30
WIKI = "https://en.wikipedia.org/wiki/"


@dataclass
class Sample:
    root: Path
    passages: dict[str, list[list[Any]]]
    mentions: dict[str, list[list[Any]]]

    def image(self, url: str) -> Path:
        return self.root / "wikinewsImgs" / image_file_name(url)

    @property
    def captions(self) -> list[list[Any]]:
        return [row for rows in self.passages.values() for row in rows]

    @property
    def records(self) -> list[list[Any]]:
        return [row for rows in self.mentions.values() for row in rows]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return _make(tmp_path_factory.mktemp("sample") / "raw", CAPTIONS, ENTITIES, 0)


def _make(root: Path, captions: int, entities: int, seed: int) -> Sample:
    write_sample(root, captions, entities, seed)
    splits = ("train", "valid", "test")
    return Sample(
        root,
        {split: _read(root / f"wikidiverse/{split}.json") for split in splits},
        {split: _read(root / f"wikidiverse_w_cands/{split}_w_10cands.json") for split in splits},
    )


def _read(path: Path) -> list[list[Any]]:
    rows: list[list[Any]] = json.loads(path.read_text(encoding="utf-8"))
    return rows


def _digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(sample: Sample, tmp_path: Path) -> None:
    again = _make(tmp_path / "again", CAPTIONS, ENTITIES, 0)
    assert _digests(again.root) == _digests(sample.root)


def test_another_seed_gives_another_world(sample: Sample, tmp_path: Path) -> None:
    other = _make(tmp_path / "other", 60, ENTITIES, 1)
    assert not {row[0] for row in other.captions} & {row[0] for row in sample.captions} - {""}
    assert not set(_digests(other.root).values()) & set(_digests(sample.root).values()) - {
        hashlib.sha256(_unreadable(sample).read_bytes()).hexdigest()
    }


def test_it_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "old").touch()
    _make(tmp_path / "raw", 60, 10, 0)
    assert {path.name for path in (tmp_path / "raw").iterdir()} == {
        "wikidiverse",
        "wikidiverse_w_cands",
        "wikinewsImgs",
        "wikipedia_entity2desc_filtered.tsv",
    }


def test_four_fifths_are_for_training(sample: Sample) -> None:
    assert {split: len(rows) for split, rows in sample.passages.items()} == {
        "train": 64,
        "valid": 8,
        "test": 8,
    }


def test_passages_have_the_fields_of_the_release(sample: Sample) -> None:
    for sentence, url, topic, mentions in sample.captions:
        assert isinstance(sentence, str) and isinstance(topic, str)
        assert url.startswith("https://")
        assert len(mentions) <= 2
        for text, type_, start, end, entity in mentions:
            assert type_ in {"Person", "Location", "Organization", "Event", "Other"}
            assert isinstance(text, str) and isinstance(entity, str)
            assert 0 <= start < end <= len(sentence)


def test_mention_records_agree_with_the_passages(sample: Sample) -> None:
    for split, rows in sample.passages.items():
        expected = [(row[0], row[1], row[2], *mention) for row in rows for mention in row[3]]
        assert [
            (sentence, url, topic, text, type_, start, end, entity)
            for sentence, url, text, type_, _, _, entity, _, topic, start, end in (
                sample.mentions[split]
            )
        ] == expected


def test_context_words_stand_beside_the_mention(sample: Sample) -> None:
    for record in sample.records:
        sentence, left, right, start, end = record[0], record[4], record[5], record[9], record[10]
        assert len(left) <= 10 and len(right) <= 10
        assert all(word in sentence[:start] for word in left)
        assert all(word in sentence[end:] for word in right)


def test_each_mention_has_ten_different_candidates_with_descriptions(sample: Sample) -> None:
    described = set(_descriptions(sample))
    missing: set[str] = set()
    for record in sample.records:
        assert len(set(record[7])) == 10
        missing |= {title for title in record[7] if title.replace("_", " ") not in described}
    assert len(missing) <= 1


def _descriptions(sample: Sample) -> dict[str, str]:
    text = (sample.root / "wikipedia_entity2desc_filtered.tsv").read_text(encoding="utf-8")
    return dict(line.split("@@@@") for line in text.splitlines())


def test_a_few_entities_are_frequent_and_some_are_mentioned_once(sample: Sample) -> None:
    counts = Counter(_title(record[6]) for record in sample.records)
    assert max(counts.values()) >= 8
    assert 1 in counts.values()


def test_some_captions_mention_nobody(sample: Sample) -> None:
    assert any(row[0] and not row[3] for row in sample.captions)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_one_form_means_several_entities_in_each_split(sample: Sample, split: str) -> None:
    meanings = defaultdict(set)
    for record in sample.mentions[split]:
        if record[6] != "NIL":
            meanings[record[2]].add(_title(record[6]))
    assert max(len(titles) for titles in meanings.values()) >= 2


def _title(url: str) -> str:
    return unquote(url.rsplit("/", 1)[-1].rstrip("]")).replace("_", " ")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Return a thousand captions, with blank pictures: drawing is what takes the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmsim.data.sample.generate.render", lambda scene: Image.new("RGB", (32, 32)))
        return _make(tmp_path_factory.mktemp("large") / "raw", 1000, 200, 0)


def test_a_larger_sample_has_more_of_all_but_the_defects(large: Sample) -> None:
    assert len(large.captions) == 1000
    assert len(_descriptions(large)) > 200
    assert sum(record[6] == "NIL" for record in large.records) == 2
    assert sum(not large.image(row[1]).exists() for row in large.captions) == 1


def test_gold_is_mostly_but_not_always_a_candidate(large: Sample) -> None:
    found = [_title(record[6]).replace(" ", "_") in record[7] for record in large.records]
    assert 0.8 < sum(found) / len(found) < 1


# --- planted defects ----------------------------------------------------------------------


def _opened(sample: Sample, suffix: str = "") -> list[ImageFile.ImageFile]:
    """Open every picture whose URL ends so and that can be decoded."""
    images = []
    for row in sample.captions:
        try:
            image = Image.open(sample.image(row[1]))
            image.load()
        except OSError:
            continue
        if row[1].endswith(suffix):
            images.append(image)
    return images


def _unreadable(sample: Sample) -> Path:
    """Return the one image file that is no image."""
    found = []
    for row in sample.captions:
        try:
            Image.open(sample.image(row[1])).close()
        except UnidentifiedImageError:
            found.append(sample.image(row[1]))
        except FileNotFoundError:
            pass
    (path,) = found
    return path


def test_one_image_file_is_no_image(sample: Sample) -> None:
    assert _unreadable(sample).read_bytes().startswith(b"<!DOCTYPE html>")


def test_one_image_is_truncated(sample: Sample) -> None:
    broken = []
    for row in sample.captions:
        path = sample.image(row[1])
        if path.exists() and path != _unreadable(sample):
            try:
                Image.open(path).load()
            except OSError as error:
                broken.append(str(error))
    assert len(broken) == 1 and "truncated" in broken[0]


def test_one_image_is_missing(sample: Sample) -> None:
    assert sum(not sample.image(row[1]).exists() for row in sample.captions) == 1


def test_every_image_file_belongs_to_a_caption(sample: Sample) -> None:
    named = {sample.image(row[1]) for row in sample.captions}
    assert set((sample.root / "wikinewsImgs").iterdir()) < named


def test_one_drawing_is_stored_as_png(sample: Sample) -> None:
    (image,) = _opened(sample, ".svg")
    assert image.format == "PNG"
    assert Path(str(image.filename)).suffix == ".png"


def test_one_gif_is_named_after_its_whole_url_segment(sample: Sample) -> None:
    (url,) = (row[1] for row in sample.captions if row[1].endswith(".gif"))
    assert sample.image(url).name.endswith(url.rsplit("/", 1)[-1])
    (image,) = _opened(sample, ".gif")
    assert image.format == "GIF"


def test_one_png_is_transparent(sample: Sample) -> None:
    (image,) = _opened(sample, ".png")
    assert (image.format, image.mode) == ("PNG", "RGBA")
    assert image.getchannel("A").getextrema() == (0, 255)


def test_one_suffix_is_upper_case(sample: Sample) -> None:
    assert len(_opened(sample, ".JPG")) == 1


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_one_jpeg_has_other_channels_than_rgb(sample: Sample, mode: str) -> None:
    images = [image for image in _opened(sample, ".jpg") if image.mode == mode]
    assert [image.format for image in images] == ["JPEG"]


def test_one_image_name_is_percent_encoded(sample: Sample) -> None:
    (url,) = (row[1] for row in sample.captions if "%20" in row[1])
    assert sample.image(url).exists()


@pytest.mark.parametrize(
    "start", ["nhttps://en.wikipedia.org/wiki/", "https://en.wikipedia.org//wiki/", f"[{WIKI}"]
)
def test_one_entity_url_is_malformed_and_meant_for_a_described_entity(
    sample: Sample, start: str
) -> None:
    (url,) = {record[6] for record in sample.records if record[6].startswith(start)}
    assert _title(url) in _descriptions(sample)


def test_one_entity_title_is_percent_encoded(sample: Sample) -> None:
    (url,) = {record[6] for record in sample.records if "%20" in record[6]}
    assert _title(url) in _descriptions(sample)


def test_two_mentions_are_nil(sample: Sample) -> None:
    assert [record[6] for record in sample.mentions["train"]].count("NIL") == 1
    assert [record[6] for record in sample.mentions["test"]].count("NIL") == 1


def test_one_image_serves_two_captions(sample: Sample) -> None:
    by_url = defaultdict(set)
    for row in sample.captions:
        by_url[row[1]].add(row[0])
    assert sorted(map(len, by_url.values()))[-2:] == [1, 2]


def test_one_caption_stands_in_two_splits_with_two_images(sample: Sample) -> None:
    train = {row[0]: row[1] for row in sample.passages["train"]}
    both = [row for row in sample.passages["test"] if row[0] in train]
    assert len(both) == 1
    assert both[0][1] != train[both[0][0]]


def test_one_image_stands_in_two_splits_as_an_exact_copy(sample: Sample) -> None:
    splits_of, urls_of = defaultdict(set), defaultdict(set)
    for split, rows in sample.passages.items():
        for row in rows:
            if sample.image(row[1]).exists():
                content = sample.image(row[1]).read_bytes()
                splits_of[content].add(split)
                urls_of[content].add(row[1])
    (content,) = (content for content, splits in splits_of.items() if len(splits) > 1)
    assert splits_of[content] == {"train", "test"}
    assert len(urls_of[content]) == 2


@pytest.mark.parametrize("seed", range(2))
def test_one_image_stands_in_two_splits_as_a_near_copy(tmp_path: Path, seed: int) -> None:
    imagehash = pytest.importorskip("imagehash")
    sample = _make(tmp_path / "raw", 60, 20, seed)
    hashes = {}
    for split in ("train", "valid"):
        for row in sample.passages[split]:
            try:
                hashes[split, row[1]] = imagehash.phash(Image.open(sample.image(row[1])))
            except OSError:
                continue
    near = [
        (one, other)
        for one in hashes
        for other in hashes
        if one[0] == "train" and other[0] == "valid" and hashes[one] - hashes[other] <= 4
    ]
    ((one, other),) = near
    assert sample.image(one[1]).read_bytes() != sample.image(other[1]).read_bytes()


def test_one_mention_is_not_what_its_span_says(sample: Sample) -> None:
    wrong = [record for record in sample.records if record[0][record[9] : record[10]] != record[2]]
    assert len(wrong) == 1


def test_one_caption_is_empty(sample: Sample) -> None:
    assert [row[3] for row in sample.captions if not row[0]] == [[]]


def test_one_mention_is_recorded_twice(sample: Sample) -> None:
    counts = Counter(json.dumps(record) for record in sample.records)
    assert sorted(counts.values())[-2:] == [1, 2]


def test_no_other_caption_stands_twice(sample: Sample) -> None:
    counts = Counter(row[0] for row in sample.captions)
    assert sorted(counts.values())[-2:] == [1, 2]
