"""Stage pairs: versioned pairs, or mentions with their candidates, from the prepared tables."""

from mmsim.errors import exit_on_user_error
from mmsim.params import load_params
from mmsim.paths import PAIRS, PREPARED


@exit_on_user_error
def main() -> None:
    """Run the stage."""
    params = load_params()

    if params.task == "link":
        from mmsim.data.mentions import write_mentions

        print(write_mentions(PREPARED, PAIRS).to_string(index=False))
        return

    from mmsim.data.pairs import PairRules, write_pairs

    rules = PairRules(
        task=params.task,
        max_pairs_per_entity=params.data.max_pairs_per_entity,
        **params.pairs.model_dump(),
    )
    print(write_pairs(PREPARED, PAIRS, rules).to_string(index=False))


if __name__ == "__main__":
    main()
