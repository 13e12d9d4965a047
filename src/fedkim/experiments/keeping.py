"""What is kept of a cell: one JSON of aggregates; of synthetic patients also their predictions.

::

    results/paper-matrix/fedkim--fedavg--seed10.json                  the run's result, with its cell and its processor time
    results/paper-matrix/fedkim--fedavg--seed10.predictions.parquet   synthetic runs alone, and not those of the choice

Of real patients only aggregates are kept, and the bootstrap draws of the primary scores, from which differences between
methods have their intervals; of a hospital's own no draws either, and nothing that describes fewer than ten.
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedkim.errors import FedkimError
from fedkim.evaluation.blindness import question_blindness
from fedkim.evaluation.predictions import Predictions, Rows
from fedkim.evaluation.scoring import primary_draws, score_at, score_rows
from fedkim.evaluation.statistics import MIN_PATIENTS
from fedkim.evaluation.suppression import suppressed_result
from fedkim.experiments.matrix import Cell, result_file
from fedkim.experiments.predictions_table import quantised, read_table, write_table
from fedkim.recipe import Recipe
from fedkim.run import keep_result
from fedkim.run.predictions_file import read_predictions
from fedkim.run.scores import shuffled_over_patients

DRAWS = 200
"""Bootstrap draws kept of a real run's scores."""

_MAIN = ("auroc", "accuracy", "exact_match", "token_f1")

_OF_A_SITE = ("loss", "bytes_sent", "bytes_received")

SUFFIX = ".predictions.parquet"


def keep_cell(
    results: Path,
    recipe: Recipe,
    cell: Cell,
    result: Mapping[str, Any],
    *,
    run: Path,
    processor_seconds: float,
    chosen: int | None = None,
    trained_in: str = "",
) -> Path:
    """Write a finished cell's files below ``results`` and give the JSON's path; writing it last makes the cell done.

    ``chosen`` is the configuration that the choice gave it, ``trained_in`` names the cell whose training was this one's too.
    """
    hospital = recipe.data.source == "hospital"
    if hospital:  # first of all: what is slimmed away below says how many patients a score is of
        result = suppressed_result(result)
    rows = read_predictions(run / "predictions.json")
    about = {**cell_record(cell), "chosen": chosen, "trained_in": trained_in}
    record = {**result, "run_info": {**result["run_info"], "cell": about}}
    # a resumed cell counts the processor time of its last process alone
    record["run_info"]["processor_seconds"] = round(processor_seconds, 1)
    path = result_file(results, recipe.run.name, cell)
    if result["meta_info"]["synthetic"]:
        small = quantised(rows)
        record["metrics"] = rescored(small, record["metrics"], recipe.evaluation.draws, recipe.run.seed)
        if cell.configuration is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_table(path.with_name(cell.name + SUFFIX), rows)
    else:
        record["metrics"] = {task: slim(entry) for task, entry in record["metrics"].items()}
        if not hospital:
            record["draws"] = {
                task: {name: _drawn(row, recipe.run.seed) for name, row in named.items()}
                for task, named in rows.items()
            }
    record["train_info"] = _slim_training(record["train_info"])
    record["meta_info"] = _slim_meta(record["meta_info"])
    if cell.configuration is not None:
        record = _primary_alone(record)
    return keep_result(path.parent.parent, recipe, record, name=cell.name)


def rescored(rows: Rows, before: Mapping[str, Any], draws: int, seed: int) -> dict[str, Any]:
    """The metrics of a result, computed from kept predictions alone.

    ``before`` says which tasks were seen, and which threshold development patients gave. Question-blindness is how an unseen
    task's scores go with those of seen tasks on the same patients: both are in the file.
    """
    metrics = {}
    for task, entry in before.items():
        named = rows.get(task)
        if not named:
            continue
        shuffled = shuffled_over_patients(named["injected"], seed) if "shuffled" in entry["rows"] else None
        named = {**named, "shuffled": shuffled} if shuffled else named
        unseen = not entry["seen"] and entry["kind"] == "classification"
        asked = {other: _by_patient(rows[other]["injected"]) for other in entry.get("blindness", {})} if unseen else {}
        scored: dict[str, Any] = {**score_rows(named, seen=entry["seen"], draws=draws, seed=seed)}
        if asked:
            scored["blindness"] = question_blindness(_by_patient(named["injected"]), asked)
        if "proxy" in entry:
            scored["proxy"] = entry["proxy"]
        tuned = entry["rows"]["injected"].get("tuned")
        if tuned and tuned.get("metrics"):
            again = score_at(named["injected"], tuned["threshold"], draws=draws, seed=seed)
            scored["rows"]["injected"]["tuned"] = {**tuned, "metrics": again}
        elif tuned:
            scored["rows"]["injected"]["tuned"] = tuned
        metrics[task] = slim(scored)
    return metrics


