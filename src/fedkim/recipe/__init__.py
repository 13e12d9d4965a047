"""Recipes: frozen tables, strict TOML deltas on the presets ``fast`` and ``paper``. Free of torch, so that the shell is quick."""

from fedkim.recipe.evaluation_table import Evaluation
from fedkim.recipe.loading import from_dict, load
from fedkim.recipe.plugins import import_plugins, plugin_digests
from fedkim.recipe.presets import PRESETS
from fedkim.recipe.question_tables import Data, Run, Tasks
from fedkim.recipe.recipe import Recipe, digest_of
from fedkim.recipe.server_tables import LLM, M3OE, Injection
from fedkim.recipe.site_tables import Extraction, Federation

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
    "digest_of",
    "from_dict",
    "import_plugins",
    "load",
    "plugin_digests",
]
