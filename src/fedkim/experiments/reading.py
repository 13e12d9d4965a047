"""Which question an unseen one was heard as, and what hearing it gained over answers that read no question.

Of synthetic patients alone, where a program says which seen finding an unseen one is linked with, and whose answers are kept.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import numpy as np

from fedkim.data.phantom.factors import FINDINGS
from fedkim.evaluation.metrics import auroc
from fedkim.evaluation.predictions import Predictions
from fedkim.experiments.explaining import Groups, main_setting, partner_of
from fedkim.experiments.keeping import SUFFIX
from fedkim.experiments.methods import FEDKIM, title_of
from fedkim.experiments.paper_tables import MAIN
from fedkim.experiments.predictions_table import read_table
from fedkim.experiments.scores import CellScores, Scores, less
from fedkim.experiments.table import Table, difference, shown
from fedkim.experiments.tables import MODELS

Readings = Mapping[int, "Sequence[Reading]"]
"""By seed."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How one unseen yes/no question was answered at ρ = 1, and how seen ones were on its inputs: AUROC of its truth, points."""

    picture: bool
    linked: float
    """The sites' head of the finding it is linked with."""
    asked_linked: float
    """The injected model, asked that finding's question."""
    asked: float
    """The injected model, asked the unseen question."""
    others: float
    """The sites' other heads of the same kind of input, their mean; NaN where there is none."""
    averaged: float
    """The mean probability of all heads of that kind: no question is read, no label chooses."""
    own_averaged: float
    """The injected model's mean probability over the seen questions of that kind, whatever is asked now."""


def reading_tables(folder: Path, scores: Scores) -> list[Table]:
    """What was lost in reading and in wording, and what unread questions about pictures have. Of the answers that are there."""
    if not scores.synthetic or find_spec("pyarrow") is None:
        return []
    lost, unread = [], []
    for head, groups in _shown_groups(scores):
        every = {seed: [found for cell in group for found in _readings(folder, cell)] for seed, group in groups.items()}
        readings = {seed: found for seed, found in every.items() if found}
        if not readings:
            continue
        heard = [hit for seed in readings for cell in groups[seed] for hit in _closest_is_partner(cell)]
        lost.append([*head[:2], str(len(readings)), *_lost(readings), f"{sum(heard)} of {len(heard)}"])
        pictures = {
            seed: chosen
            for seed, found in readings.items()
            if (chosen := [one for one in found if one.picture and math.isfinite(one.others)])
        }
        if pictures:
            unread.append([*head[:2], str(len(pictures)), *_unread(pictures)])
    return [table for table in (_lost_table(lost), _unread_table(unread)) if table.rows]


def _shown_groups(scores: Scores) -> Iterator[tuple[list[str], Groups]]:
    """The main setting's methods, and FEDKIM in language models that something was taken from."""
    yield from main_setting(scores)
    for variation in MODELS:
        if groups := scores.group(FEDKIM, variation=variation):
            yield [f"{title_of(FEDKIM)}, {variation}", MAIN[1], str(len(groups))], groups


def _means(readings: Readings, name: str) -> dict[int, float]:
    return {seed: fmean(getattr(one, name) for one in found) for seed, found in readings.items()}


def _lost(readings: Readings) -> list[str]:
    means = [_means(readings, name) for name in ("linked", "asked_linked", "asked")]
    return [*map(shown, means), *(difference(less(before, after)) for before, after in pairwise(means))]


def _unread(readings: Readings) -> list[str]:
    means = [_means(readings, name) for name in ("linked", "others", "averaged", "own_averaged", "asked")]
    heads, own, asked = means[2:]
    return [*map(shown, means), *(difference(less(*pair)) for pair in ((own, heads), (asked, own), (asked, heads)))]


