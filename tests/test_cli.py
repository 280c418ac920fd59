import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from mmsim.cli import main


def test_help_needs_neither_torch_nor_pandas():
    code = "import sys, mmsim.cli; print([m for m in ('torch', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_parameters_are_read_before_anything_heavy():
    code = (
        "import sys; from mmsim.params import load_params; load_params();"
        "print([m for m in ('torch', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_show_without_metrics_says_how_to_make_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["show"])
    assert result.exit_code != 0
    assert "dvc repro" in str(result.exception)


METRICS = {
    "test": {
        "accuracy": 0.75,
        "accuracy_std": 0.0125,
        "accuracy_low": 0.6875,
        "accuracy_high": 0.8125,
        "recall": 0.625,
        "auc": 0.875,
    },
    "valid": {"auc": 0.9375},
    "baselines": {"majority": {"auc": 0.5}},
    "retrieval": {"image_to_text": {"recall_at_10": 0.25, "chance": {"recall_at_10": 0.0625}}},
    "counts": {"test_pairs": 1234, "test_entities": 56, "seeds": 3},
}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with figures in it, the present one."""
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/metrics.json").write_text(json.dumps(METRICS), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(*options):
    """Cells of each row that `mmsim show` prints, by the name of the figure."""
    result = CliRunner().invoke(main, ["show", *options])
    assert result.exit_code == 0
    return result.output, {
        line.split()[0]: line.split()[1:] for line in result.output.splitlines() if line.strip()
    }


def test_show_prints_the_main_figures_with_their_chance_level_and_baselines(workspace):
    output, rows = shown()
    assert "1,234 test pairs of 56 entities" in output
    assert rows["test.accuracy"] == ["0.7500", "±", "0.0125", "[0.6875,", "0.8125]"]
    # No deviation and no interval where there is none.
    assert rows["valid.auc"] == ["0.9375"]
    assert rows["baselines.majority.auc"] == ["0.5000"]
    assert rows["retrieval.image_to_text.chance.recall_at_10"] == ["0.0625"]
    assert "test.recall" not in rows
    assert "mmsim show --all" in output


def test_show_all_prints_every_figure_once(workspace):
    output, rows = shown("--all")
    assert rows["test.accuracy"] == ["0.7500", "±", "0.0125", "[0.6875,", "0.8125]"]
    assert rows["counts.test_pairs"] == ["1,234"]
    assert set(rows) == {
        "figure",
        "test.accuracy",
        "test.recall",
        "test.auc",
        "valid.auc",
        "baselines.majority.auc",
        "retrieval.image_to_text.recall_at_10",
        "retrieval.image_to_text.chance.recall_at_10",
        "counts.test_pairs",
        "counts.test_entities",
        "counts.seeds",
    }
    assert len(output.splitlines()) == len(rows)


def test_show_needs_neither_torch_nor_pandas(workspace):
    code = (
        "import sys; from mmsim.cli import main; main(['show'], standalone_mode=False);"
        "print([m for m in ('torch', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_compare_wants_two_revisions():
    result = CliRunner().invoke(main, ["compare", "HEAD"])
    assert result.exit_code == 2
    assert "Missing argument 'OTHERS...'" in result.output


def test_check_names_a_wrong_parameter_without_a_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["check"])
    assert "params.yaml is missing" in str(result.exception)
