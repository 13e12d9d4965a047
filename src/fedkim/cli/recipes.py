"""Finding a recipe by file or by name."""

from pathlib import Path

import fedkim
from fedkim.errors import FedkimError, unknown


def find_recipe(name: str) -> Path:
    """A recipe's file: the path itself, or a name such as ``demo`` among the recipes that come along.

    Raises:
        FedkimError: neither a file nor a known name.
    """
    path = Path(name)
    if path.suffix == ".toml" or len(path.parts) > 1:
        if path.is_file():
            return path
        raise FedkimError(f"recipe {path}", found="no such file", remedy="check the path")
    package = Path(fedkim.__file__).parent
    shipped: dict[str, Path] = {}
    for folder in (package / "recipes", package.parents[1] / "recipes", Path("recipes")):
        shipped.update({file.stem: file for file in sorted(folder.glob("*.toml")) if not file.stem.endswith("-matrix")})
    if name not in shipped:
        raise unknown("recipe", name, shipped) if shipped else FedkimError(f"recipe {name!r}", found="no such file")
    return shipped[name]
