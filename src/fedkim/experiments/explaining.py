"""Tables that say why: against the majority, how the loss went, and what the router did."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import numpy as np

from fedkim.data.phantom.factors import FINDINGS
from fedkim.experiments.methods import title_of
from fedkim.experiments.paper_tables import BLIND
from fedkim.experiments.scores import CellScores, Scores, means_by_seed
from fedkim.experiments.table import DASH, Table, shown

Groups = Mapping[int, Sequence[CellScores]]
"""Cells by seed."""

SAME = 1e-5
"""Routes are kept with six decimals: what is this near is the same."""


def against_majority(scores: Scores) -> Table:
    """Unseen tasks by accuracy, beside the rule that needs no patient."""

    def row(cells: Groups, name: str) -> list[str]:
        return [
            _by_seed(cells, lambda cell: cell.over_majority(name, "unseen")),
            _by_seed(cells, lambda cell: cell.over_majority(name, "generation")),
            _by_seed(cells, lambda cell: cell.over_majority(name)),
            _by_seed(cells, lambda cell: cell.text_part("closed", "exact_match") if name == "injected" else None),
            _by_seed(cells, lambda cell: cell.text_part("open", "exact_match") if name == "injected" else None),
        ]

    rows = [[*head, *row(cells, "injected")] for head, cells in main_setting(scores)]
    if base := scores.group("fedkim"):
        rows.append(["*language model alone*", DASH, str(len(base)), *row(base, "base")])
    return Table(
        title="Unseen tasks against the majority",
        note=(
            "Points by which accuracy lies above the majority's, exact match above the most frequent answer to each template, and the mean over "
            "all of these tasks; then exact match on free-text questions whose answer is yes or no, and on all others."
        ),
        header=["method", "backbone", "seeds", "yes/no", "free text", "all", "free text: yes/no", "free text: others"],
        rows=[row for row in rows if any(cell != DASH for cell in row[3:])],
    )


def learning(scores: Scores) -> Table:
    """How the injection's loss went: whether it had come to rest when the rounds ended."""
    rows = []
    for head, cells in main_setting(scores):
        losses = [
            list(cell.injection_losses.values()) for group in cells.values() for cell in group if not _taught(cell)
        ]
        if losses and min(map(len, losses)) > 2:
            means = [f"{fmean(values[place] for values in losses):.3f}" for place in (0, 2, -2, -1)]
            falls = [100 * (1 - values[-1] / values[-2]) for values in losses]
            rows.append([*head, *means, f"{min(falls):.0f} to {max(falls):.0f} %"])
    return Table(
        title="Loss of the injection",
        note=(
            "Mean cross-entropy a token, the end of text among them, over an injection's steps: of the first, the third, the last but one "
            "and the last one. Last, by how much the last one is below the one before it, over seeds; rates fall to 0 there. Methods with fewer "
            "than three injections, and those that a teacher or mix-ups give other targets, have no row."
        ),
        header=["method", "backbone", "seeds", "first", "third", "last but one", "last", "last fall"],
        rows=rows,
    )


def _range(values: Sequence[float]) -> str:
    spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return f"{fmean(values):.3f}{spread}"


def routing(scores: Scores) -> Table:
    """What the router did on the tasks it was trained on, and where unseen ones landed."""
    rows = []
    for method, variation, backbone in scores.groups():
        if variation == BLIND:  # the main setting's training once more
            continue
        groups = scores.group(method, variation=variation, backbone=backbone)
        cells = [
            cell for group in groups.values() for cell in group if (cell.record["routes"] or {}).get("experts", 0) > 1
        ]
        if not cells or all(cell.record["run_info"]["cell"].get("trained_in") for cell in cells):
            continue
        routes = [cell.record["routes"] for cell in cells]
        apart = [_apart(cell) for cell in cells]
        entropies = [fmean(cell.record["routes"]["entropy"][task] for task in cell.tasks("seen")) for cell in cells]
        largest = max(max(cell.record["routes"]["tasks"][task]) for cell in cells for task in cell.tasks("seen"))
        near = [hit for cell in cells if scores.synthetic for hit in _nearest_is_partner(cell)]
        rows.append(
            [
                title_of(method) + (f", {variation}" if variation else ""),
                backbone,
                str(len(groups)),
                _range(entropies),
                _range(apart),
                f"{largest:.2f}",
                f"{sum(near)} of {len(near)}" if near else DASH,
                str(sum(bool(record["collapsed"]) for record in routes)),
                str(sum(bool(record["indistinct"]) for record in routes)),
            ]
        )
    return Table(
        title="Routing",
        note=(
            "Of the tasks that the router was trained on: entropy of α over log P (1: uniform) and total variation between two tasks (0: the same "
            "route for all), means over cells (lowest to highest); the largest weight of one expert. Then how many unseen yes/no tasks have "
            "the finding they are linked with as their nearest seen route, of those that are near to one alone; and cells with a collapsed "
            "route or without distinct ones."
        ),
        header=[
            "method",
            "backbone",
            "seeds",
            "entropy",
            "total variation",
            "largest weight",
            "nearest is the linked one",
            "collapsed",
            "indistinct",
        ],
        rows=rows,
    )


def main_setting(scores: Scores) -> list[tuple[list[str], Groups]]:
    """The main setting's methods: how a row begins, and the cells by seed."""
    found: list[tuple[list[str], Groups]] = []
    for method, variation, backbone in scores.groups():
        groups = scores.group(method, backbone=backbone)
        if not variation and groups:
            found.append(([title_of(method), backbone, str(len(groups))], groups))
    return found


def _by_seed(groups: Groups, value: Callable[[CellScores], float | None]) -> str:
    return shown(means_by_seed(groups, lambda cell: [value(cell)]))


def _taught(cell: CellScores) -> bool:
    """Whether the loss is of other targets than labels, whose own entropy it can't fall below."""
    injection = cell.settings.get("injection", {})
    return injection.get("teacher", "none") != "none" or injection.get("mixup", "taught") == "always"


def _apart(cell: CellScores) -> float:
    """Mean total variation between the routes of two seen tasks."""
    routes = [np.array(cell.record["routes"]["tasks"][task]) for task in cell.tasks("seen")]
    pairs = [float(np.abs(a - b).sum()) / 2 for place, a in enumerate(routes) for b in routes[place + 1 :]]
    return fmean(pairs) if pairs else 0.0


def partner_of(cell: CellScores, task: str) -> str | None:
    """The seen finding that an unseen one is linked with, where the cell trained it."""
    partner = FINDINGS[task].partner if task in FINDINGS else None
    return partner if partner in cell.tasks("seen") else None


def _nearest_is_partner(cell: CellScores) -> list[bool]:
    """Of unseen tasks with a partner; one that is as near to another seen task is left out, nothing chose between them."""
    routes = {task: np.array(route) for task, route in cell.record["routes"]["tasks"].items()}
    hits = []
    for task in cell.tasks("unseen"):
        partner = partner_of(cell, task)
        if partner and task in routes:
            far = {other: float(np.abs(routes[task] - routes[other]).sum()) for other in cell.tasks("seen")}
            nearest = [other for other, distance in far.items() if distance <= min(far.values()) + SAME]
            if len(nearest) == 1:
                hits.append(nearest == [partner])
    return hits
