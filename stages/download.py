"""Stage download: the data comes into data/raw, in the release layout."""

from mmsim.errors import exit_on_user_error
from mmsim.params import load_params
from mmsim.paths import RAW


@exit_on_user_error
def main() -> None:
    """Run the stage."""
    params = load_params()

    from mmsim.data.download.sources import download

    download(params.data, RAW, params.runtime.worker_count)


if __name__ == "__main__":
    main()
