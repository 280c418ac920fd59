"""Stage evaluate: figures, predictions and curves of the trained heads."""

from mmsim.errors import exit_on_user_error
from mmsim.params import load_params
from mmsim.paths import (
    AMBIGUOUS_FORMS,
    IMAGE_FEATURES,
    METRICS,
    MODELS,
    PAIRS,
    PLOTS,
    PREDICTIONS,
    PREPARED,
    RANKS,
    TEXT_FEATURES,
)


@exit_on_user_error
def main() -> None:
    """Run the stage."""
    params = load_params()

    from mmsim.data.tables import ENTITIES, IMAGES, INSTANCES, TEXTS, read_table, write_table
    from mmsim.device import resolve_device
    from mmsim.evaluation.evaluate import Data, evaluate
    from mmsim.files import replacing_file, replacing_folder, write_json
    from mmsim.models.checkpoint import from_pretrained
    from mmsim.reporting.table import summary_table
    from mmsim.training.memory import FeatureMemory, Pairs
    from mmsim.training.train import seed_folder

    device = resolve_device(params.runtime.device)
    memory = FeatureMemory.load(IMAGE_FEATURES, TEXT_FEATURES, device)
    models = {
        seed: from_pretrained(seed_folder(MODELS, seed)).to(device) for seed in params.train.seeds
    }
    found = evaluate(
        models,
        memory,
        Data(
            params.task,
            Pairs.load(PAIRS / "train.parquet", memory),
            Pairs.load(PAIRS / "valid.parquet", memory),
            Pairs.load(PAIRS / "test.parquet", memory),
            read_table(PREPARED / INSTANCES),
            read_table(PREPARED / IMAGES),
            read_table(PREPARED / TEXTS),
            read_table(PREPARED / ENTITIES),
        ),
        draws=params.evaluate.draws,
        emap_pairs=params.evaluate.emap_pairs,
    )
    write_table(PREDICTIONS, found.predictions)
    write_table(RANKS, found.ranks)
    with replacing_file(AMBIGUOUS_FORMS) as path:
        found.forms.to_csv(path, index=False, float_format="%.6g")
    with replacing_folder(PLOTS) as folder:
        for name, curve in found.curves.items():
            curve.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    write_json(METRICS, found.metrics)
    print(summary_table(found.metrics))


if __name__ == "__main__":
    main()
