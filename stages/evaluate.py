"""Stage evaluate: figures, predictions and curves of the trained heads."""

from mmsim.errors import exit_on_user_error
from mmsim.params import load_params
from mmsim.paths import (
    AMBIGUOUS_FORMS,
    IMAGE_FEATURES,
    METRICS,
    PLOTS,
    PREDICTIONS,
    RANKS,
    TEXT_FEATURES,
)


@exit_on_user_error
def main() -> None:
    """Run the stage."""
    params = load_params()

    from mmsim.data.tables import write_table
    from mmsim.device import resolve_device
    from mmsim.evaluation.measure import measure_links, measure_pairs
    from mmsim.files import replacing_file, replacing_folder, write_json
    from mmsim.reporting.table import summary_table
    from mmsim.training.memory import FeatureMemory

    device = resolve_device(params.runtime.device)
    memory = FeatureMemory.load(IMAGE_FEATURES, TEXT_FEATURES, device)
    measure = measure_links if params.task == "link" else measure_pairs
    found = measure(params, memory)
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
