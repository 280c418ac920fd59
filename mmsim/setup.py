"""What a fresh clone needs beside its packages; each change is local to the clone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mmsim.errors import UserError
from mmsim.files import replacing_file

PLOTS_PAGE = "plots-offline.html"
VEGA_LITE = "5.20"
"""DVC's plot templates are of Vega-Lite 5."""

GUEST = {"user.name": "mmsim", "user.email": "mmsim@localhost"}
"""Who signs experiments in a clone where Git knows no name.

Without one, `dvc exp run` fails as soon as the workspace differs from the last commit, which it
does after any experiment; DVC has no setting of its own for it.
"""


def set_up(project: Path) -> list[str]:
    """Make DVC's plots open offline, and `dvc exp run` work without a Git identity.

    Parameters
    ----------
    project : Path
        The project's top folder.

    Returns
    -------
    list of str
        A line for each thing that was changed.

    Raises
    ------
    UserError
        If `project` is no DVC project, or Git or DVC fail.
    """
    if not (project / ".dvc").is_dir():
        raise UserError(f"{project} holds no .dvc folder; run this in the project's top folder")
    page = project / ".dvc" / PLOTS_PAGE
    _write_plots_page(page)
    # Local: the page is made here and is in no other clone.
    dvc = [sys.executable, "-m", "dvc"]
    _run(project, *dvc, "config", "--local", "plots.html_template", PLOTS_PAGE)
    done = [f"plots open offline: {page}"]
    for key, value in GUEST.items():
        if not _git_knows(project, key):
            _run(project, "git", "config", "--local", key, value)
            done.append(
                f"Git knew no {key}: set to {value} for this clone alone, so that experiments "
                f"can be kept; `git config {key} ...` sets your own"
            )
    return done


def _write_plots_page(path: Path) -> None:
    """Write the page that DVC fills with plots, with the Vega libraries inside it."""
    import vl_convert

    # No module script: those wait for the whole page, and DVC's plots call vegaEmbed at once.
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    head = '<!doctype html><html><head><meta charset="utf-8"><title>mmsim plots</title>'
    # The placeholder in braces is DVC's.
    page = f"{head}<script>{script}</script></head><body>{{plot_divs}}</body></html>"
    with replacing_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _git_knows(project: Path, key: str) -> bool:
    return subprocess.run(["git", "config", key], cwd=project, capture_output=True).returncode == 0


def _run(project: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
