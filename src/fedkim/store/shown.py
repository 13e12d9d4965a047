"""Showing what was stored and may have been changed or cut since."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fedkim.errors import FedkimError


@contextmanager
def shown_as_stored(what: str) -> Iterator[None]:
    """A block that shows a stored result; where one isn't as it was written the error names ``what`` and the part that stopped it.

    It can't tell that from a mistake of the program: in Python's development mode (``-X dev``) the error comes as it is.

    Raises:
        FedkimError: a part is missing or something else.
    """
    try:
        yield
    except FedkimError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if sys.flags.dev_mode:
            raise
        found = f"a part missing or something else ({type(error).__name__}: {' '.join(str(error).split())[:80]})"
        remedy = "put back what was written, or run it anew; if nobody has changed it, `python -X dev -m fedkim …` shows the program's mistake"
        raise FedkimError(what, found=found, expected="what fedkim wrote", remedy=remedy) from error
