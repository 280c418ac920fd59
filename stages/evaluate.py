"""Stage evaluate: figures, predictions and curves of the trained heads."""

from mmsim.errors import exit_on_user_error
from mmsim.params import load_params
from mmsim.paths import (
    IMAGE_FEATURES,
    METRICS,
    MODELS,
    PAIRS,
    PLOTS,
    PREDICTIONS,
    TEXT_FEATURES,
)


@exit_on_user_error
def main() -> None:
    """Run the stage."""
    params = load_params()

    from mmsim.data.tables import write_table
    from mmsim.device import resolve_device
    from mmsim.evaluation.evaluate import evaluate
    from mmsim.files import replacing_folder, write_json
    from mmsim.models.checkpoint import from_pretrained
    from mmsim.reporting.table import metrics_table
    from mmsim.training.memory import FeatureMemory, Pairs
    from mmsim.training.train import seed_folder

    device = resolve_device(params.runtime.device)
    memory = FeatureMemory.load(IMAGE_FEATURES, TEXT_FEATURES, device)
    found = evaluate(
        {
            seed: from_pretrained(seed_folder(MODELS, seed)).to(device)
            for seed in params.train.seeds
        },
        memory,
        Pairs.load(PAIRS / "valid.parquet", memory),
        Pairs.load(PAIRS / "test.parquet", memory),
    )
    write_table(PREDICTIONS, found.predictions)
    with replacing_folder(PLOTS) as folder:
        for name, curve in found.curves.items():
            curve.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    write_json(METRICS, found.metrics)
    print(metrics_table(found.metrics))


if __name__ == "__main__":
    main()
