"""Stage train: one head for each seed, on cached features."""

from mmsim.errors import exit_on_user_error
from mmsim.params import load_params
from mmsim.paths import IMAGE_FEATURES, MODELS, PAIRS, TEXT_FEATURES, TRAINING_CURVES


@exit_on_user_error
def main() -> None:
    """Run the stage."""
    params = load_params()

    from mmsim.device import resolve_device, resolve_precision
    from mmsim.models.siamese import SiameseConfig
    from mmsim.training.loop import TrainingRules
    from mmsim.training.memory import FeatureMemory, Pairs
    from mmsim.training.train import train_seeds

    device = resolve_device(params.runtime.device)
    memory = FeatureMemory.load(IMAGE_FEATURES, TEXT_FEATURES, device)
    train_seeds(
        SiameseConfig(
            task=params.task,
            image_dim=memory.image_dim,
            text_dim=memory.text_dim,
            **params.model.model_dump(exclude={"name"}),
        ),
        TrainingRules(**params.train.model_dump(exclude={"seeds"})),
        memory,
        Pairs.load(PAIRS / "train.parquet", memory),
        Pairs.load(PAIRS / "valid.parquet", memory),
        params.train.seeds,
        resolve_precision(params.runtime.precision, device),
        MODELS,
        TRAINING_CURVES,
    )


if __name__ == "__main__":
    main()
