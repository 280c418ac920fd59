"""Stage report: one page that shows the result, readable offline."""

from mmsim.errors import exit_on_user_error
from mmsim.params import load_params
from mmsim.paths import PAGE


@exit_on_user_error
def main() -> None:
    """Run the stage."""
    params = load_params()

    from mmsim.reporting.page import write_page

    write_page(
        PAGE,
        {
            "data": {"source": params.data.source},
            "image": params.image.model_dump(),
            "text": params.text.model_dump(),
            "task": params.task,
            "pairs": params.pairs.model_dump(),
            "link": params.link.model_dump(),
            "model": params.model.model_dump(),
            "train": params.train.model_dump(),
        },
    )
    print(f"the report lies at {PAGE}")


if __name__ == "__main__":
    main()
