"""Reading the TOML files that people write, and saying what is wrong with one."""

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from fedkim.errors import FedkimError, unknown


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The tables of a TOML file in UTF-8, with a byte-order mark or without; errors call it ``what``, followed by its path.

    Not for files that a patient's values may have slipped into: the parser's message, which may quote them, is shown.

    Raises:
        FedkimError: no such file, unreadable, not UTF-8 or not TOML.
    """
    name = f"{what} {path}"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FedkimError(name, found="no such file", remedy="check the path") from None
    except OSError as error:
        raise FedkimError(name, found=error.strerror or "unreadable", expected="a TOML file") from None
    except UnicodeDecodeError as error:
        raise FedkimError(name, found=f"a byte that isn't UTF-8 at {error.start}") from None
    except ValueError:  # the system takes no such path
        raise FedkimError(what, found=f"the path {str(path)!r}", expected="one without a NUL character") from None
    return parse_toml(text, name)


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """The tables of a TOML text, which errors call ``name``; as :func:`read_toml`.

    Raises:
        FedkimError: not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        remedy = "values that are text stand in quotes"
        raise FedkimError(name, found=f"broken TOML ({error})", remedy=remedy) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise FedkimError(name, found=f"broken TOML ({type(error).__name__})") from None


def known_keys(table: Mapping[str, Any], known: Collection[str], where: str) -> Mapping[str, Any]:
    """The table itself, which may have no other keys than ``known``; errors call it ``where``.

    Raises:
        FedkimError: another key, with the nearest known one.
    """
    for name in table:
        if name not in known:
            raise FedkimError(f"{where}: unknown key {name!r}", remedy=unknown("key", name, known).remedy)
    return table
