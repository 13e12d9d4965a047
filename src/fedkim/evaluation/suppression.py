"""Small cells out of a result: what describes fewer than ten patients may describe one.

What leaves is named here, key by key. Whatever else a result holds, or comes to hold one day, stays until somebody has thought
about it and names it too.
"""

import tomllib
from collections.abc import Callable, Iterable, Mapping
from statistics import fmean
from typing import Any

from fedkim.data.smallest_cell import SMALLEST_CELL, disclose
from fedkim.errors import FedkimError
from fedkim.evaluation.metrics import THRESHOLD_METRICS
from fedkim.recipe import from_dict
from fedkim.recipe.recipe import without_place

Entry = Mapping[str, Any]

# what leaves of a task
_TASK = ("task", "seen", "kind", "split", "n", "patients", "primary_metric", "within", "proxy")
_ROW = ("n", "patients", "counts", "threshold")
_CELL = ("metric", "within", "n", "patients")
_SCORE = ("value", "low", "high", "reason", "skipped_draws")
METRICS = ("auroc", "auroc_within_folds", "auprc", "ece", *THRESHOLD_METRICS,
           "exact_match", "token_f1", "bleu_1", "rouge_1", "meteor_no_synonyms", "empty_rate", "unparsable_rate")  # fmt: skip
"""Names of the scores that leave."""

# what leaves of a run
_RUN = ("recipe", "method", "backbone", "config", "seed", "llm", "split", "test_revealed", "draws", "folds", "cell", "seconds",
        "seconds_by_part", "processor_seconds", "peak_memory_bytes", "environment", "versions")  # fmt: skip
_ROUND = ("round", "skipped", "seconds")
_INJECTION = ("entropy", "seconds")
_TRAFFIC = ("bytes_sent", "bytes_received", "digest")
_ROUTES = ("experts", "router", "tasks", "modalities", "entropy", "total_variation", "usage", "collapsed", "indistinct",
           "warnings", "nearest")  # fmt: skip
_ABOUT = ("synthetic", "data", "network", "external", "created")
_HELD = ("patients", "samples", "components")
_STATISTICS = ("patients", "tasks", "modalities", "features")  # their own small cells are hidden (data.statistics)


def suppressed(entry: Entry) -> dict[str, Any] | None:
    """A task's entry of a result without numbers from which a cell below the limit can be read off; None: nothing is left.

    A task goes whole where fewer patients, or fewer of the group inside which it is judged, answered it, or all with one answer; where
    the patients outside of that group are so few or of one answer too, for total less group gives them away.
    A site with fewer patients goes, and with it as many others as its number can't be told without (:func:`disclose`); one whose
    patients all gave one answer goes as well, never alone, and the others' scores have two places. Where an answer has fewer patients, its
    count goes with everything that says how frequent it is: the other counts, accuracies, the majority row. What remains are
    AUROCs to two places: one in full is a whole number over the product of both answers' counts, so it would give the smaller one
    away, as would the number of bootstrap draws that missed an answer. How many patients gave each answer is never told.
    Question-blindness has two places as well, and goes where it is that of fewer inputs.
    """
    rows: Mapping[str, Entry] = entry["rows"]
    if any(_too_few(row) for row in rows.values()):
        return None
    rare = any(_rare(part) for row in rows.values() for part in (row, row.get("group", {})))
    shown = {name for name in (*rows, *entry["differences"]) if not (rare and name.startswith("majority"))}
    row_of, score_of = (_ranks_only, _coarse) if rare else (_row, _score)
    return {
        **_named(entry, _TASK),
        "rows": {name: row_of(row) for name, row in rows.items() if name in shown},
        "differences": {name: score_of(value) for name, value in entry["differences"].items() if name in shown},
        "sites": _sites(entry.get("sites") or {}, rows["injected"]["patients"]),
        "blindness": _blindness(entry.get("blindness") or {}),
    }


