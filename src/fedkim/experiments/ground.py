"""The ground that the cells of a matrix's main setting stand on: what has to be equal for two of them to be compared."""

from collections.abc import Mapping
from typing import Any

from fedkim.errors import FedkimError
from fedkim.experiments.methods import METHODS

_TABLES = ("data", "llm", "tasks", "evaluation")
_OF_A_MACHINE = {"data.root", "data.roots", "llm.allow_download"}


def ground(config: Mapping[str, Mapping[str, Any]], method: str) -> dict[str, Any]:
    """By ``table.key`` the patients, the language model, the tasks, how they are scored, and the number of rounds.

    Without what the method sets itself: that is what it is compared for.
    """
    keys = {f"{table}.{key}": value for table, values in config.items() for key, value in values.items()}
    own = {setting.partition("=")[0] for setting in METHODS[method].settings} if method in METHODS else set()
    return {key: value for key, value in keys.items() if is_ground(key) and key not in own}


def is_ground(key: str) -> bool:
    """Whether ``table.key`` is of what all methods of a matrix share."""
    return key == "federation.rounds" or (key.partition(".")[0] in _TABLES and key not in _OF_A_MACHINE)


def require_same_ground(first: Mapping[str, Any], second: Mapping[str, Any], what: str, other: str) -> None:
    """Refuse a difference in a key that both have; versions may differ in what they have.

    Raises:
        FedkimError: names the key, ``what`` differs and from which ``other``.
    """
    for key in sorted(first.keys() & second.keys()):
        if first[key] != second[key]:
            raise FedkimError(
                what,
                found=f"{key} = {_short(second[key])}",
                expected=f"{_short(first[key])}, as in {other}: they would be compared",
                remedy="give one of the two matrices another name, or move its results",
            )


def _short(value: Any) -> str:
    return repr(value)[:60]
