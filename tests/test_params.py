from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from mmsim.catalogue import CATALOGUE, NOTHING
from mmsim.errors import UserError
from mmsim.params import Params, load_params

SHIPPED = Path(__file__).parents[1] / "params.yaml"


def leaves(content, *above):
    for key, value in content.items():
        if isinstance(value, dict):
            yield from leaves(value, *above, key)
        else:
            yield ".".join([*above, key])


def schema_leaves(section, *above):
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from schema_leaves(field.annotation, *above, name)
        else:
            yield ".".join([*above, name])


def shipped_with(changes):
    """The shipped parameters, with some that `changes` gives by their dotted keys."""
    content = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    for key, value in changes.items():
        *above, leaf = key.split(".")
        section = content
        for name in above:
            section = section[name]
        section[leaf] = value
    return content


def load(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), "utf-8")
    return load_params(path)


def problems_of(tmp_path, changes):
    """The problems that the message names, a line each."""
    with pytest.raises(UserError) as raised:
        load(tmp_path, shipped_with(changes))
    heading, *problems = str(raised.value).splitlines()
    assert str(tmp_path / "params.yaml") in heading
    assert "nothing was run" in heading
    return problems


def test_the_shipped_parameters_are_right():
    params = load_params(SHIPPED)
    assert params.data.source == "sample"
    assert params.model.width % params.model.heads == 0


def test_the_shipped_file_holds_every_parameter_and_no_other():
    content = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    assert sorted(leaves(content)) == sorted(schema_leaves(Params))


def comments_above_keys():
    """The comment over each leaf key of the shipped file, or over the keys right above it."""
    comments, comment = {}, []
    section, last = "", ""
    for line in SHIPPED.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("#"):
            comment = [*comment, text] if last.startswith("#") else [text]
        elif text.endswith(":") and not line.startswith(" "):
            section, comment = text.removesuffix(":"), []
        elif text:
            key = text.partition(":")[0]
            comments[f"{section}.{key}" if line.startswith(" ") else key] = " ".join(comment)
        else:
            comment = []
        last = text
    return comments


def test_each_parameter_of_the_shipped_file_is_explained_above_it():
    comments = comments_above_keys()
    assert sorted(comments) == sorted(schema_leaves(Params))
    assert [key for key, comment in comments.items() if not comment] == []


