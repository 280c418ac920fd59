"""`mmsim setup`: what it changes in a clone, and what it leaves alone."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mmsim.errors import UserError
from mmsim.setup import set_up


def git(project: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a Git repository, on a machine where Git knows nobody."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    project = tmp_path / "clone"
    (project / ".dvc").mkdir(parents=True)
    (project / ".dvc" / "config").touch()
    git(project, "init")
    return project


def test_the_plots_page_takes_no_script_from_a_network(clone: Path) -> None:
    set_up(clone)
    page = (clone / ".dvc" / "plots-offline.html").read_text(encoding="utf-8")
    assert re.findall(r"<(?:script|link)[^>]*>", page) == ["<script>"]
    assert "window.vegaEmbed" in page
    assert page.count("{plot_divs}") == 1


def test_dvc_takes_the_page_in_this_clone_alone(clone: Path) -> None:
    set_up(clone)
    assert "html_template = plots-offline.html" in (clone / ".dvc/config.local").read_text()
    assert (clone / ".dvc" / "config").read_text() == ""


def test_a_guest_signs_where_git_knows_nobody_and_the_user_is_told(clone: Path) -> None:
    said = "\n".join(set_up(clone))
    assert git(clone, "config", "--local", "user.name") == "mmsim"
    assert git(clone, "config", "--local", "user.email") == "mmsim@localhost"
    assert "user.name" in said and "user.email" in said


def test_an_identity_that_git_knows_is_left_alone(clone: Path) -> None:
    (clone.parent / ".gitconfig").write_text("[user]\n name = Ada\n email = ada@example.org\n")
    assert len(set_up(clone)) == 1
    assert git(clone, "config", "--local", "user.name") == ""
    assert git(clone, "config", "user.name") == "Ada"


def test_a_second_time_changes_nothing(clone: Path) -> None:
    set_up(clone)
    files = [clone / ".dvc" / "plots-offline.html", clone / ".dvc/config.local"]
    before = [(file.read_bytes()) for file in [*files, clone / ".git" / "config"]]
    set_up(clone)
    assert before == [file.read_bytes() for file in [*files, clone / ".git" / "config"]]


def test_outside_a_project_it_says_where_to_run_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="top folder"):
        set_up(tmp_path)


def test_what_git_says_is_passed_on(clone: Path) -> None:
    (clone / ".git" / "HEAD").unlink()
    with pytest.raises(UserError, match="git"):
        set_up(clone)
