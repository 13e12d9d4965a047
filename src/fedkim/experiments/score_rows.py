"""Every score of a matrix as one table in CSV, a line a number, for whoever would rather compute than read."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from fedkim.experiments.scores import CellScores, Scores

COLUMNS = (
    "method",
    "variation",
    "backbone",
    "seed",
    "task",
    "seen",
    "kind",
    "row",
    "metric",
    "within",
    "primary",
    "value",
    "low",
    "high",
)


def scores_csv(scores: Scores) -> str:
    """The table with its header: of each cell, task and row every metric as the cell's JSON has it, ``low`` and ``high`` by patient.

    ``primary`` is 1 for the score that the tables of means show. ``within`` names the group of patients that a task is scored on where
    these aren't all. A score that doesn't exist has no value.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for cell in scores.cells:
        lines.writerows(_rows(cell))
    return text.getvalue()


def _rows(cell: CellScores) -> Iterator[tuple[object, ...]]:
    for task, entry in cell.record["metrics"].items():
        for name, row in entry["rows"].items():
            own = (cell.method, cell.variation, cell.backbone, cell.seed, task, int(entry["seen"]), entry["kind"], name)
            primary = row["primary"]
            if primary["within"]:
                yield (*own, primary["metric"], primary["within"], 1, *_figures(primary))
            for metric, score in row["metrics"].items():
                shown = int(metric == primary["metric"] and not primary["within"])
                yield (*own, metric, "", shown, *_figures(score))


def _figures(score: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(score.get(key) for key in ("value", "low", "high"))
