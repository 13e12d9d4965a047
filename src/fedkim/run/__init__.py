"""A run: from a recipe to rounds, scores, files and answers."""

from fedkim.run.folds import run_folds
from fedkim.run.kept_result import keep_result
from fedkim.run.pipeline import federate, run_recipe, score_again
from fedkim.run.plan import Plan, check_recipe
from fedkim.run.run import Answer, Run, load

__all__ = [
    "Answer",
    "Plan",
    "Run",
    "check_recipe",
    "federate",
    "keep_result",
    "load",
    "run_folds",
    "run_recipe",
    "score_again",
]
