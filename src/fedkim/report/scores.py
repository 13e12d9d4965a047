"""The page's parts about scores: findings in words, differences, sites, question-blindness, every number."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedkim.evaluation.blindness import worst_blindness
from fedkim.evaluation.tables import ROWS, inside, task_label
from fedkim.report.words import DASH, bounds, figure, interval, listed, signed

Entry = Mapping[str, Any]

METRICS = {
    "auroc": "AUROC",
    "auroc_within_folds": "AUROC, mean within folds",
    "auprc": "AUPRC",
    "ece": "ECE",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "mcc": "MCC",
    "exact_match": "exact match",
    "token_f1": "token F1",
    "bleu_1": "BLEU-1",
    "rouge_1": "ROUGE-1",
    "meteor_no_synonyms": "METEOR, no synonyms",
    "empty_rate": "empty answers",
    "unparsable_rate": "unparsable",
}


def findings(entries: Sequence[Entry]) -> list[str]:
    """What the scores say, in sentences whose every figure is computed from the result."""
    found = []
    for seen in (True, False):
        chosen = [entry for entry in entries if entry["seen"] == seen and entry["kind"] == "classification"]
        if not chosen:
            continue
        above = [entry for entry in chosen if (injected(entry).get("low") or 0) > 0.5]
        name = "Seen tasks" if seen else "Unseen tasks (zero-shot)"
        found.append(
            f"{name}: the injected model's AUROC interval lies above 0.5 on {len(above)} of {len(chosen)}"
            + (f" ({listed([entry['task'] for entry in above])})." if 0 < len(above) < len(chosen) else ".")
        )
    small = [e for e in entries if e["seen"] and "small_before" in e["differences"]]
    gaps = [e["differences"]["small_before"]["value"] for e in small]
    known = [gap for gap in gaps if gap is not None]
    if known:
        found.append(
            f"Against the small federated models (before injection): within 0.05 AUROC or better on "
            f"{sum(gap >= -0.05 for gap in known)} of {len(known)} seen tasks; mean difference {signed(sum(known) / len(known))}."
        )
    unseen = [e for e in entries if not e["seen"] and "proxy" in e["differences"]]
    if unseen:
        better = [e["task"] for e in unseen if (e["differences"]["proxy"].get("low") or 0) > 0]
        found.append(
            f"Transfer is claimed only where injected − proxy has an interval above 0: {listed(better)}"
            f" (of {len(unseen)} unseen tasks with a proxy)."
        )
    deaf = []
    for entry in entries:
        worst = worst_blindness(entry.get("blindness") or {})
        if worst and abs(worst[1]) >= 0.9:
            deaf.append(f"{entry['task']} like {worst[0]} ({signed(worst[1])})")
    if deaf:
        found.append(f"Answered almost like a seen question on the same inputs (correlation ≥ 0.9): {listed(deaf)}.")
    return found


def differences(entries: Sequence[Entry]) -> dict[str, Any] | None:
    """Injected minus each other row, paired; marked where the interval leaves out 0."""
    columns = row_order({name for entry in entries for name in entry["differences"]})
    if not columns:
        return None
    lines = []
    for entry in entries:
        cells = []
        for name in columns:
            score = entry["differences"].get(name)
            low, high = (score or {}).get("low"), (score or {}).get("high")
            clear = low is not None and high is not None and (low > 0 or high < 0)
            cells.append({**_two_lines(score), "strong": clear})
            if score and score["value"] is not None:
                cells[-1]["text"] = signed(score["value"])
        if not entry["differences"]:
            continue
        lines.append({"task": task_label(entry), "seen": entry["seen"], "cells": cells})
    return {"columns": [ROWS.get(name, name) for name in columns], "lines": lines}


def sites(entries: Sequence[Entry]) -> dict[str, Any] | None:
    """Primary score by task and site, the worst one marked."""
    names = sorted({site for entry in entries for site in entry["sites"]["by_site"]})
    if not names:
        return None
    lines = []
    for entry in entries:
        by_site, worst = entry["sites"]["by_site"], entry["sites"]["worst"]
        cells = [
            {
                **_two_lines(by_site.get(name)),
                "n": by_site[name]["n"] if name in by_site else "",
                "worst": worst is not None and worst["site"] == name and _differ(by_site),
            }
            for name in names
        ]
        if by_site:
            lines.append({"task": task_label(entry), "metric": METRICS[entry["sites"]["metric"]], "cells": cells})
    return {"names": names, "lines": lines}


def _differ(by_site: Mapping[str, Mapping[str, Any]]) -> bool:
    return len({entry["value"] for entry in by_site.values() if entry["value"] is not None}) > 1


def blindness(entries: Sequence[Entry]) -> dict[str, Any] | None:
    """Correlation of each unseen task's scores with each seen task's, as a heat map."""
    asked = [entry for entry in entries if entry.get("blindness")]
    seen = sorted({task for entry in asked for task in entry["blindness"]})
    if not seen:
        return None
    lines = []
    for entry in asked:
        cells = []
        for task in seen:
            known = entry["blindness"].get(task)
            value = known["pearson"] if known else None
            title = "not asked on these inputs"
            if known:
                title = known["reason"] or f"Spearman {figure(known['spearman'])}, n {known['n']}"
            cells.append({"value": value, "text": DASH if value is None else signed(value), "title": title})
        lines.append({"task": entry["task"], "cells": cells})
    return {"seen": seen, "lines": lines}


def every_number(entry: Entry) -> dict[str, Any]:
    """All scores of a task: a column per row, a line per metric; a block for all samples, the group, the tuned threshold …"""
    rows = {name: entry["rows"][name] for name in row_order(entry["rows"])}

    def parts(key: str) -> dict[str, Mapping[str, Any]]:
        return {name: row[key] for name, row in rows.items() if key in row}

    blocks = [_block("all samples", rows), _block(f"within {entry['within']}", parts("group"))]
    tuned = parts("tuned")
    block = _block("at the development-tuned threshold", tuned)
    cells = [{"text": figure(part.get("threshold")), "reason": part.get("reason", "")} for part in tuned.values()]
    block["lines"].insert(0, {"metric": "threshold", "cells": cells})
    blocks.append(block)
    for kind, title in (("closed", "yes/no questions"), ("open", "open questions")):
        chosen = {name: part for name, part in parts(kind).items() if part["n"]}
        blocks.append(_block(f"{title}, n {next(iter(chosen.values()))['n'] if chosen else 0}", chosen))
    return {
        "label": task_label(entry),
        "seen": entry["seen"],
        "about": about(entry),
        "blocks": [block for block in blocks if block["columns"]],
    }


def _block(title: str, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    present = {metric for row in rows.values() for metric in row.get("metrics", {})}
    lines = []
    for metric in [*(m for m in METRICS if m in present), *sorted(present - METRICS.keys())]:
        scores = [row.get("metrics", {}).get(metric) for row in rows.values()]
        cells = [{"text": interval(score), "reason": _remark(score)} for score in scores]
        lines.append({"metric": METRICS.get(metric, metric), "cells": cells})
    return {"title": title, "columns": [ROWS.get(name, name) for name in rows], "lines": lines}


def _two_lines(score: Mapping[str, Any] | None) -> dict[str, str]:
    """A score for a narrow cell: the value, its bounds beneath, both and any remark under the pointer."""
    if score is None:
        return {"text": "", "bounds": "", "title": ""}
    title = "; ".join(filter(None, [interval(score), _remark(score)]))
    return {"text": figure(score["value"]), "bounds": bounds(score), "title": title}


def _remark(score: Mapping[str, Any] | None) -> str:
    if not score:
        return ""
    skipped = f"{score['skipped_draws']} draws skipped" if score.get("skipped_draws") else ""
    return "; ".join(filter(None, [score.get("reason", ""), skipped]))


def about(entry: Entry) -> str:
    """The line beneath a task's name: n, patients, split, majority accuracy, proxy."""
    primary = injected(entry) or entry
    parts = [f"n {primary['n']}", f"{primary['patients']} patients", str(entry["split"])]
    accuracy = inside(entry["rows"].get("majority", {})).get("accuracy")
    if accuracy and accuracy["value"] is not None:
        parts.append(f"majority answer right in {100 * accuracy['value']:.0f} %")
    if entry.get("proxy"):
        parts.append(f"proxy: head of {entry['proxy']}")
    return " · ".join(parts)


def injected(entry: Entry) -> Mapping[str, Any]:
    """The primary score of the row the others are compared with; empty where a task has no row."""
    rows = entry["rows"]
    return rows.get("injected", next(iter(rows.values()), {})).get("primary", {})


def row_order(names: Sequence[str] | set[str] | Mapping[str, Any]) -> list[str]:
    """Row names in the order of every table: the known ones, then the rest by name."""
    return [name for name in ROWS if name in names] + sorted(name for name in names if name not in ROWS)
