"""Every table of a matrix, in reading order."""

from collections.abc import Sequence

from fedkim.experiments.claim_tables import claims_by_part, claims_compared, claims_table
from fedkim.experiments.claims import Decided
from fedkim.experiments.explaining import against_majority, learning, routing
from fedkim.experiments.fold_tables import FOLD, fold_tables
from fedkim.experiments.our_tables import RHO, communication, rho_table, varied
from fedkim.experiments.paper_tables import (
    BLIND,
    RANDOM,
    ablation,
    less_fedkim,
    papers_metrics,
    seen_tasks,
    zero_shot_classification,
    zero_shot_generation,
)
from fedkim.experiments.scores import Scores
from fedkim.experiments.seed_table import seed_table
from fedkim.experiments.table import Table
from fedkim.experiments.targets import targets_table

HETEROGENEOUS = ("dirichlet-0.1", "missing-0.6", "site-shift")
QUESTIONS = ("questions", "questions-weighed")
STEPS = ("twice-the-steps",)
MODELS = (RANDOM, "ten-layers")
"""Variations of tables of their own."""


def all_tables(scores: Scores, decided: Sequence[Decided]) -> list[Table]:
    """Every table that has a row, in reading order; claims and targets of test patients alone."""
    decides = scores.evaluated and any(one.verdict.paired for one in decided)
    tables = [
        *([claims_table(decided), claims_by_part(scores, decided), targets_table(scores)] if decides else []),
        zero_shot_classification(scores),
        zero_shot_generation(scores),
        against_majority(scores),
        seen_tasks(scores),
        papers_metrics(scores),
        less_fedkim(scores),
        ablation(scores),
        rho_table(scores),
        varied(scores, "Heterogeneous sites", HETEROGENEOUS),
        varied(scores, "More questions on the same inputs, in twice the steps", QUESTIONS),
        routing(scores),
        learning(scores),
        varied(scores, "More steps", STEPS),
        varied(scores, "Another language model", MODELS),
        varied(scores, "Other variations", _others(scores)),
        seed_table(scores),
        communication(scores),
        *fold_tables(scores),
        *([claims_compared(decided)] if decides else []),
    ]
    return [table for table in tables if table.rows]


def _others(scores: Scores) -> list[str]:
    """Variations that no other table shows, such as those of a matrix of one's own."""
    shown = {"", BLIND, *HETEROGENEOUS, *QUESTIONS, *STEPS, *MODELS}
    found = dict.fromkeys(variation for _, variation, _ in scores.groups())
    return [name for name in found if name not in shown and not name.startswith((RHO, FOLD))]
