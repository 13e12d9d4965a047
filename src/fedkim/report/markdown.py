"""A result as Markdown tables, for READMEs: generated, so that no number is ever typed."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedkim.evaluation.blindness import worst_blindness
from fedkim.evaluation.tables import ROWS, cell, inside, task_label

_CLASS_ROWS = ("blind", "shuffled", "simple", "proxy", "small_before")


def results_table(result: Mapping[str, Any]) -> str:
    """Seen tasks, unseen tasks and free-text tasks of a ``result.json``, then the line that says where they come from."""
    entries = list(result["metrics"].values())
    closed = [entry for entry in entries if entry["kind"] == "classification"]
    parts = [
        _class_table([entry for entry in closed if entry["seen"]], "Seen tasks", ("proxy",)),
        _class_table(
            [entry for entry in closed if not entry["seen"]], "Unseen tasks (zero-shot)", ("simple", "small_before")
        ),
        _text_table([entry for entry in entries if entry["kind"] == "text"]),
        _source(result),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _class_table(entries: Sequence[Mapping[str, Any]], title: str, without: tuple[str, ...]) -> str:
    if not entries:
        return ""
    columns = [row for row in _CLASS_ROWS if row not in without and _computed(entries, row)]
    blindness = not entries[0]["seen"]
    head = [f"{title}: AUROC", "n", "majority accuracy", "injected LLM [95 %]", *(ROWS[row] for row in columns)]
    other = "proxy" if blindness else "small_before"
    pooled = any("auroc_within_folds" in entry["rows"]["injected"]["metrics"] for entry in entries)
    # between folds of few patients a pooled area scores which patient it is
    head += [f"mean within folds: injected / {ROWS[other]}"] if pooled else []
    head += ["closest seen question"] if blindness else []
    lines = [_line(head), _line(["---"] * len(head))]
    for entry in entries:
        rows = entry["rows"]
        majority = inside(rows.get("majority", {})).get("accuracy")
        values = [
            task_label(entry),
            str(_number(entry)),
            cell(majority, interval=False),
            cell(_primary(rows["injected"])),
        ]
        values += [cell(_primary(rows.get(row)), interval=False) for row in columns]
        if pooled:
            within = [inside(rows.get(row, {})).get("auroc_within_folds") for row in ("injected", other)]
            values.append(" / ".join(cell(score, interval=False) for score in within))
        if blindness:
            worst = worst_blindness(entry["blindness"])
            values.append("–" if worst is None else f"{worst[0]} ({worst[1]:+.2f})")
        lines.append(_line(values))
    return "\n".join(lines)


def _text_table(entries: Sequence[Mapping[str, Any]]) -> str:
    if not entries:
        return ""
    head = ["Unseen free-text tasks: exact match", "n", "injected LLM [95 %]", "token F1", "empty"]
    references = [row for row in ("majority_per_template", "blind", "base") if _computed(entries, row)]
    head += [ROWS[row] for row in references]
    lines = [_line(head), _line(["---"] * len(head))]
    for entry in entries:
        rows = entry["rows"]
        injected = rows["injected"]["metrics"]
        lines.append(
            _line(
                [
                    entry["task"],
                    str(entry["n"]),
                    cell(_primary(rows["injected"])),
                    cell(injected["token_f1"], interval=False),
                    cell(injected["empty_rate"], interval=False),
                    *(cell(_primary(rows.get(row)), interval=False) for row in references),
                ]
            )
        )
    return "\n".join(lines)


def _computed(entries: Sequence[Mapping[str, Any]], row: str) -> bool:
    """Whether any task has the row: a reference that was left out for time needs no column of dashes."""
    return any(row in entry["rows"] for entry in entries)


def _source(result: Mapping[str, Any]) -> str:
    info = result["run_info"]
    folds = f", folds {', '.join(map(str, info['folds']))} pooled" if "folds" in info else ""
    synthetic = "synthetic phantom data, " if result["meta_info"]["synthetic"] else ""
    return (
        f"*{synthetic}recipe `{info['recipe']}`{folds}, method {info['method']}, {info['llm']}, seed {info['seed']}, "
        f"{info['split']} split, {info['environment']['dtype']} on {info['environment']['device']}.*"
    )


def _primary(row: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return None if row is None else row["primary"]


def _number(entry: Mapping[str, Any]) -> int:
    return int(entry["rows"]["injected"]["primary"]["n"])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
