"""What verbs share: the terminal they write to, the threads they leave to torch."""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from fedkim.recipe import Recipe


def console() -> "Console":
    """The terminal as wide as it is; a file wide enough that no name is cut."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160)


def settle_threads(recipe: "Recipe") -> None:
    """Fix the thread count before torch is imported, as its libraries read it once."""
    os.environ["OMP_NUM_THREADS"] = str(recipe.run.threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