def suppressed_result(result: Entry) -> dict[str, Any]:
    """A whole result without small cells; one that is so already comes back as it is.

    Tasks that are hidden are hidden in the rounds too, whose curves and losses keep two places: nobody says here over how many
    patients they are, and an area in full would. How many a site trained on goes; where it holds few patients, their number, loss
    and time go as well. Bootstrap draws go.
    """
    if "suppressed" in result["meta_info"]:
        return dict(result)
    found = {
        task: suppressed(entry)
        for task, entry in result["metrics"].items()
        if entry.get("patients", SMALLEST_CELL) >= SMALLEST_CELL
    }
    metrics = {task: entry for task, entry in found.items() if entry is not None}
    told, training = result["meta_info"], result["train_info"]
    few = {name for name, held in told.get("sites", {}).items() if _below(held.get("patients", SMALLEST_CELL))}
    hidden = set(result["metrics"]) - set(metrics)
    about = {
        **_named(told, _ABOUT),
        **({"sites": _holdings(told["sites"])} if "sites" in told else {}),
        **_each(told, "statistics", lambda table: _named(table, _STATISTICS)),
        "suppressed": {"smallest_cell": SMALLEST_CELL, "tasks": sorted(hidden)},
    }
    return {
        "run_info": {**_named(result["run_info"], _RUN), **_recipe(result["run_info"])},
        "train_info": {
            **_named(training, ("digest", "digests")),
            "rounds": [_round(entry, set(metrics), few) for entry in training["rounds"]],
        },
        "metrics": metrics,
        **({"routes": _named(result["routes"], _ROUTES)} if "routes" in result else {}),
        "meta_info": about,
    }


# a task -----------------------------------------------------------------------------------------------------------


def _rare(part: Entry) -> bool:
    """Whether an answer is of few patients; taken to be where an earlier version's result tells samples alone."""
    if part.get("counts") and "patients_by_answer" not in part:
        return True
    return any(_below(count) for count in part.get("patients_by_answer", {}).values())


def _too_few(row: Entry) -> bool:
    group = row.get("group") or row
    counts = group.get("counts", {}).values()
    if group.get("patients", SMALLEST_CELL) < SMALLEST_CELL or (bool(counts) and max(counts) == sum(counts)):
        return True
    if not row.get("group"):
        return False
    samples = _less(row.get("counts", {}), group.get("counts", {}))
    # somebody may have samples in the group and outside of it: at least so many patients are outside
    patients = _less(row.get("patients_by_answer", {}), group.get("patients_by_answer", {}))
    return 0 < row.get("patients", 0) - group.get("patients", 0) < SMALLEST_CELL or (
        sum(samples) > 0 and (max(samples) == sum(samples) or _below(min(patients, default=0)))
    )


def _less(total: Mapping[str, int], part: Mapping[str, int]) -> list[int]:
    return [count - part.get(answer, 0) for answer, count in total.items()]


def _row(row: Entry) -> dict[str, Any]:
    """A row, in full; a free-text one without its closed and open questions where either are of so few: together they are all."""
    shown = _named(row, _ROW)
    if "metrics" in row:
        shown["metrics"] = _scores(row["metrics"])
    if "primary" in row:
        shown["primary"] = _score(row["primary"])
    if "group" in row:
        shown["group"] = {"name": row["group"]["name"], **_row(row["group"])}
    if "tuned" in row:  # without the reason for none, which may be that nobody of development gave an answer
        shown["tuned"] = _part(row["tuned"], ("threshold", "source"))
    parts = [name for name in ("closed", "open") if name in row]
    if not any(row[name]["n"] and _below(row[name].get("patients", 0)) for name in parts):
        shown |= {name: _part(row[name], ("n",)) for name in parts}
    return shown


def _part(part: Entry, names: Iterable[str]) -> dict[str, Any]:
    return _named(part, names) | ({"metrics": _scores(part["metrics"])} if "metrics" in part else {})


def _ranks_only(row: Entry) -> dict[str, Any]:
    shown = _named(row, ("n", "patients", "threshold"))
    shown |= {"primary": _coarse(row["primary"])} if "primary" in row else {}
    shown["metrics"] = {name: _coarse(score) for name, score in row.get("metrics", {}).items() if name == "auroc"}
    return shown


def _scores(named: Mapping[str, Entry]) -> dict[str, Any]:
    return {name: _score(score) for name, score in named.items() if name in METRICS}


def _score(score: Entry) -> dict[str, Any]:
    return _named(score, (*_CELL, *_SCORE))


def _coarse(score: Entry) -> dict[str, Any]:
    """A score to two places, without what says how many draws or samples it is of."""
    places = {name: _two_places(score[name]) for name in ("value", "low", "high") if name in score}
    return {**_named(score, _CELL), **places, "reason": ""}


