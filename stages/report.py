"""Stage report: one page that shows the result, readable offline."""

from mmsim.errors import exit_on_user_error
from mmsim.params import load_params
from mmsim.paths import PAGE


@exit_on_user_error
def main() -> None:
    """Run the stage."""
    params = load_params()

    from mmsim.reporting.page import write_page

    shown = {"data": {"source"}, "image": True, "text": True, "task": True, "pairs": True}
    write_page(PAGE, params.model_dump(include=shown | {"model": True, "train": True}))
    print(f"the report lies at {PAGE}")


if __name__ == "__main__":
    main()
