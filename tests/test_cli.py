import subprocess
import sys

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


def test_check_names_a_wrong_parameter_without_a_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["check"])
    assert "params.yaml is missing" in str(result.exception)
