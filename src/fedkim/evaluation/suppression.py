"""Small cells out of a result: what describes fewer than ten patients may describe one."""

from collections.abc import Mapping
from typing import Any

SMALLEST_CELL = 10
"""Patients (or samples of an answer) that a published number must at least describe."""


def suppressed(entry: Mapping[str, Any], smallest: int = SMALLEST_CELL) -> dict[str, Any]:
    """A task's entry of a result without numbers from which a cell below ``smallest`` can be read off.

    A site with fewer patients goes, and where only one would go the next smallest too, since the total gives it away. Where an
    answer has fewer samples, its count goes with everything that says how frequent it is (the other counts, accuracies, the
    majority row); ranking scores such as AUROC don't and stay.
    """
    kept = {**entry, "rows": {name: dict(row) for name, row in entry["rows"].items()}}
    counts = [count for row in kept["rows"].values() for count in row.get("counts", {}).values()]
    if any(count < smallest for count in counts):
        kept["rows"] = {name: _ranks_only(row) for name, row in kept["rows"].items() if not name.startswith("majority")}
        kept["differences"] = {
            name: value for name, value in kept["differences"].items() if not name.startswith("majority")
        }
    kept["sites"] = _sites(entry.get("sites") or {}, smallest)
    return kept


def suppressed_result(result: Mapping[str, Any], smallest: int = SMALLEST_CELL) -> dict[str, Any]:
    """A whole result without small cells: tasks of few patients go, and how many a small site holds."""
    metrics = {
        task: suppressed(entry, smallest)
        for task, entry in result["metrics"].items()
        if entry.get("patients", smallest) >= smallest
    }
    told = result["meta_info"]
    sites = {
        name: {key: None if isinstance(value, int) and value < smallest else value for key, value in held.items()}
        for name, held in told.get("sites", {}).items()
    }
    hidden = sorted(set(result["metrics"]) - set(metrics))
    about = {**told, "sites": sites, "suppressed": {"smallest_cell": smallest, "tasks": hidden}}
    return {**result, "metrics": metrics, "meta_info": about}


def _ranks_only(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: row[name] for name in ("n", "patients", "threshold", "primary") if name in row}
    shown["metrics"] = {name: score for name, score in row.get("metrics", {}).items() if name == "auroc"}
    return shown


def _sites(sites: Mapping[str, Any], smallest: int) -> dict[str, Any]:
    by_site = sites.get("by_site", {})
    order = sorted(by_site, key=lambda name: (by_site[name]["patients"], name))
    small = [name for name in order if by_site[name]["patients"] < smallest]
    if len(small) == 1:
        small = order[:2]
    kept = {name: entry for name, entry in by_site.items() if name not in small}
    worst = sites.get("worst")
    if worst and worst["site"] in small:
        known = {name: entry["value"] for name, entry in kept.items() if entry["value"] is not None}
        lowest = min(known, key=lambda name: known[name]) if known else None
        worst = None if lowest is None else {"site": lowest, **kept[lowest]}
    return {**sites, "by_site": kept, "worst": worst}
