"""Stage cross_validate: entity-grouped cross-validation, if evaluate.folds asks for it."""

from mmsim.errors import exit_on_user_error
from mmsim.params import load_params
from mmsim.paths import (
    CROSS_VALIDATION,
    IMAGE_FEATURES,
    OUT_OF_FOLD,
    PREPARED,
    TEXT_FEATURES,
)


@exit_on_user_error
def main() -> None:
    """Run the stage."""
    params = load_params()

    from mmsim.data.tables import write_table
    from mmsim.files import write_json

    if not params.evaluate.folds:
        import pandas as pd

        write_table(OUT_OF_FOLD, pd.DataFrame({"fold": []}))
        write_json(CROSS_VALIDATION, {"folds": 0})
        print("evaluate.folds is 0: no cross-validation")
        return

    from mmsim.data.folds import fold_pairs
    from mmsim.data.items import load_items
    from mmsim.data.pairs import PairRules
    from mmsim.device import resolve_device, resolve_precision
    from mmsim.evaluation.cross_validation import cross_validate
    from mmsim.training.configure import pair_config, training_rules
    from mmsim.training.memory import FeatureMemory

    device = resolve_device(params.runtime.device)
    memory = FeatureMemory.load(IMAGE_FEATURES, TEXT_FEATURES, device)
    rules = PairRules(
        task=params.task,
        max_pairs_per_entity=params.data.max_pairs_per_entity,
        **params.pairs.model_dump(),
    )
    found = cross_validate(
        fold_pairs(load_items(PREPARED), params.evaluate.folds, rules),
        pair_config(params, memory),
        training_rules(params),
        memory,
        params.train.seeds,
        resolve_precision(params.runtime.precision, device),
        params.evaluate.draws,
        lambda line: print(line, flush=True),
    )
    write_table(OUT_OF_FOLD, found.predictions)
    write_json(CROSS_VALIDATION, found.metrics)


if __name__ == "__main__":
    main()