def slim(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A task's entry as a hundred files of it can be kept: every number of the injected model, the others' main ones."""
    rows = {}
    for name, row in entry["rows"].items():
        kept = (
            row["metrics"]
            if name == "injected"
            else {key: row["metrics"][key] for key in _MAIN if key in row["metrics"]}
        )
        rows[name] = {
            "n": row["n"],
            "patients": row["patients"],
            "primary": {**row["primary"], **_score(row["primary"])},
            "metrics": _scores(kept),
        }
        if name == "injected" and "counts" in row:
            rows[name]["counts"] = row["counts"]
        if name == "injected":
            parts = {part: row[part] for part in ("tuned", "closed", "open") if part in row}
            rows[name] |= {
                part: {**found, "metrics": _scores(found.get("metrics", {}))} for part, found in parts.items()
            }
    return {**entry, "rows": rows, "sites": {}, "differences": {}}


def _scores(named: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _score(value) for key, value in named.items()}


def _score(value: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: round(value[key], 5) if isinstance(value[key], float) else value[key]
        for key in ("value", "low", "high", "reason")
        if value[key] != ""
    }


def read_kept(path: Path) -> dict[str, Any]:
    """A kept cell's JSON.

    Raises:
        FedkimError: missing, or not JSON of a cell.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        hidden = record.get("meta_info", {}).get("suppressed", {}).get("tasks")
        about = record["run_info"]
        named = all(isinstance(about["cell"][key], str) for key in ("method", "variation", "backbone"))
        tomllib.loads(about["config"])
        plugins = about.get("environment", {}).get("plugins", {}).items()
        named = named and all(isinstance(digest, str) for _, digest in plugins)
        if not named or type(about["cell"]["seed"]) is not int or not (record["metrics"] or hidden):
            raise ValueError
    except FileNotFoundError:
        raise FedkimError(f"result {path}", found="no such file") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FedkimError(f"result {path}", found="unreadable", expected="a cell's result") from None
    return dict(record)


def recomputed(path: Path, *, intervals: bool = True) -> dict[str, Any]:
    """A kept synthetic cell with its metrics computed again from its predictions file.

    Without ``intervals`` only the values, which is all that tables over seeds show, in a hundredth of the time.
    """
    record = read_kept(path)
    rows = read_table(path.with_name(path.name.removesuffix(".json") + SUFFIX))
    seed, draws = int(record["run_info"]["seed"]), int(record["run_info"]["draws"])
    return {**record, "metrics": rescored(rows, record["metrics"], draws if intervals else 0, seed)}


def cell_record(cell: Cell) -> dict[str, Any]:
    """A cell as it stands in its result."""
    return {
        "method": cell.method,
        "variation": cell.variation,
        "backbone": cell.backbone,
        "seed": cell.seed,
        "configuration": cell.configuration,
    }


def _by_patient(row: Predictions) -> dict[str, float]:
    return dict(zip(row.patients, row.scores.tolist()))


def _drawn(row: Predictions, seed: int) -> list[float | None]:
    if len(set(row.primary().patients)) < MIN_PATIENTS:
        return [None] * DRAWS  # so few patients have no interval
    return [round(float(v), 5) if np.isfinite(v) else None for v in primary_draws(row, draws=DRAWS, seed=seed)]


def _slim_training(train: Mapping[str, Any]) -> dict[str, Any]:
    """The rounds as a hundred files of them can be kept: no step's loss but their mean, no route but the last round's."""
    rounds = []
    for entry in train["rounds"]:
        injection = {key: value for key, value in entry["injection"].items() if key not in ("loss", "routes")}
        if losses := entry["injection"].get("loss"):
            injection["loss"] = [round(float(np.mean(losses)), 5)]
        sites = {
            name: {key: site[key] for key in _OF_A_SITE if key in site}  # of a ward of few patients no loss
            for name, site in entry["sites"].items()
        }
        rounds.append({**entry, "sites": sites, "injection": injection})
    return {**train, "rounds": rounds}


def _slim_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What the data were, without what each site's hold: of synthetic patients the generator says it, of real ones nobody may."""
    sites = {name: {key: site[key] for key in ("patients", "samples")} for name, site in meta["sites"].items()}
    return {**{key: value for key, value in meta.items() if key != "statistics"}, "sites": sites}


def _primary_alone(record: Mapping[str, Any]) -> dict[str, Any]:
    """A cell of a choice: it needs one figure a task, and nobody compares its patients or asks how its rounds went."""
    metrics = {}
    for task, entry in record["metrics"].items():
        rows = {name: {key: row[key] for key in ("n", "patients", "primary")} for name, row in entry["rows"].items()}
        metrics[task] = {**entry, "rows": rows}
    train = {"rounds": [], "digest": record["train_info"]["digest"]}
    about = {key: value for key, value in record["meta_info"].items() if key != "sites"}
    return {"run_info": record["run_info"], "train_info": train, "metrics": metrics, "meta_info": about}
