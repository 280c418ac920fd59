"""The command line: what stands beside DVC's own commands."""

from __future__ import annotations

from pathlib import Path

import click

from mmsim import __version__
from mmsim.errors import exit_on_user_error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mmsim")
def main() -> None:
    """Multimodal similarity on precomputed features.

    The pipeline is run by DVC: `dvc repro`, `dvc exp run -S model.attention=cross`,
    `dvc exp run -S task=link -S model.name=m3el`, `dvc metrics diff`. The commands here stand
    beside it.
    """


@main.command()
@exit_on_user_error
def check() -> None:
    """Check params.yaml without running anything."""
    from mmsim.params import load_params

    params = load_params()
    model = params.model
    head = f"siamese, attention {model.attention}" if model.name == "siamese" else model.name
    print(f"params.yaml is valid: task {params.task}, head {head}")


@main.command()
@click.option("--all", "everything", is_flag=True, help="Every figure, not only the main ones.")
@exit_on_user_error
def show(everything: bool) -> None:
    """Print the metrics of the workspace as a table."""
    import json

    from mmsim.errors import UserError
    from mmsim.paths import METRICS
    from mmsim.reporting.table import metrics_table, summary_table

    try:
        metrics = json.loads(METRICS.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{METRICS} is missing; run `dvc repro` to make it") from error
    print(metrics_table(metrics) if everything else summary_table(metrics))


@main.command()
@click.argument("first")
@click.argument("others", nargs=-1, required=True)
@click.option("--draws", default=2000, show_default=True, help="Draws of the bootstrap.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("reports/comparison.json"),
    show_default=True,
    help="Where to write the comparison as JSON.",
)
@exit_on_user_error
def compare(first: str, others: tuple[str, ...], draws: int, output: Path) -> None:
    """Compare the figures of revisions with those of the FIRST, on the same test pairs.

    A revision is whatever Git or DVC knows by name: a branch, a tag, a commit, an experiment; or
    `workspace`. Example: mmsim compare HEAD my-experiment workspace
    """
    from mmsim.comparison.compare import compare as compare_revisions
    from mmsim.comparison.revisions import read_revision
    from mmsim.comparison.text import comparison_text
    from mmsim.files import write_json

    revisions = [read_revision(name) for name in (first, *others)]
    found = compare_revisions(revisions, draws)
    print("\n\n".join(comparison_text(comparison) for comparison in found))
    write_json(output, {"comparisons": [comparison.to_json() for comparison in found]})


@main.command()
@click.option("--sample", default=32, show_default=True, help="Rows of each store to encode again.")
@exit_on_user_error
def verify(sample: int) -> None:
    """Check the feature stores against their manifests, and encode some rows again."""
    from mmsim.data.release import IMAGE_FOLDER
    from mmsim.data.tables import IMAGES, TEXTS, read_table
    from mmsim.features.extract_images import image_source
    from mmsim.features.extract_texts import text_source
    from mmsim.features.verify import verify_store
    from mmsim.features.weights import resolve_weights
    from mmsim.params import load_params
    from mmsim.paths import IMAGE_FEATURES, PREPARED, RAW, TEXT_FEATURES

    params = load_params()
    source = params.data.source
    images = image_source(
        read_table(PREPARED / IMAGES),
        RAW / IMAGE_FOLDER,
        params.image,
        resolve_weights(params.image.weights, source),
        params.runtime,
    )
    print(verify_store(IMAGE_FEATURES, images, sample=sample))
    texts = text_source(
        read_table(PREPARED / TEXTS),
        params.text,
        resolve_weights(params.text.weights, source),
        params.runtime,
    )
    print(verify_store(TEXT_FEATURES, texts, sample=sample))


@main.command()
@click.argument("worlds", nargs=-1)
@click.option(
    "--attention", type=click.Choice(["none", "base", "cross"]), default="none", show_default=True
)
@exit_on_user_error
def planted(worlds: tuple[str, ...], attention: str) -> None:
    """Train and evaluate on worlds with a known answer, and show what the report says of each."""
    from mmsim.errors import UserError
    from mmsim.planted.check import planted_table
    from mmsim.planted.worlds import WORLDS

    for name in worlds:
        if name not in WORLDS:
            raise UserError(f"no world is called {name!r}; there are: {', '.join(WORLDS)}")
    chosen = list(worlds or WORLDS)
    table, _ = planted_table(chosen, attention, lambda name: print(f"{name} ...", flush=True))
    print(table)


@main.command()
@exit_on_user_error
def setup() -> None:
    """Prepare this clone: offline plots, and experiments without a Git identity."""
    from mmsim.setup import set_up

    for line in set_up(Path.cwd()):
        print(line)


if __name__ == "__main__":
    main()
