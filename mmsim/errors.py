"""The one exception that users are meant to read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

P = ParamSpec("P")


class UserError(Exception):
    """A failure that the user can mend.

    The message names the file, row or parameter, what was found, what is allowed and what
    to do. It is printed without a traceback; anything else that escapes is a defect of mmsim
    and keeps its traceback.
    """


def exit_on_user_error(function: Callable[P, None]) -> Callable[P, None]:
    """Turn a `UserError` into one message on standard error and exit status 1.

    Ctrl-C ends with status 130 and says that finished work is kept.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except UserError as error:
            sys.exit(f"mmsim: {error}")
        except KeyboardInterrupt:
            print("mmsim: interrupted; finished work is kept, run again to go on", file=sys.stderr)
            sys.exit(130)

    return wrapper