def _lost_table(rows: list[list[str]]) -> Table:
    return Table(
        title="Where unseen scores are lost",
        note=(
            "AUROC of unseen yes/no tasks at ρ = 1, where an unseen finding has the cause of the seen one it is linked with: of the sites' head of that "
            "finding, of the injected model asked that finding's question, and of it asked the unseen one. The first difference is lost in "
            "reading the input, the second in the wording of the question. Last, unseen questions about pictures whose closest seen question, by "
            "correlation of answers of either sign, is the linked one: there are two."
        ),
        header=[
            "method",
            "backbone",
            "seeds",
            "linked head",
            "asked the linked question",
            "asked the unseen one",
            "lost in reading",
            "lost in wording",
            "picture questions heard as the linked one",
        ],
        rows=rows,
    )


def _unread_table(rows: list[list[str]]) -> Table:
    return Table(
        title="Unseen questions about pictures, read or not",
        note=(
            "AUROC of the unseen yes/no tasks about pictures at ρ = 1: of the sites' head of the linked finding, of the heads of other seen findings, "
            "and of the mean probability of all of these heads, which reads no question and needs no label; then of the injected model's own mean "
            "probability over the seen questions about pictures, which doesn't read the new one either, and of it asked the new one. The first "
            "difference is lost in reading the pictures; where the second isn't above 0, hearing the new question has gained nothing. The generator "
            "doesn't tell which seen finding an unseen one is linked with."
        ),
        header=[
            "method",
            "backbone",
            "seeds",
            "linked head",
            "other heads",
            "all heads, averaged",
            "own seen answers, averaged",
            "asked",
            "own − heads",
            "asked − own",
            "asked − heads",
        ],
        rows=rows,
    )


def _closest_is_partner(cell: CellScores) -> list[bool]:
    """Of unseen questions about pictures; a signal's and a stay's have one seen question in the main setting."""
    return [
        worst[0] == partner
        for task in cell.tasks("unseen")
        if (partner := partner_of(cell, task)) and FINDINGS[task].kind == "image" and (worst := cell.blindness(task))
    ]


def _readings(folder: Path, cell: CellScores) -> Iterator[Reading]:
    """Of each unseen task with a partner, where the cell's answers are kept and both classes occur."""
    path = folder / (cell.name + SUFFIX)
    if cell.settings["data"].get("rho") != 1.0 or not path.exists():
        return
    rows = read_table(path)
    for task in cell.tasks("unseen"):
        partner = partner_of(cell, task)
        if not partner or "small_before" not in rows[partner]:
            continue
        own = rows[task]["injected"]
        positive = np.array([truth == "Yes" for truth in own.truth])
        kind = FINDINGS[task].kind
        alike = [seen for seen in cell.tasks("seen") if seen in FINDINGS and FINDINGS[seen].kind == kind]
        heads, answers = (
            {seen: _scores_of(rows[seen][name], own.patients) for seen in alike if name in rows[seen]}
            for name in ("small_before", "injected")
        )
        aurocs = {seen: _auroc(positive, head) for seen, head in heads.items()}
        if math.isfinite(aurocs[partner]):  # else the patients are all of one class
            others = [value for seen, value in aurocs.items() if seen != partner]
            yield Reading(
                picture=kind == "image",
                linked=aurocs[partner],
                asked_linked=_auroc(positive, answers[partner]),
                asked=_auroc(positive, _scores_of(own, own.patients)),
                others=fmean(others) if others else math.nan,
                averaged=_auroc(positive, np.mean(list(heads.values()), axis=0)),
                own_averaged=_auroc(positive, np.mean(list(answers.values()), axis=0)),
            )


def _scores_of(row: Predictions, patients: Sequence[str]) -> np.ndarray:
    scores = dict(zip(row.patients, row.scores.tolist()))
    return np.array([scores[patient] for patient in patients])


def _auroc(positive: np.ndarray, scores: np.ndarray) -> float:
    return 100 * float(auroc(positive, scores, np.ones((1, len(scores))))[0])
