"""Each method's means seed by seed, so that any difference between two rows can be formed from the page, to a tenth of a point."""

from fedkim.experiments.methods import title_of
from fedkim.experiments.paper_tables import BLIND
from fedkim.experiments.scores import Scores
from fedkim.experiments.table import DASH, Table

_PARTS = (("seen", "injected"), ("seen", "small_before"), ("unseen", "injected"), ("generation", "injected"))


def seed_table(scores: Scores) -> Table:
    """A row per method, variation and backbone, a column per seed; empty where no row has two seeds to pair."""
    seeds = sorted({cell.seed for cell in scores.cells})
    rows, most = [], 0
    for method, variation, backbone in scores.groups():
        if variation == BLIND:
            continue  # the method's own training once more
        columns = [
            scores.by_seed(method, which, row=row, variation=variation, backbone=backbone, tasks=scores.tasks(which))
            for which, row in _PARTS
        ]
        most = max(most, *map(len, columns))
        name = ", ".join(filter(None, (title_of(method), variation)))
        rows.append([name, backbone, *(_cell([column.get(seed) for column in columns]) for seed in seeds)])
    return Table(
        title="Seed by seed",
        note=(
            "Seen tasks / the small models on them, before injection / unseen classification / unseen free text: means over the tasks of the "
            "main setting, whatever else a variation has. Methods are paired by seed: a difference between two rows has the interval of its column-wise differences."
        ),
        header=["method", "backbone", *(f"seed {seed}" for seed in seeds)],
        rows=rows if most > 1 else [],
    )


def _cell(values: list[float | None]) -> str:
    """``82.1 / 87.4 / 76.6 / 44.2``; a dash where nothing was run."""
    if all(value is None for value in values):
        return DASH
    return " / ".join(DASH if value is None else f"{value:.1f}" for value in values)
