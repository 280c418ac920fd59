import json
import shutil

import pandas as pd
import pytest
from world import caption, image_url, write_image, write_passages

from mmsim.data.prepare import prepare
from mmsim.data.tables import ENTITIES, IMAGES, INSTANCES, TEXTS
from mmsim.errors import UserError


def run(root, destination, near_bits=4, max_excluded=1.0):
    tally = prepare(root, destination, near_bits, max_excluded, workers=2)
    tables = {
        name: pd.read_parquet(destination / name) for name in (INSTANCES, IMAGES, TEXTS, ENTITIES)
    }
    return tally, tables


def test_each_unique_image_and_text_has_one_row(tmp_path):
    for name in "abc":
        write_image(tmp_path / "raw", name, seed=ord(name))
    records = [
        caption("Paris in spring", "a", ("Paris", "Paris")),
        caption("The tower of Paris", "a", ("Paris", "Paris")),
        caption("Paris in spring", "b", ("Paris", "Paris")),
    ]
    _, tables = run(write_passages(tmp_path / "raw", train=records), tmp_path / "out")
    assert len(tables[IMAGES]) == 2
    assert len(tables[TEXTS]) == 2
    assert len(tables[INSTANCES]) == 3
    assert tables[ENTITIES]["mentions"].tolist() == [3]


def test_exact_copies_under_two_names_are_one_image(tmp_path):
    original = write_image(tmp_path / "raw", "a", seed=1)
    shutil.copy(original, write_image(tmp_path / "raw", "b", seed=2))
    records = [caption("One", "a"), caption("Two", "b")]
    _, tables = run(write_passages(tmp_path / "raw", train=records), tmp_path / "out")
    assert len(tables[IMAGES]) == 1


def test_nil_is_kept_without_gold_and_counted(tmp_path):
    records = [caption("Somebody unknown", "a", ("Somebody", None))]
    tally, tables = run(write_passages(tmp_path, train=records), tmp_path / "out")
    row = tables[INSTANCES].iloc[0]
    assert row["nil"]
    assert row["entity"] == -1
    assert len(tables[ENTITIES]) == 0
    assert tally.mended["NIL mention, kept without gold"]["train"] == 1


def test_captions_without_mentions_are_kept(tmp_path):
    _, tables = run(
        write_passages(tmp_path, train=[caption("No names here", "a")]), tmp_path / "out"
    )
    assert tables[INSTANCES]["mention"].tolist() == [""]


def test_a_mention_with_no_article_is_left_out_but_its_caption_stays(tmp_path):
    records = [caption("Paris in spring", "a", ("Paris", "Paris"))]
    records[0][3][0][4] = "https://example.org/Paris"
    tally, tables = run(write_passages(tmp_path, train=records), tmp_path / "out")
    assert tally.excluded["entity address is no Wikipedia article"]["train"] == 1
    assert tables[INSTANCES]["entity"].tolist() == [-1]


def test_a_wrong_span_is_found_again_or_kept_without(tmp_path):
    records = [caption("Alpha met Beta", "a", ("Beta", "Beta"), ("Alpha", "Alpha"))]
    records[0][3][0][2:4] = [0, 4]
    records[0][3][1][0] = "Alfa"
    tally, tables = run(write_passages(tmp_path, train=records), tmp_path / "out")
    assert tables[INSTANCES][["start", "end"]].to_numpy().tolist() == [[10, 14], [-1, -1]]
    assert tally.mended["mention found elsewhere in the caption"]["train"] == 1
    assert tally.mended["mention not in the caption, kept without span"]["train"] == 1


def test_spans_follow_when_white_space_is_normalised(tmp_path):
    sentence = "  Alpha \n met   Beta"
    records = [caption(sentence, "a", ("Beta", "Beta"))]
    _, tables = run(write_passages(tmp_path, train=records), tmp_path / "out")
    text, row = tables[TEXTS]["content"][0], tables[INSTANCES].iloc[0]
    assert text == "Alpha met Beta"
    assert text[row["start"] : row["end"]] == "Beta"


