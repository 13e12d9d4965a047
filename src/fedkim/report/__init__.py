"""Reports: one page per run that opens anywhere, without a network, and says what the numbers mean and what they don't."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_report(result: Mapping[str, Any], path: str | Path) -> Path:
    """Write a run's result (:class:`fedkim.evaluation.result.Result`) as one self-contained HTML page; returns its path.

    Nothing is computed here that the result doesn't hold: parts whose keys are missing are left out.

    Raises:
        FedkimError: the folder can't be written.
    """
    from fedkim.report.page import write  # the templates load only when a page is written

    return write(result, Path(path))
