"""What verbs share: the terminal they write to, the threads they leave to torch."""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from fedkim.recipe import Recipe


def console() -> "Console":
    """Where tables go: the terminal as wide as it is, a file wide enough that no name is cut."""
    return terminal(width=None if sys.stdout.isatty() else 160)


def terminal(width: int | None = None) -> "Console":
    """A terminal whose reader may leave: the command then ends as other programs do, not with a status of rich's own."""
    from rich.console import Console

    class Terminal(Console):
        def on_broken_pipe(self) -> None:
            raise  # rich calls this while it handles the BrokenPipeError

    return Terminal(width=width)


def settle_threads(recipe: "Recipe") -> None:
    """Fix the thread count before torch is imported, as its libraries read it once."""
    os.environ["OMP_NUM_THREADS"] = str(recipe.run.threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
