"""The pipeline as a DVC user meets it: run for real in a fresh Git repository where Git knows no
user, on a small sample. What ran is read from DVC's log."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).parent.parent
TRACKED = ("mmsim", "stages", "dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config")
STAGES = yaml.safe_load((CHECKOUT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
AFTER_FEATURES = ["train", "evaluate", "cross_validate", "report"]
SMALL = {
    "data": {"source": "sample", "sample_captions": 60, "sample_entities": 10},
    "image": {"encoder": "resnet18", "weights": "random"},
    "text": {"weights": "random", "max_length": 32},
    "task": "match",
    "model": {"attention": "base", "width": 16, "heads": 2, "head_width": 4},
    "train": {"epochs": 2, "seeds": [0]},
    "evaluate": {"draws": 100, "emap_pairs": 10},
    "runtime": {"device": "cpu", "image_batch_size": None},
}


@dataclass(frozen=True)
class Log:
    """What a command printed, on both streams, and its exit status."""

    status: int
    text: str

    @property
    def ran(self) -> list[str]:
        return re.findall(r"Running stage '(\w+)'", self.text)

    @property
    def restored(self) -> list[str]:
        return re.findall(r"Stage '(\w+)' is cached", self.text)


@dataclass(frozen=True)
class Project:
    """A Git repository with the project in it."""

    folder: Path
    environment: dict[str, str]

    def python(self, *arguments: str) -> Log:
        return self._run(sys.executable, *arguments)

    def dvc(self, *arguments: str) -> Log:
        return self.python("-m", "dvc", *arguments)

    def git(self, *arguments: str) -> str:
        done = self._run("git", *arguments)
        assert done.status == 0, done.text
        return done.text

    def json(self, *arguments: str) -> Any:
        done = self.dvc(*arguments, "--json")
        assert done.status == 0, done.text
        return json.loads(done.text)

    def figures(self, experiment: str) -> dict[str, dict[str, float]]:
        """Every figure of the first run (old) and of an experiment (new), by name."""
        diff: dict[str, dict[str, dict[str, float]]] = self.json(
            "metrics", "diff", "--all", "HEAD", experiment
        )
        return diff["metrics/metrics.json"]

    def lock(self) -> dict[str, Any]:
        content: dict[str, Any] = yaml.safe_load((self.folder / "dvc.lock").read_text())
        return content

    def _run(self, *command: str) -> Log:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Log(done.returncode, done.stdout)


def outputs(stage: dict[str, Any]) -> list[str]:
    return [
        next(iter(out)) if isinstance(out, dict) else out
        for out in stage["outs"] + stage.get("metrics", [])
    ]


def small_bert(folder: Path) -> Path:
    """Write the configuration and tokenizer of a BERT with one narrow layer."""
    from transformers import BertConfig

    from mmsim.features.vocabulary import tokenizer_from_texts

    tokenizer = tokenizer_from_texts(["the quick brown fox jumps over a lazy dog"])
    tokenizer.save_pretrained(folder)
    BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    ).save_pretrained(folder)
    return folder


def environment_of(root: Path) -> dict[str, str]:
    """An environment that knows nothing of this machine's user."""
    # Without PYTHONDONTWRITEBYTECODE: a dozen processes would each compile all of torch.
    dropped = ("GIT_", "DVC_", "MMSIM_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(root),
        "XDG_CONFIG_HOME": str(root),
        "GIT_CONFIG_NOSYSTEM": "1",
        "DVC_SITE_CACHE_DIR": str(root / "dvc"),
        "DVC_NO_ANALYTICS": "1",
        "MMSIM_CACHE_DIR": str(root / "cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Log]:
    """The project after `mmsim setup` and a first `dvc repro`, all committed."""
    root = tmp_path_factory.mktemp("pipeline")
    project = Project(root / "project", environment_of(root))
    for name in TRACKED:
        source, target = CHECKOUT / name, project.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    params = yaml.safe_load((CHECKOUT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in SMALL.items():
        params[section] = params[section] | values if isinstance(values, dict) else values
    params["text"]["encoder"] = str(small_bert(root / "bert"))
    (project.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    project.git("init", "--quiet", "--initial-branch", "main")
    done = project.python("-m", "mmsim.cli", "setup")
    assert done.status == 0, done.text
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "Start")
    log = project.dvc("repro")
    assert log.status == 0, log.text
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "Results")
    return project, log


@pytest.fixture(scope="session")
def cross_run(first_run: tuple[Project, Log]) -> Log:
    """`dvc exp run` with another attention, under the name cross."""
    project, _ = first_run
    reset(project)
    log = project.dvc("exp", "run", "--name", "cross", "-S", "model.attention=cross")
    assert log.status == 0, log.text
    return log


def reset(project: Project) -> None:
    if not project.git("status", "--porcelain"):
        return
    project.git("reset", "--quiet", "--hard")
    done = project.dvc("checkout", "--quiet", "--force")
    assert done.status == 0, done.text


@pytest.fixture
def project(first_run: tuple[Project, Log]) -> Project:
    """The project as it was after the first run, whatever other tests have done."""
    reset(first_run[0])
    return first_run[0]


def test_repro_runs_every_stage_and_makes_all_that_it_promises(
    project: Project, first_run: tuple[Project, Log]
) -> None:
    assert sorted(first_run[1].ran) == sorted(STAGES)
    missing = [
        path
        for stage in STAGES.values()
        for path in outputs(stage)
        if not (project.folder / path).exists()
    ]
    assert missing == []


def test_git_holds_the_metrics_and_none_of_the_data(project: Project) -> None:
    files = project.git("ls-files").split()
    assert {"dvc.lock", "metrics/metrics.json"} <= set(files)
    assert not [name for name in files if name.startswith(("data/", "models/", "reports/"))]


def test_metrics_are_finite_numbers_as_dvc_shows_no_others(project: Project) -> None:
    waiting = [json.loads((project.folder / "metrics/metrics.json").read_text())]
    figures: list[Any] = []
    while waiting:
        for value in waiting.pop().values():
            (waiting if isinstance(value, dict) else figures).append(value)
    assert figures
    assert [f for f in figures if type(f) not in (int, float) or not math.isfinite(f)] == []


def test_a_second_repro_runs_nothing(project: Project) -> None:
    log = project.dvc("repro")
    assert (log.ran, log.restored) == ([], [])
    assert "up to date" in log.text


def test_another_attention_runs_the_head_alone_on_the_same_features(cross_run: Log) -> None:
    assert cross_run.ran == AFTER_FEATURES


def test_metrics_diff_compares_two_variants(project: Project, cross_run: Log) -> None:
    figures = project.figures("cross")
    assert all(0 <= figures["test.auc"][side] <= 1 for side in ("old", "new"))
    assert any(figure["old"] != figure["new"] for figure in figures.values())


def test_exp_show_lists_the_variant_with_its_figures(project: Project, cross_run: Log) -> None:
    _, head = project.json("exp", "show")
    found = {run["name"]: run["revs"][0]["data"] for run in head["experiments"]}
    assert found["cross"]["params"]["params.yaml"]["data"]["model"]["attention"] == "cross"
    assert "auc" in found["cross"]["metrics"]["metrics/metrics.json"]["data"]["test"]


def test_earlier_variants_come_back_without_running(project: Project, cross_run: Log) -> None:
    log = project.dvc("exp", "run", "-S", "model.attention=cross")
    assert (log.ran, log.restored) == ([], AFTER_FEATURES)
    metrics = json.loads((project.folder / "metrics/metrics.json").read_text())
    assert metrics["test"]["auc"] == project.figures("cross")["test.auc"]["new"]
    # Now the workspace differs from the last commit, which DVC stashes: Git must know a user.
    back = project.dvc("exp", "run", "-S", "model.attention=base")
    assert (back.status, back.ran) == (0, [])


def test_what_is_measured_reruns_the_evaluation_alone(project: Project) -> None:
    log = project.dvc("exp", "run", "--name", "measured", "-S", "evaluate.draws=200")
    assert log.status == 0, log.text
    assert log.ran == AFTER_FEATURES[1:]
    figures = project.figures("measured")
    assert figures["test.auc"]["old"] == figures["test.auc"]["new"]
    bounds = [figures[f"test.auc_{side}"] for side in ("low", "high")]
    assert any(bound["old"] != bound["new"] for bound in bounds)


def test_the_workspace_is_shown_as_tables(project: Project) -> None:
    main, everything = (
        project.python("-m", "mmsim.cli", "show", *options) for options in ((), ("--all",))
    )
    assert (main.status, everything.status) == (0, 0), main.text + everything.text
    for figure in ("test.auc", "retrieval.image_to_text.chance.recall_at_10", "emap.gap_auc"):
        assert f"\n{figure} " in main.text and f"\n{figure} " in everything.text
    assert len(everything.text.splitlines()) > len(main.text.splitlines())


def test_two_variants_are_compared_on_the_same_test_pairs(project: Project, cross_run: Log) -> None:
    done = project.python("-m", "mmsim.cli", "compare", "HEAD", "cross", "--draws", "100")
    assert done.status == 0, done.text
    assert "auc" in done.text
    assert not project.git("status", "--porcelain")
    found = json.loads((project.folder / "reports/comparison.json").read_text())["comparisons"]
    assert [(one["first"], one["other"]) for one in found] == [("HEAD", "cross")]
    figures = project.figures("cross")["test.auc"]
    assert found[0]["differences"]["auc"]["difference"] == pytest.approx(
        figures["new"] - figures["old"]
    )


@pytest.fixture(scope="session")
def linked(first_run: tuple[Project, Log]) -> Log:
    """`dvc exp run` of two linking heads, under their names; the log of the first."""
    project, _ = first_run
    reset(project)
    logs = []
    for head in ("mimic", "m3el"):
        changes = ("task=link", f"model.name={head}", "train.epochs=2")
        options = (option for change in changes for option in ("-S", change))
        logs.append(project.dvc("exp", "run", "--name", head, *options))
        assert logs[-1].status == 0, logs[-1].text
    return logs[0]


def test_linking_encodes_its_own_texts_and_no_image_again(linked: Log) -> None:
    assert sorted(linked.ran) == sorted(["pairs", "features_text", *AFTER_FEATURES])
    assert "images to encode" not in linked.text


def test_linking_figures_stand_under_their_protocols(project: Project, linked: Log) -> None:
    figures = project.figures("m3el")
    for name in ("link.hits_at_1", "link.candidates.mrr", "link.injected.mrr", "link.pool.mrr"):
        assert 0 <= figures[name]["new"] <= 1
        assert 0 <= figures[f"{name}_low"]["new"] <= figures[f"{name}_high"]["new"] <= 1
    assert figures["link.mrr"]["new"] == figures["link.candidates.mrr"]["new"]
    assert (
        figures["link.candidates.mrr"]["new"] <= figures["link.candidates.candidate_recall"]["new"]
    )


def test_two_linking_heads_are_compared_on_the_same_mentions(project: Project, linked: Log) -> None:
    done = project.python("-m", "mmsim.cli", "compare", "mimic", "m3el", "--draws", "100")
    assert done.status == 0, done.text
    for figure in ("candidates.mrr", "injected.mrr", "pool.hits_at_1"):
        assert f"\n{figure} " in done.text
    refused = project.python("-m", "mmsim.cli", "compare", "mimic", "HEAD", "--draws", "100")
    assert refused.status != 0
    assert "one links mentions, the other tells pairs apart" in refused.text


def test_the_deduplication_head_tells_captioned_images_apart(project: Project) -> None:
    # Of 60 captions, too few show one entity twice.
    changes = ("data.sample_captions=150", "task=pair", "model.name=dedup")
    options = (option for change in changes for option in ("-S", change))
    log = project.dvc("exp", "run", "--name", "dedup", *options)
    assert log.status == 0, log.text
    figures = project.figures("dedup")
    for name in ("test.auc", "baselines.frozen_cosine.auc", "baselines.logistic_cosines.auc"):
        assert 0 <= figures[name]["new"] <= 1


def test_a_head_that_is_not_for_the_task_is_refused(project: Project) -> None:
    log = project.dvc("exp", "run", "-S", "model.name=m3el")
    assert log.status != 0
    assert "model.name is 'm3el', which is not for task match" in log.text
    assert "Traceback" not in log.text


def test_how_the_work_is_done_reruns_nothing(project: Project) -> None:
    log = project.dvc("exp", "run", "-S", "runtime.image_batch_size=4")
    assert (log.status, log.ran, log.restored) == (0, [], [])


def test_a_wrong_value_stops_with_those_allowed_before_any_work(project: Project) -> None:
    log = project.dvc("exp", "run", "-S", "model.attention=crosss")
    assert log.status != 0
    assert "model.attention: found 'crosss'; input should be 'none', 'base' or 'cross'" in log.text
    assert "Traceback" not in log.text
    assert "epoch" not in log.text


def test_a_device_that_is_not_there_stops_with_those_that_are(project: Project) -> None:
    log = project.dvc("exp", "run", "-S", "runtime.device=cuda:77", "-S", "train.seeds=[1]")
    assert log.status != 0
    assert "runtime.device is 'cuda:77', which is not there; this machine has: " in log.text
    assert "Traceback" not in log.text


def test_an_experiment_in_a_temporary_clone_finds_all_that_is_finished(
    project: Project, cross_run: Log
) -> None:
    log = project.dvc("exp", "run", "--temp", "-S", "model.attention=cross")
    assert log.status == 0, log.text
    assert (log.ran, log.restored) == ([], AFTER_FEATURES)


def test_queued_experiments_find_the_features(project: Project) -> None:
    queued = project.dvc("exp", "run", "--queue", "--name", "queued", "-S", "model.attention=none")
    assert queued.status == 0, queued.text
    log = project.dvc("exp", "run", "--run-all")
    assert log.status == 0, log.text
    assert log.ran == AFTER_FEATURES
    assert 0 <= project.figures("queued")["test.auc"]["new"] <= 1


def test_outputs_share_their_disk_space_with_the_cache(project: Project) -> None:
    files = [path for path in (project.folder / "data/features").rglob("*") if path.is_file()]
    assert max(files, key=lambda path: path.stat().st_size).stat().st_nlink > 1


def test_features_that_dvc_has_lost_are_not_encoded_again(project: Project) -> None:
    locked = project.lock()
    features = [locked["stages"][f"features_{kind}"]["outs"][0] for kind in ("image", "text")]
    objects = project.folder / ".dvc/cache/files/md5"
    for out in features:
        shutil.rmtree(project.folder / out["path"])
        (objects / out["md5"][:2] / out["md5"][2:]).unlink()
    log = project.dvc("repro")
    assert log.status == 0, log.text
    assert log.ran == ["features_image", "features_text"]
    assert "to encode" not in log.text
    assert project.lock() == locked


def test_plots_of_two_variants_open_without_a_network(project: Project, cross_run: Log) -> None:
    done = project.dvc("plots", "diff", "HEAD", "cross")
    assert done.status == 0, done.text
    page = (project.folder / "dvc_plots/index.html").read_text(encoding="utf-8")
    assert re.findall(r"""(?:src|href)\s*=\s*["']https?:[^"']*""", page) == []
    assert page.count("vegaEmbed('#") == 7
    assert '"rev": "HEAD"' in page and '"rev": "cross"' in page
