"""A run: from a recipe to rounds, scores, files and answers."""

from fedkim.run.pipeline import federate, run_recipe

__all__ = ["federate", "run_recipe"]
