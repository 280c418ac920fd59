"""Stage train: one head for each seed, on cached features."""

from mmsim.errors import exit_on_user_error
from mmsim.params import load_params
from mmsim.paths import IMAGE_FEATURES, MODELS, PAIRS, TEXT_FEATURES, TRAINING_CURVES


@exit_on_user_error
def main() -> None:
    """Run the stage."""
    params = load_params()

    from mmsim.device import resolve_device, resolve_precision
    from mmsim.training.configure import pair_trainer
    from mmsim.training.configure_link import link_trainer
    from mmsim.training.memory import FeatureMemory
    from mmsim.training.train import train_seeds

    device = resolve_device(params.runtime.device)
    precision = resolve_precision(params.runtime.precision, device)
    memory = FeatureMemory.load(IMAGE_FEATURES, TEXT_FEATURES, device)
    if params.task == "link":
        linker = link_trainer(params, memory, PAIRS, precision)
        train_seeds(linker, params.train.seeds, "MRR", MODELS, TRAINING_CURVES)
    else:
        trainer = pair_trainer(params, memory, PAIRS, precision)
        train_seeds(trainer, params.train.seeds, "AUC", MODELS, TRAINING_CURVES)


if __name__ == "__main__":
    main()
