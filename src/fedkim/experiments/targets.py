"""What was aimed at before the evaluated seeds ran, and what came of it: figures in points, means over seeds with t-intervals.

Claims ask whether a sentence is true (``claims``); a target asks whether a figure was reached, and isn't adjusted for many.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from fedkim.evaluation.seeds import PairedSeeds, paired_seeds
from fedkim.experiments.methods import FEDKIM, FEDPLUG, MATCHED, PLUS, title_of
from fedkim.experiments.our_tables import rho_points, rho_variations
from fedkim.experiments.scores import Scores, less
from fedkim.experiments.table import Table, difference

WITHIN = 1.0
"""Points that FEDKIM+ may stay below a small model on a seen task."""
CONTROL = 2.0
"""Points: the most that half an interval may be where nothing can transfer."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One figure and when it counts as reached."""

    name: str
    wanted: str
    values: Sequence[float]
    """One a seed, unless said otherwise."""
    word: Callable[[PairedSeeds], str]
    """``reached``, or how it was missed."""
    note: str = ""
    """What the figure alone would hide."""
    seeds: int = 0
    """How many seeds the values are of, where they are more than one a seed."""


def targets_table(scores: Scores) -> Table:
    """A row per target that has two seeds or more."""
    rows, seeds = [], len(scores.group(FEDKIM))
    for target in _targets(scores):
        paired = paired_seeds(target.values)
        if paired is None or not math.isfinite(paired.low):
            continue
        figure = f"{paired.mean:+.2f} [{paired.low:+.2f}, {paired.high:+.2f}]"
        figure += f"; {target.note}" if target.note else ""
        word = target.word(paired)
        if (own := target.seeds or paired.num_seeds) < seeds:
            word += f" (on {own} of {seeds} seeds)"
        rows.append([target.name, target.wanted, figure, word, f"{paired.detectable:.1f}"])
    return Table(
        title="Targets",
        note=(
            "Set before the evaluated seeds were run. Points, mean over seeds [95 % t-interval], without adjustment for their number; last "
            "the smallest difference that so many seeds find in 80 % of repetitions: an interval that contains 0 is no sign of none "
            "below that."
        ),
        header=["figure", "wanted", "found", "", "detectable"],
        rows=rows,
    )


def _targets(scores: Scores) -> Iterator[Target]:
    for first, second in ((FEDKIM, MATCHED), (MATCHED, FEDPLUG)):
        for which in ("seen", "unseen"):
            yield _above(
                f"{title_of(first)} − {title_of(second)}, {which} AUROC",
                less(scores.by_seed(first, which), scores.by_seed(second, which)),
            )
    for ablation in ("fedkim-pub", "without-task", "without-modality"):
        yield _above(
            f"{title_of(FEDKIM)} − {title_of(ablation)}, seen and unseen AUROC",
            less(scores.by_seed(FEDKIM, "all"), scores.by_seed(ablation, "all")),
        )
    for task in scores.tasks("seen"):
        own, small = (scores.task_by_seed(PLUS, task, row=row) for row in ("injected", "small_before"))
        yield Target(
            name=f"{title_of(PLUS)} − its small model, {task}",
            wanted=f"mean at least −{WITHIN:.0f}, whatever its interval",
            values=list(less(own, small).values()),
            word=lambda paired: _word(paired.mean >= -WITHIN),
        )
    for method in (FEDKIM, PLUS):
        injected, proxies = rho_points(scores, method), rho_points(scores, method, row="proxy")
        for rho in sorted(set(injected) & set(proxies) - {0.0}):
            yield _above(f"{title_of(method)} − proxy, unseen AUROC, ρ = {rho:g}", less(injected[rho], proxies[rho]))
    for method in (FEDKIM, MATCHED, PLUS):
        points = rho_points(scores, method)
        if len(points.get(0.0, {})) > 1:
            yield Target(
                name=f"{title_of(method)} − 50, unseen AUROC, ρ = 0",
                wanted=f"interval over tasks and seeds contains 0, half of it at most {CONTROL:.0f}",
                values=_without_link(scores, method),
                word=lambda paired: _word(paired.low <= 0 <= paired.high and (paired.high - paired.low) / 2 <= CONTROL),
                seeds=len(points[0.0]),
                note=f"by seeds {difference(_less_chance(points[0.0]))}; {_furthest(scores, method)}",  # two tasks' leaks may cancel
            )
        for low, high in zip(list(points), list(points)[1:]):
            yield _above(
                f"{title_of(method)}, unseen AUROC, ρ = {high:g} − ρ = {low:g}", less(points[high], points[low])
            )


def _less_chance(by_seed: Mapping[int, float]) -> dict[int, float]:
    return {seed: value - 50 for seed, value in by_seed.items()}


def _above(name: str, by_seed: Mapping[int, float]) -> Target:
    return Target(name=name, wanted="interval above 0", values=list(by_seed.values()), word=_side)


def _word(reached: bool) -> str:
    return "reached" if reached else "missed"


def _side(paired: PairedSeeds) -> str:
    if paired.low > 0:
        return "reached"
    return "missed, lies below 0" if paired.high < 0 else "missed, contains 0"


def _furthest(scores: Scores, method: str) -> str:
    """The task whose mean over seeds lies furthest from chance at ρ = 0."""
    variation = rho_variations(scores)[0.0]
    means = {
        task: fmean(values.values()) - 50
        for task in scores.tasks("unseen")
        if (values := scores.task_by_seed(method, task, variation=variation))
    }
    if not means:
        return ""
    task = max(means, key=lambda name: abs(means[name]))
    return f"furthest: {task} {means[task]:+.2f}"


def _without_link(scores: Scores, method: str) -> list[float]:
    """Unseen AUROC less 50 of every task and seed at ρ = 0: there labels of one patient have nothing in common, so each is a draw."""
    variation = rho_variations(scores)[0.0]
    return [
        value - 50
        for task in scores.tasks("unseen")
        for value in scores.task_by_seed(method, task, variation=variation).values()
    ]
