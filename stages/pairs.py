"""Stage pairs: versioned positive and negative pairs from the prepared tables."""

from mmsim.errors import exit_on_user_error
from mmsim.params import load_params
from mmsim.paths import PAIRS, PREPARED


@exit_on_user_error
def main() -> None:
    """Run the stage."""
    params = load_params()

    from mmsim.data.pairs import PairRules, write_pairs

    rules = PairRules(
        task=params.task,
        max_pairs_per_entity=params.data.max_pairs_per_entity,
        same_entity=params.pairs.same_entity,
        negatives=params.pairs.negatives,
        seed=params.pairs.seed,
        seed_protocol=params.pairs.seed_protocol,
    )
    print(write_pairs(PREPARED, PAIRS, rules).to_string(index=False))


if __name__ == "__main__":
    main()