def _sites(sites: Entry, total: int) -> dict[str, Any]:
    """The sites' scores; none where few patients are at two of them, which the sites' numbers and the total would tell."""
    by_site = sites.get("by_site", {})
    if 0 < sum(entry["patients"] for entry in by_site.values()) - total < SMALLEST_CELL:
        by_site = {}
    told = disclose({name: entry["patients"] for name, entry in by_site.items()}).counts
    shown = [name for name, patients in told.items() if patients is not None]
    # a lone one left out because all its patients gave one answer would show which one, beside the row's counts
    one_answer = [name for name in shown if by_site[name].get("value") is None]
    if one_answer and len(by_site) - len(shown) + len(one_answer) == 1:
        others = [name for name in shown if name not in one_answer]
        one_answer += sorted(others, key=lambda name: (by_site[name]["patients"], name))[:1]
    kept = {name: _coarse(by_site[name]) for name in shown if name not in one_answer}
    known = {name: entry["value"] for name, entry in kept.items()}
    lowest = min(known, key=lambda name: known[name]) if known else None
    worst = None if lowest is None else {"site": lowest, **kept[lowest]}
    return {**_named(sites, ("metric",)), "by_site": kept, "worst": worst}


def _blindness(table: Mapping[str, Entry]) -> dict[str, Any]:
    return {
        task: {
            **_named(entry, ("n", "reason")),
            **{name: _two_places(entry[name]) for name in ("pearson", "spearman") if name in entry},
        }
        for task, entry in table.items()
        if not _below(entry["n"])
    }


# a run ------------------------------------------------------------------------------------------------------------


def _recipe(about: Entry) -> dict[str, Any]:
    """The recipe and its language model without folders of the machine; nothing of one that another version wrote."""
    if "config" not in about:
        return {}
    try:
        recipe = from_dict(tomllib.loads(about["config"])).without_places()
    except (FedkimError, ValueError):
        return {"config": "", "llm": without_place(str(about.get("llm", "")))}
    return {"config": recipe.to_toml(), "llm": recipe.llm.name}


def _round(entry: Entry, tasks: set[str], few: set[str]) -> dict[str, Any]:
    """A round: curves of the tasks that are shown, and of each site no example count, for differences of those are cells too."""
    curves = {
        kind: {task: _two_places(value) for task, value in entry[kind].items() if task in tasks}
        for kind in ("development", "development_small")
        if kind in entry
    }
    shown = {**_named(entry, _ROUND), **curves}
    if "sites" in entry:
        shown["sites"] = {name: _contribution(site, name in few) for name, site in entry["sites"].items()}
    shown |= _each(
        entry, "rejected", lambda reason: reason.partition(" ")[0]
    )  # its code alone: the rest may name a count
    if "injection" in entry:
        shown["injection"] = _injection(entry["injection"], tasks)
    return shown


def _contribution(site: Entry, few: bool) -> dict[str, Any]:
    shown = _named(site, _TRAFFIC)
    if not few:
        shown |= _named(site, ("seconds",)) | ({"loss": _two_places(site["loss"])} if "loss" in site else {})
    return shown


def _injection(injection: Entry, tasks: set[str]) -> dict[str, Any]:
    """The mean loss in the place of every step's, which is that of a handful of patients."""
    shown = _named(injection, _INJECTION)
    if losses := injection.get("loss"):
        shown["loss"] = [_two_places(fmean(losses))]
    if "tasks" in injection:
        shown["tasks"] = {task: _two_places(loss) for task, loss in injection["tasks"].items() if task in tasks}
    if "routes" in injection:
        shown["routes"] = _named(injection["routes"], _ROUTES)
    return shown


def _holdings(sites: Entry) -> dict[str, Any]:
    """Of few patients neither their number nor that of their samples, nor of as many other sites as these could be told by."""
    known = {name: held["patients"] for name, held in sites.items() if isinstance(held.get("patients"), int)}
    shown = {name for name, number in disclose(known).counts.items() if number is not None}
    shown |= {name for name, held in sites.items() if "patients" not in held}  # nobody says how many
    return {
        name: {
            key: value if key == "components" or name in shown else None for key, value in _named(held, _HELD).items()
        }
        for name, held in sites.items()
    }


# throughout -------------------------------------------------------------------------------------------------------


def _named(found: Entry, names: Iterable[str]) -> dict[str, Any]:
    return {name: found[name] for name in names if name in found}


def _each(found: Entry, key: str, shown: Callable[[Any], Any]) -> dict[str, Any]:
    return {key: {name: shown(value) for name, value in found[key].items()}} if key in found else {}


def _below(count: Any) -> bool:
    """Whether a count is below the limit, or was already hidden because it is."""
    return count is None or (isinstance(count, int) and count < SMALLEST_CELL)


def _two_places(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
