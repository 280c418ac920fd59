"""What a fresh clone needs beside its packages; each change is local to the clone."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mmsim.errors import UserError
from mmsim.files import replacing_file

PLOTS_PAGE = "plots-offline.html"
VEGA_LITE = "5.20"
"""DVC's plot templates are of Vega-Lite 5."""

GUEST = {"user.name": "mmsim", "user.email": "mmsim@localhost"}
"""Who signs experiments in a clone where Git knows no name. DVC needs one for `dvc exp run`."""


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
    """
    if not (project / ".dvc").is_dir():
        raise UserError(f"{project} holds no .dvc folder; run this in the project's top folder")
    done = [_write_plots_page(project / ".dvc" / PLOTS_PAGE)]
    # Local: the page is made here and is in no other clone.
    _run(project, "dvc", "config", "--local", "plots.html_template", PLOTS_PAGE)
    for key, value in GUEST.items():
        if subprocess.run(["git", "config", key], cwd=project, capture_output=True).returncode:
            _run(project, "git", "config", "--local", key, value)
            done.append(f"Git knew no {key}: set to {value!r} for this clone alone")
    return done


def _write_plots_page(path: Path) -> str:
    """Write the page that DVC fills with plots, with the Vega libraries inside it."""
    import vl_convert

    # The placeholders in braces are DVC's.
    head = '<!doctype html><html><head><meta charset="utf-8"><title>mmsim plots</title>'
    script = vl_convert.javascript_bundle(vl_version=VEGA_LITE)
    with replacing_file(path) as temporary:
        temporary.write_text(
            f'{head}<script type="module">{script}</script></head>'
            "<body>{plot_divs}</body></html>",
            encoding="utf-8",
        )
    return f"plots open offline: {path}"


def _run(project: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(command)} failed: {done.stderr.strip()}")
