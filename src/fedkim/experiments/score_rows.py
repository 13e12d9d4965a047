"""The scores of a matrix as one table in CSV, a line a number, for whoever would rather compute than read."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from fedkim.experiments.scores import CellScores, Scores

COLUMNS = (
    "cell",
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
    """The table with its header: of each cell, task and row the scores over all of its answers as the cell's JSON has them, from 0 to 1
    (mcc from −1), ``low`` and ``high`` by patient. What a row has at a tuned threshold, or of closed and open questions apart, is in the JSON alone.

    ``primary`` is 1 for the score that the tables of means show, in points there. ``within`` names the group of patients that a task is scored on where
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
            own = (
                cell.name,
                cell.method,
                cell.variation,
                cell.backbone,
                cell.seed,
                task,
                int(entry["seen"]),
                entry["kind"],
                name,
            )
            primary = row["primary"]
            yield (*own, primary["metric"], primary["within"] or "", 1, *_figures(primary))
            for metric, score in row.get("metrics", {}).items():  # cells of a choice keep the primary score alone
                if primary["within"] or metric != primary["metric"]:
                    yield (*own, metric, "", 0, *_figures(score))


def _figures(score: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(score.get(key) for key in ("value", "low", "high"))
