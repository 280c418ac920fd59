"""Stage prepare: the release in data/raw becomes clean tables in data/prepared."""

from mmsim.errors import exit_on_user_error
from mmsim.params import load_params
from mmsim.paths import PREPARED, RAW


@exit_on_user_error
def main() -> None:
    """Run the stage."""
    params = load_params()

    from mmsim.data.prepare import prepare

    tally = prepare(
        RAW,
        PREPARED,
        near_bits=params.data.near_image_bits,
        max_excluded=params.data.max_excluded,
        workers=params.runtime.worker_count,
    )
    print(tally.as_table())


if __name__ == "__main__":
    main()
