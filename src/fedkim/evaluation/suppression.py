"""Small cells out of a result: what describes fewer than ten patients may describe one."""

from collections.abc import Mapping
from typing import Any

from fedkim.data.smallest_cell import SMALLEST_CELL


def suppressed(entry: Mapping[str, Any], smallest: int = SMALLEST_CELL) -> dict[str, Any] | None:
    """A task's entry of a result without numbers from which a cell below ``smallest`` can be read off; None: nothing is left.

    A task goes whole where fewer patients, or fewer of the group inside which it is judged, answered it, or all with one answer; where
    the patients outside of that group are so few or of one answer too, for total less group gives them away.
    A site with fewer patients goes, and where only one would go the next smallest too, since the total gives it away; one whose
    patients all gave one answer goes as well, and the others' scores have two places. Where an answer has fewer samples, its
    count goes with everything that says how frequent it is: the other counts, accuracies, the majority row. What remains are
    AUROCs to two places: one in full is a whole number over the product of both answers' counts, so it would give the smaller one
    away, as would the number of bootstrap draws that missed an answer.
    """
    rows = {name: dict(row) for name, row in entry["rows"].items()}
    if any(_too_few(row, smallest) for row in rows.values()):
        return None
    kept = {**entry, "rows": {name: _parts(row, smallest) for name, row in rows.items()}}
    kept["sites"] = _sites(entry.get("sites") or {}, smallest)
    parts = [part for row in rows.values() for part in (row, row.get("group", {}))]
    if any(count < smallest for part in parts for count in part.get("counts", {}).values()):
        kept["rows"] = {name: _ranks_only(row) for name, row in kept["rows"].items() if not name.startswith("majority")}
        kept["differences"] = {
            name: _coarse(value) for name, value in kept["differences"].items() if not name.startswith("majority")
        }
    return kept


def suppressed_result(result: Mapping[str, Any], smallest: int = SMALLEST_CELL) -> dict[str, Any]:
    """A whole result without small cells: tasks of few patients go, and so does how many of what a site holds or trained on."""
    found = {
        task: suppressed(entry, smallest)
        for task, entry in result["metrics"].items()
        if entry.get("patients", smallest) >= smallest
    }
    metrics = {task: entry for task, entry in found.items() if entry is not None}
    told = result["meta_info"]
    sites = {
        name: {key: None if isinstance(value, int) and value < smallest else value for key, value in held.items()}
        for name, held in told.get("sites", {}).items()
    }
    told_rounds = result["train_info"]["rounds"]
    training = {**result["train_info"], "rounds": [_without_counts(entry) for entry in told_rounds]}
    hidden = sorted(set(result["metrics"]) - set(metrics))
    about = {**told, "sites": sites, "suppressed": {"smallest_cell": smallest, "tasks": hidden}}
    return {**result, "train_info": training, "metrics": metrics, "meta_info": about}


def _without_counts(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A round without the examples behind each site's components: their differences are cells too."""
    sites = {
        name: {key: value for key, value in site.items() if key != "num_examples"}
        for name, site in entry.get("sites", {}).items()
    }
    return {**entry, "sites": sites}


def _too_few(row: Mapping[str, Any], smallest: int) -> bool:
    group = row.get("group") or row
    counts = group.get("counts", {}).values()
    if group.get("patients", smallest) < smallest or (bool(counts) and max(counts) == sum(counts)):
        return True
    if not row.get("group"):
        return False
    patients = row.get("patients", 0) - group.get("patients", 0)
    outside = [count - group.get("counts", {}).get(answer, 0) for answer, count in row.get("counts", {}).items()]
    return 0 < patients < smallest or (sum(outside) > 0 and (max(outside) == sum(outside) or min(outside) < smallest))


def _parts(row: Mapping[str, Any], smallest: int) -> dict[str, Any]:
    """A free-text row without its closed and open questions where either are so few; together they are all."""
    few = any(0 < row[part]["n"] < smallest for part in ("closed", "open") if part in row)
    return {name: value for name, value in row.items() if not (few and name in ("closed", "open"))}


def _ranks_only(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: row[name] for name in ("n", "patients", "threshold") if name in row}
    shown |= {"primary": _coarse(row["primary"])} if "primary" in row else {}
    shown["metrics"] = {name: _coarse(score) for name, score in row.get("metrics", {}).items() if name == "auroc"}
    return shown


def _coarse(score: Mapping[str, Any]) -> dict[str, Any]:
    """A score to two places, without what says how many draws or samples it is of."""
    return {
        name: round(value, 2) if name in ("value", "low", "high") and value is not None else value
        for name, value in score.items()
        if name != "skipped_draws"
    } | {"reason": ""}


def _sites(sites: Mapping[str, Any], smallest: int) -> dict[str, Any]:
    by_site = sites.get("by_site", {})
    order = sorted(by_site, key=lambda name: (by_site[name]["patients"], name))
    small = [name for name in order if by_site[name]["patients"] < smallest]
    if len(small) == 1:
        small = order[:2]
    kept = {
        name: _coarse(entry) for name, entry in by_site.items() if name not in small and entry.get("value") is not None
    }
    known = {name: entry["value"] for name, entry in kept.items()}
    lowest = min(known, key=lambda name: known[name]) if known else None
    return {**sites, "by_site": kept, "worst": None if lowest is None else {"site": lowest, **kept[lowest]}}
