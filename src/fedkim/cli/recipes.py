"""Finding a recipe or a matrix by file or by name."""

import re
from pathlib import Path

import fedkim
from fedkim.errors import FedkimError, unknown


def find_recipe(name: str) -> Path:
    """A recipe's file: the path itself, or a name such as ``demo`` among the recipes that come along.

    Raises:
        FedkimError: neither a file nor a known name, or a matrix of many runs.
    """
    path = Path(name)
    if path.suffix == ".toml" or len(path.parts) > 1:
        if path.is_file() and _is_matrix(path):
            raise FedkimError(f"recipe {path}", found="a matrix of runs", remedy=f"fedkim experiment {path}")
        if path.is_file():
            return path
        raise FedkimError(f"recipe {path}", found="no such file", remedy="check the path")
    shipped = {name: file for name, file in _shipped().items() if not _is_matrix(file)}
    if name in shipped:
        return shipped[name]
    if name in _shipped():
        raise FedkimError(f"recipe {name!r}", found="a matrix of runs", remedy=f"fedkim experiment {name}")
    raise unknown("recipe", name, shipped) if shipped else FedkimError(f"recipe {name!r}", found="no such file")


def find_matrix(name: str) -> Path:
    """A matrix's file: the path itself, or a name such as ``paper-matrix`` among those that come along.

    Raises:
        FedkimError: no matrix of that name; a path is taken as it is.
    """
    path = Path(name)
    if path.suffix == ".toml" or len(path.parts) > 1:
        return path
    shipped = {name: file for name, file in _shipped().items() if _is_matrix(file)}
    if name not in shipped:
        raise unknown("matrix", name, shipped) if shipped else FedkimError(f"matrix {name!r}", found="no such file")
    return shipped[name]


def _shipped() -> dict[str, Path]:
    """Recipes and matrices that come along, by name.

    Never the current folder's, which may be anybody's: a recipe names plug-ins, whose code is run. One's own are given by path.
    """
    package = Path(fedkim.__file__).parent
    found: dict[str, Path] = {}
    for folder in (package / "recipes", package.parents[1] / "recipes"):  # installed, or a checkout
        found.update({file.stem: file for file in sorted(folder.glob("*.toml"))})
    return found


def _is_matrix(file: Path) -> bool:
    text = file.read_text(encoding="utf-8", errors="replace")
    return re.search(r"^\[\[cells\]\]", text, re.MULTILINE) is not None
