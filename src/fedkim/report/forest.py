"""The forest plots: each task's rows beneath each other on one scale."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedkim.evaluation.tables import ROWS, task_label
from fedkim.report.drawing import strip
from fedkim.report.scores import about, row_order
from fedkim.report.words import interval

_MARKERS = {"injected": "main", "small_before": "small", "small_after": "small", "proxy": "proxy"}


def forest(entries: Sequence[Mapping[str, Any]], kind: str) -> dict[str, Any]:
    """Tasks of one kind with a lane per row (label, interval strip, value), and the common scale."""
    entries = [entry for entry in entries if entry["kind"] == kind]
    primaries = [row["primary"] for entry in entries for row in entry["rows"].values()]
    known = [score["low"] if score["low"] is not None else score["value"] for score in primaries]
    lowest = min((value for value in known if value is not None), default=0.5)
    start = 0.0 if kind == "text" else min(0.4, math.floor(lowest * 10) / 10)
    marks = [0.0, 0.5, 1.0] if kind == "text" else [mark for mark in (0.0, 0.25, 0.5, 0.75, 1.0) if mark >= start]
    scale = [{"label": f"{mark:g}", "at": f"{100 * (mark - start) / (1 - start):.2f}%"} for mark in marks]
    return {"tasks": [_task(entry, start, marks) for entry in entries], "scale": scale}


def _task(entry: Mapping[str, Any], start: float, marks: Sequence[float]) -> dict[str, Any]:
    area = entry["kind"] == "classification"
    # a constant answer has the dotted line's AUROC, 0.5; its accuracy stands beside n
    names = [name for name in row_order(entry["rows"]) if not (area and name == "majority")]
    lanes = []
    for name in names:
        score = entry["rows"][name]["primary"]
        marker = _MARKERS.get(name, "constant" if name.startswith("majority") else "control")
        label = ROWS.get(name, name)
        drawn = strip(
            score["value"],
            score["low"],
            score["high"],
            marker=marker,
            title=f"{label}: {interval(score)}",
            marks=marks,
            chance=0.5 if area else None,
            span=(start, 1.0),
        )
        text = interval(score, 2)
        lanes.append(
            {"label": label, "marker": marker, "text": text, "reason": score.get("reason", ""), "strip": drawn}
        )
    return {"label": task_label(entry), "about": about(entry), "lanes": lanes}
