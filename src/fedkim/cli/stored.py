"""Showing what was stored and may have been changed or cut since."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from fedkim.errors import FedkimError

_log = logging.getLogger(__name__)


@contextmanager
def shown_as_stored(what: str) -> Iterator[None]:
    """A block that shows a stored result; where one isn't as it was written the error names ``what`` and the part that stopped it.

    Raises:
        FedkimError: a part is missing or something else.
    """
    try:
        yield
    except FedkimError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        _log.debug("%s", what, exc_info=True)  # should the defect be the program's after all
        found = f"a part missing or something else ({type(error).__name__}: {' '.join(str(error).split())[:80]})"
        remedy = "put back what was written, or run it anew"
        raise FedkimError(what, found=found, expected="what fedkim wrote", remedy=remedy) from error