@pytest.mark.parametrize("copy", ["caption", "image", "near image"])
def test_what_stands_in_two_splits_stays_in_the_later_one(tmp_path, copy):
    raw = tmp_path / "raw"
    write_image(raw, "a", seed=1)
    write_image(raw, "b", seed=1 if copy == "image" else 2)
    if copy == "near image":
        write_image(raw, "b", seed=1, size=(80, 60))
    texts = ("Same words", "same  Words") if copy == "caption" else ("One", "Two")
    write_passages(raw, train=[caption(texts[0], "a")], test=[caption(texts[1], "b")])
    tally, tables = run(raw, tmp_path / "out")
    assert tables[INSTANCES]["split"].tolist() == ["test"]
    assert tally.total_excluded == 1


def test_mention_level_alone_is_enough_and_brings_candidates(tmp_path):
    sentence = "Paris in spring"
    record = [sentence, image_url("a"), "Paris", "Location", [], ["in", "spring"]]
    record += ["https://en.wikipedia.org/wiki/Paris", ["Paris", "Paris_Hilton"], "topic", 0, 5]
    folder = tmp_path / "wikidiverse_w_cands"
    folder.mkdir()
    (folder / "test_w_10cands.json").write_text(json.dumps([record, record]))
    tally, tables = run(tmp_path, tmp_path / "out")
    assert tables[INSTANCES]["candidates"][0].tolist() == ["Paris", "Paris Hilton"]
    assert tally.mended["record repeated, merged"]["test"] == 1
    # The same mention at passage level is the same row.
    write_passages(tmp_path, test=[caption(sentence, "a", ("Paris", "Paris"))])
    _, tables = run(tmp_path, tmp_path / "out")
    assert len(tables[INSTANCES]) == 1
    assert len(tables[INSTANCES]["candidates"][0]) == 2


def test_files_are_found_whatever_the_case_of_their_suffix(tmp_path):
    path = write_image(tmp_path / "raw", "a", seed=1)
    path.rename(path.with_suffix(".PNG"))
    write_passages(tmp_path / "raw", train=[caption("One", "a")])
    _, tables = run(tmp_path / "raw", tmp_path / "out")
    assert tables[IMAGES]["status"].tolist() == ["ok"]


def test_bad_images_are_rows_with_a_reason(tmp_path):
    raw = tmp_path / "raw"
    truncated = write_image(raw, "a", seed=1)
    truncated.write_bytes(truncated.read_bytes()[:200])
    write_image(raw, "b", seed=2).write_text("<html>not found</html>")
    write_image(raw, "c", seed=3).write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    write_image(raw, "e", seed=4)
    write_passages(raw, train=[caption(f"Caption {name}", name) for name in "abcde"])
    _, tables = run(raw, tmp_path / "out")
    expected = ["corrupt", "corrupt", "unsupported", "missing", "ok"]
    assert tables[IMAGES]["status"].tolist() == expected
    assert (tables[IMAGES]["reason"].str.len() > 0).tolist() == [True] * 4 + [False]


def test_too_many_losses_stop_the_stage_and_keep_the_last_output(tmp_path):
    good = write_passages(tmp_path / "good", train=[caption("One", "a")])
    run(good, tmp_path / "out")
    before = (tmp_path / "out" / "exclusions.json").read_text()
    bad = write_passages(tmp_path / "bad", train=[caption("One", "a"), ["broken record"]])
    with pytest.raises(UserError, match=r"50\.0% of 2 records .* data\.max_excluded"):
        run(bad, tmp_path / "out", max_excluded=0.1)
    assert (tmp_path / "out" / "exclusions.json").read_text() == before


def test_a_release_without_any_image_loses_nothing(tmp_path):
    tally, _ = run(
        write_passages(tmp_path, train=[caption("One", "a")]), tmp_path / "out", max_excluded=0.0
    )
    assert tally.images == {"missing": 1}


def test_a_broken_file_is_named(tmp_path):
    write_passages(tmp_path, train=[])
    (tmp_path / "wikidiverse" / "train.json").write_text("[[")
    with pytest.raises(UserError, match=r"train\.json is no valid JSON"):
        run(tmp_path, tmp_path / "out")
