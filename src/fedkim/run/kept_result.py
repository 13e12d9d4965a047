"""Where results are kept for good, and what of them is."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedkim.data.registry import FOLDED
from fedkim.errors import FedkimError
from fedkim.evaluation.suppression import suppressed_result
from fedkim.recipe import Recipe, from_dict
from fedkim.store.files import plain, pretty, write_text


def result_path(folder: Path, recipe: Recipe, result: Mapping[str, Any]) -> Path:
    """Where a result is kept for good: ``<folder>/<recipe>/<method>--<backbone>--seed<k>.json``.

    Where a source has folds, anything but all five pooled says in its name which they are.
    """
    folds = result["run_info"].get("folds", [recipe.data.fold])
    whole = recipe.data.source not in FOLDED or len(folds) == 5
    part = "" if whole else "--folds" + "".join(f"-{fold}" for fold in folds)
    name = f"{recipe.method}--{recipe.federation.algorithm}--seed{recipe.run.seed}{part}.json"
    return folder / recipe.run.name / name


def keep_result(folder: Path, recipe: Recipe, result: Mapping[str, Any], *, name: str = "") -> Path:
    """Write a result (aggregates only) to its place below ``folder``, or as ``<folder>/<recipe>/<name>.json``.

    Of a hospital's own patients nothing is kept that describes fewer than ten (``evaluation.suppression``).

    Raises:
        FedkimError: see :func:`require_place`.
    """
    if recipe.data.source == "hospital":
        result = suppressed_result(result)
    path = folder / recipe.run.name / f"{name}.json" if name else result_path(folder, recipe, result)
    require_place(path, recipe, split=result["run_info"].get("split", ""))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, pretty(plain(result)))
    return path


def as_kept(recipe: Recipe) -> Recipe:
    """The recipe as a kept result tells it: that of a hospital's run says nothing of where its machine keeps things."""
    return recipe.without_places() if recipe.data.source == "hospital" else recipe


def require_place(path: Path, recipe: Recipe, *, split: str) -> None:
    """Refuse to write over what isn't this recipe's: a name tells method, backbone and seed apart, and no other setting.

    Raises:
        FedkimError: another recipe's result stands there, one of other patients' split, or something else.
    """
    remedy = "give the run a name of its own (--set run.name=…), keep it elsewhere, or delete that file"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))["run_info"]
        config = tomllib.loads(kept["config"])
    except FileNotFoundError:
        return
    except OSError as error:
        raise FedkimError(f"result {path}", found=error.strerror or "unreadable", remedy=remedy) from None
    except (ValueError, KeyError, TypeError):
        raise FedkimError(f"result {path}", found="a file that is no result", remedy=remedy) from None
    try:
        same = as_kept(from_dict(config)).digest() == as_kept(recipe).digest()
    except FedkimError:
        raise FedkimError(f"result {path}", found="the result of another version of fedkim", remedy=remedy) from None
    if not same:
        raise FedkimError(f"result {path}", found="the result of another recipe", remedy=remedy)
    if split and kept.get("split") != split:
        found = f"scores of the {kept.get('split')} split"
        raise FedkimError(f"result {path}", found=found, expected=f"those of the {split} split", remedy=remedy)
