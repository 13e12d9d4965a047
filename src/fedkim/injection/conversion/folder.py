"""A folder that appears only when everything is in it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """Give a scratch folder to fill; after the block it gets its name by one rename, after an error it is gone.

    An interrupted conversion thus leaves nothing behind that a later run could mistake for a model.

    Raises:
        OSError: ``folder`` has come into being meanwhile and isn't empty.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
    try:
        yield scratch
        scratch.chmod(0o755)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def appearing_once(folder: Path, proof: str) -> Iterator[Path]:
    """:func:`appearing` for a cache: where another process was faster, its folder (with the file ``proof``) is as good."""
    try:
        with appearing(folder) as scratch:
            yield scratch
    except OSError:
        if not (folder / proof).is_file():
            raise
