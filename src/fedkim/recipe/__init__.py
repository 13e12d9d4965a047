"""Recipes: frozen tables, strict TOML deltas on the presets ``fast`` and ``paper``. Free of torch, so that the shell is quick."""

from fedkim.recipe.loading import from_dict, load
from fedkim.recipe.plugins import import_plugins
from fedkim.recipe.presets import PRESETS
from fedkim.recipe.recipe import Recipe
from fedkim.recipe.tables import LLM, M3OE, Data, Evaluation, Extraction, Federation, Injection, Run, Tasks

__all__ = [
    "LLM",
    "M3OE",
    "PRESETS",
    "Data",
    "Evaluation",
    "Extraction",
    "Federation",
    "Injection",
    "Recipe",
    "Run",
    "Tasks",
    "from_dict",
    "import_plugins",
    "load",
]