def test_each_comment_says_which_stage_reads_the_parameter():
    silent = [
        key
        for key, comment in comments_above_keys().items()
        if "Read by:" not in comment and not key.startswith("runtime.")
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("data.source", "wikipedia", "'sample', 'wikidiverse' or 'folder'"),
        ("data.folder", 7, "string"),
        ("data.images", "zip", "'archive' or 'urls'"),
        ("data.sample_captions", 59, "60"),
        ("data.sample_captions", 100_001, "100000"),
        ("data.sample_captions", "many", "integer"),
        ("data.sample_entities", 9, "10"),
        ("data.sample_seed", -1, "0"),
        ("data.near_image_bits", 17, "16"),
        ("data.near_image_bits", 2.5, "integer"),
        ("data.max_excluded", 1.1, "1"),
        ("data.max_excluded", -0.1, "0"),
        ("data.max_pairs_per_entity", 0, "1"),
        ("image.encoder", "resnet51", "'resnet50'"),
        ("image.weights", "", "at least 1 character"),
        ("image.weights", None, "string"),
        ("text.encoder", "", "at least 1 character"),
        ("text.weights", "frozen", "'auto', 'random' or 'pretrained'"),
        ("text.max_length", 7, "8"),
        ("text.max_length", 513, "512"),
        ("task", "rank", "'match', 'pair' or 'link'"),
        ("data.entity_images", "urls", "boolean"),
        ("link.candidates", -1, "0"),
        ("link.rerank", 0, "1"),
        ("pairs.same_entity", "perhaps", "boolean"),
        ("pairs.negatives", 0, "1"),
        ("pairs.negatives", 21, "20"),
        ("pairs.seed", -1, "0"),
        ("pairs.seed_protocol", "perhaps", "boolean"),
        ("model.name", "clip", "'siamese', 'dedup', 'mimic', 'm3el' or 'dwe'"),
        ("model.unit_width", 4, "8"),
        ("model.attention", "self", "'none', 'base' or 'cross'"),
        ("model.width", 4, "8"),
        ("model.heads", 0, "1"),
        ("model.head_width", 0, "1"),
        ("model.dropout", 0.96, "0.95"),
        ("train.loss", "triplet", "'contrastive', 'bce' or 'infonce'"),
        ("train.margin", 0, "0"),
        ("train.margin", 2.1, "2"),
        ("train.temperature", 0, "0"),
        ("train.epochs", 0, "1"),
        ("train.patience", 0, "1"),
        ("train.batch_size", 1, "2"),
        ("train.learning_rate", 0, "0"),
        ("train.learning_rate", float("nan"), "finite"),
        ("train.weight_decay", -0.1, "0"),
        ("train.seeds", [], "at least 1 item"),
        ("train.seeds", 3, "list"),
        ("evaluate.draws", 99, "100"),
        ("evaluate.draws", 100_001, "100000"),
        ("evaluate.emap_pairs", -1, "0"),
        ("evaluate.emap_pairs", 2001, "2000"),
        ("runtime.device", "gpu", "cuda"),
        ("runtime.workers", 0, "1"),
        ("runtime.image_batch_size", 0, "1"),
        ("runtime.text_batch_size", -4, "1"),
        ("runtime.precision", "float16", "'auto', 'float32' or 'bfloat16'"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_found_and_what_is_allowed(
    key, value, allowed, tmp_path
):
    (problem,) = problems_of(tmp_path, {key: value})
    assert problem.strip().startswith(f"{key}: found {value!r}; ")
    assert allowed in problem.partition(";")[2]


@pytest.mark.parametrize(
    ("changes", "section", "facts"),
    [
        ({"model.heads": 5}, "model", ["width 512", "heads 5"]),
        ({"train.seeds": [1, 2, 1]}, "train", ["seeds [1, 2, 1]"]),
        ({"data.source": "folder"}, "data", ["'folder'", "data.folder"]),
    ],
)
def test_parameters_that_do_not_go_together_are_named(changes, section, facts, tmp_path):
    (problem,) = problems_of(tmp_path, changes)
    assert problem.strip().startswith(f"{section}: ")
    assert all(fact in problem for fact in facts)


def test_the_seed_protocol_is_for_task_pair_alone(tmp_path):
    (problem,) = problems_of(tmp_path, {"task": "match", "pairs.seed_protocol": True})
    assert "pairs.seed_protocol is true, so task must be pair" in problem
    params = load(tmp_path, shipped_with({"task": "pair", "pairs.seed_protocol": True}))
    assert params.pairs.seed_protocol


def test_one_seed_among_several_that_is_wrong_is_named(tmp_path):
    (problem,) = problems_of(tmp_path, {"train.seeds": [0, -1]})
    assert "train.seeds.1: found -1" in problem


def test_all_problems_are_named_at_once(tmp_path):
    changes = {"model.width": 4, "train.loss": "triplet", "data.depth": 1}
    problems = problems_of(tmp_path, changes)
    assert {problem.strip().partition(":")[0] for problem in problems} == set(changes)


@pytest.mark.parametrize("key", ["modle", "model.depth"])
def test_an_unknown_parameter_is_refused(key, tmp_path):
    (problem,) = problems_of(tmp_path, {key: 3})
    assert f"{key}: is no parameter of mmsim" in problem


@pytest.mark.parametrize("key", ["task", "model.width", "runtime.device"])
def test_a_missing_parameter_is_named(key, tmp_path):
    content = shipped_with({})
    *above, leaf = key.split(".")
    del (content[above[0]] if above else content)[leaf]
    with pytest.raises(UserError, match=f"{key}: is missing"):
        load(tmp_path, content)


@pytest.mark.parametrize("content", ["task: [match", "task: match\n\tmodel: 3", "a: b: c"])
def test_a_file_that_is_no_yaml_is_refused(content, tmp_path):
    with pytest.raises(UserError, match=r"params\.yaml is no valid YAML"):
        load(tmp_path, content)


@pytest.mark.parametrize("content", ["", "3", "- task"])
def test_a_file_without_parameters_is_refused(content, tmp_path):
    with pytest.raises(UserError, match="top level"):
        load(tmp_path, content)


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(UserError, match=r"params\.yaml is missing; run this in the project's top"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("written", ["3e-4", "0.0003", "3.0e-4"])
def test_a_learning_rate_may_be_written_with_an_exponent(written, tmp_path):
    content = SHIPPED.read_text(encoding="utf-8")
    assert "learning_rate: 0.0003" in content
    content = content.replace("learning_rate: 0.0003", f"learning_rate: {written}")
    assert load(tmp_path, content).train.learning_rate == pytest.approx(0.0003)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps", "xpu:0"])
def test_devices_are_given_by_their_names_in_torch(device, tmp_path):
    params = load(tmp_path, shipped_with({"runtime.device": device}))
    assert params.runtime.device == device


def test_parameters_do_not_change_once_they_are_read():
    params = load_params(SHIPPED)
    with pytest.raises(ValueError, match="frozen"):
        params.task = "pair"


def test_without_a_number_of_workers_there_is_one_for_each_core_and_no_more_than_16(
    tmp_path, monkeypatch
):
    params = load(tmp_path, shipped_with({"runtime.workers": None}))
    for cores, expected in ((1, 1), (8, 8), (64, 16), (None, 1)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert params.runtime.worker_count == expected
    assert load(tmp_path, shipped_with({"runtime.workers": 3})).runtime.worker_count == 3


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({"model.without": "text"}, "siamese allows nothing"),
        (
            {"task": "pair", "model.name": "dedup", "model.without": "cross"},
            "dedup allows nothing, image, text, cosine_losses",
        ),
        ({"model.name": "m3el"}, "not for task match; allowed are siamese"),
        ({"task": "pair", "model.name": "dwe"}, "allowed are siamese, dedup"),
        ({"task": "link", "model.name": "dedup"}, "allowed are siamese, mimic, m3el, dwe"),
        ({"task": "link", "evaluate.folds": 5}, "evaluate.folds"),
    ],
)
def test_a_head_goes_with_its_tasks_and_its_own_parts(tmp_path, changes, allowed):
    (problem,) = problems_of(tmp_path, changes)
    assert allowed in problem


@pytest.mark.parametrize(
    ("task", "name", "part"),
    [
        (task, name, part)
        for name, head in CATALOGUE.items()
        for task in head.tasks
        for part in (NOTHING, *head.parts)
    ],
)
def test_every_head_task_and_part_of_the_catalogue_is_allowed(tmp_path, task, name, part):
    changes = {"task": task, "model.name": name, "model.without": part}
    assert load(tmp_path, shipped_with(changes)).model.without == part


def test_the_shipped_comment_names_every_part_that_can_be_left_out():
    comment = comments_above_keys()["model.without"]
    for name, head in CATALOGUE.items():
        if head.parts:
            assert f"{name}: {', '.join(head.parts)}." in comment.replace("# ", "")
