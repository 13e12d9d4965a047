"""The tables at the end of a run: seen and unseen tasks, injected beside every reference."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from fedkim.evaluation.blindness import worst_blindness

ROWS: Mapping[str, str] = {
    "injected": "injected",
    "base": "base LLM",
    "blind": "blind",
    "shuffled": "shuffled",
    "proxy": "proxy head",
    "simple": "simple statistics",
    "small_before": "small model",
    "small_after": "small model after",
    "majority": "majority",
    "majority_per_template": "majority per template",
}
"""Row names and how they are shown, in order; other names follow as they are."""

_CLASS_COLUMNS = ("blind", "shuffled", "simple", "proxy", "small_before", "small_after")


def render_table(result: Mapping[str, Any], console: Console) -> None:
    """Print one table of seen and one of unseen tasks, and one of free-text tasks where there are any."""
    entries = list(result.get("metrics", {}).values())
    for seen in (True, False):
        chosen = [entry for entry in entries if entry["seen"] == seen and entry["kind"] == "classification"]
        if chosen:
            console.print(_class_table(chosen, seen))
    written = [entry for entry in entries if entry["kind"] == "text"]
    if written:
        console.print(_text_table(written))
    if result.get("meta_info", {}).get("synthetic"):
        console.print("synthetic phantom data: these scores say nothing about patients", style="yellow")


def cell(score: Mapping[str, Any] | None, *, interval: bool = True) -> str:
    """A score as text: ``0.81 [0.75, 0.86]``, ``0.81 (no interval)``; a dash where there is none."""
    if score is None or score.get("value") is None:
        return "–"
    if not interval:
        return f"{score['value']:.2f}"
    if score.get("low") is None:
        return f"{score['value']:.2f} (no interval)"
    return f"{score['value']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"


def decisions_line(entry: Mapping[str, Any]) -> str | None:
    """What the injected model's yes or no is worth at its threshold, as one line; None where the entry has no such scores.

    ``recall`` of two answers is that of the positive one, the sensitivity; ``balanced_accuracy`` is the mean of it and the specificity.
    """
    tuned = entry["rows"].get("injected", {}).get("tuned") or {}
    scores = tuned.get("metrics", {})
    values = [scores.get(name, {}).get("value") for name in ("recall", "balanced_accuracy")]
    if None in values:
        return None
    sensitivity, balanced = values
    return (
        f"{task_label(entry)} at the threshold {tuned['threshold']:.2f} ({tuned['source']}): "
        f"sensitivity {cell(scores['recall'])}, specificity {2 * balanced - sensitivity:.2f}, "
        f"precision {cell(scores.get('precision'))}"
    )


def task_label(entry: Mapping[str, Any]) -> str:
    """The task's name with the group its primary score is computed in: ``effusion (within pneumonia)``."""
    return f"{entry['task']} (within {entry['within']})" if entry.get("within") else str(entry["task"])


def _class_table(entries: list[Mapping[str, Any]], seen: bool) -> Table:
    shown = [name for name in _CLASS_COLUMNS if any(name in entry["rows"] for entry in entries)]
    split = entries[0]["split"]
    title = f"{'Seen' if seen else 'Unseen'} tasks: AUROC on {split} [95 % by patient]"
    table = Table(title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
    table.add_column("task")
    for name in ("n", "majority\naccuracy", "injected"):
        table.add_column(name, justify="right", no_wrap=name == "injected")
    for name in shown:
        table.add_column(ROWS[name].replace(" ", "\n", 1), justify="right")
    if not seen:
        table.add_column("question\nblindness", justify="right")
    for entry in entries:
        rows = entry["rows"]
        injected = rows.get("injected", {}).get("primary")
        line = [
            task_label(entry),
            str(injected["n"] if injected else entry["n"]),
            cell(inside(rows.get("majority", {})).get("accuracy"), interval=False),
            cell(injected),
            *(cell(rows.get(name, {}).get("primary"), interval=False) for name in shown),
        ]
        if not seen:
            worst = worst_blindness(entry.get("blindness") or {})
            line.append(f"{worst[1]:+.2f} {worst[0]}" if worst else "–")
        table.add_row(*line)
    return table


def _text_table(entries: list[Mapping[str, Any]]) -> Table:
    title = f"Free-text tasks on {entries[0]['split']} [95 % by patient]"
    table = Table(title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
    table.add_column("task")
    for name in (
        "n",
        "exact match",
        "yes/no\naccuracy",
        "token F1",
        "empty",
        "majority per\ntemplate",
        "blind",
        "base",
    ):
        table.add_column(name, justify="right")
    for entry in entries:
        rows = entry["rows"]
        injected = rows.get("injected", {})
        scores = injected.get("metrics", {})
        closed = injected.get("closed", {}).get("metrics", {})
        constant = rows.get("majority_per_template", rows.get("majority", {}))
        table.add_row(
            task_label(entry) + ("" if entry["seen"] else " (unseen)"),
            str(entry["n"]),
            cell(scores.get("exact_match")),
            cell(closed.get("accuracy"), interval=False),
            cell(scores.get("token_f1"), interval=False),
            cell(scores.get("empty_rate"), interval=False),
            cell(constant.get("primary"), interval=False),
            cell(rows.get("blind", {}).get("primary"), interval=False),
            cell(rows.get("base", {}).get("primary"), interval=False),
        )
    return table


def inside(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row's scores where its task is judged: in the primary group, where there is one."""
    return row.get("group", row).get("metrics", {})
