import json
import math
import os

import pytest

from mmsim.files import link_or_copy, replacing_file, replacing_folder, write_json


class BrokenError(Exception):
    pass


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_a_file_appears_when_its_writing_is_done(tmp_path):
    path = tmp_path / "new" / "figures.txt"
    with replacing_file(path) as temporary:
        temporary.write_text("done")
        assert not path.exists()
    assert path.read_text() == "done"
    assert names(path.parent) == ["figures.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "figures.txt"
    path.write_text("old")
    with pytest.raises(BrokenError), replacing_file(path) as temporary:
        temporary.write_text("half of the n")
        raise BrokenError
    assert path.read_text() == "old"
    assert names(tmp_path) == ["figures.txt"]


def test_a_folder_takes_the_place_of_the_old_one_as_a_whole(tmp_path):
    path = tmp_path / "models"
    (path / "seed_0").mkdir(parents=True)
    with replacing_folder(path) as temporary:
        (temporary / "seed_1").mkdir()
        assert names(path) == ["seed_0"]
    assert names(path) == ["seed_1"]
    assert names(tmp_path) == ["models"]


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path):
    path = tmp_path / "models"
    path.mkdir()
    (path / "weights").write_text("old")
    with pytest.raises(BrokenError), replacing_folder(path) as temporary:
        (temporary / "weights").write_text("half")
        raise BrokenError
    assert (path / "weights").read_text() == "old"
    assert names(tmp_path) == ["models"]


def test_a_failure_leaves_no_new_folder_where_none_was(tmp_path):
    with pytest.raises(BrokenError), replacing_folder(tmp_path / "models") as temporary:
        (temporary / "weights").write_text("half")
        raise BrokenError
    assert names(tmp_path) == []


def test_a_folder_left_by_a_killed_run_of_the_same_process_number_is_no_obstacle(tmp_path):
    left = tmp_path / f".models.{os.getpid()}.tmp"
    left.mkdir()
    (left / "stale").write_text("stale")
    with replacing_folder(tmp_path / "models") as temporary:
        (temporary / "weights").write_text("new")
    assert names(tmp_path / "models") == ["weights"]


def test_json_is_ordered_readable_and_ends_its_last_line(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"b": 1, "a": {"Zürich": 0.5}})
    assert path.read_text("utf-8") == '{\n  "a": {\n    "Zürich": 0.5\n  },\n  "b": 1\n}\n'
    assert json.loads(path.read_text("utf-8")) == {"b": 1, "a": {"Zürich": 0.5}}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_that_is_not_finite_is_refused_and_the_old_file_kept(value, tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"auc": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"auc": value})
    assert json.loads(path.read_text()) == {"auc": 0.5}


def test_a_file_is_copied_where_links_are_refused(tmp_path, monkeypatch):
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_text("content")
    link_or_copy(source, target)
    assert target.samefile(source)

    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    link_or_copy(source, tmp_path / "c")
    assert (tmp_path / "c").read_text() == "content"
    assert not (tmp_path / "c").samefile(source)
