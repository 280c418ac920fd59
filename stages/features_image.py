"""Encode each unique image once: data/prepared/images.parquet to data/features/image.zarr."""

from __future__ import annotations

from mmsim.errors import exit_on_user_error
from mmsim.params import load_params
from mmsim.paths import IMAGE_FEATURES, PREPARED, RAW


@exit_on_user_error
def main() -> None:
    """Run the stage."""
    params = load_params()

    from mmsim.data.release import IMAGE_FOLDER
    from mmsim.data.tables import IMAGES, read_table
    from mmsim.features.extract_images import extract_images
    from mmsim.features.weights import resolve_weights

    done = extract_images(
        images=read_table(PREPARED / IMAGES),
        image_folder=RAW / IMAGE_FOLDER,
        destination=IMAGE_FEATURES,
        params=params.image,
        weights=resolve_weights(params.image.weights, params.data.source),
        runtime=params.runtime,
    )
    print(done.summary())


if __name__ == "__main__":
    main()
