"""Encode each unique text once: data/pairs/texts.parquet to data/features/text.zarr."""

from __future__ import annotations

from mmsim.errors import exit_on_user_error
from mmsim.params import load_params
from mmsim.paths import PAIRS, TEXT_FEATURES


@exit_on_user_error
def main() -> None:
    """Run the stage."""
    params = load_params()

    from mmsim.data.tables import TEXTS, read_table
    from mmsim.features.extract_texts import extract_texts
    from mmsim.features.weights import resolve_weights

    done = extract_texts(
        texts=read_table(PAIRS / TEXTS),
        destination=TEXT_FEATURES,
        params=params.text,
        weights=resolve_weights(params.text.weights, params.data.source),
        runtime=params.runtime,
    )
    print(done.summary())


if __name__ == "__main__":
    main()
