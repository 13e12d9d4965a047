"""The report page: gathers its parts from the result, fills the template, writes the file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedkim.data.statistics import SiteStatistics
from fedkim.report import scores, training, wording
from fedkim.report.forest import forest
from fedkim.report.statistics import held
from fedkim.report.template import filled, write_page
from fedkim.report.words import duration, figure, size


def write(result: Mapping[str, Any], path: Path) -> Path:
    """Render the page and put it in place at once: a reader never meets half a file."""
    return write_page(path, render(result))


def render(result: Mapping[str, Any]) -> str:
    """The page as text; it refers to nothing outside itself."""
    return filled("page.html.j2", **_parts(result))


def _parts(result: Mapping[str, Any]) -> dict[str, Any]:
    run, meta = result.get("run_info", {}), result.get("meta_info", {})
    train = result.get("train_info", {})
    rounds = train.get("rounds", [])
    entries = list(result.get("metrics", {}).values())
    routes = result.get("routes", {})
    return {
        "title": f"{run.get('recipe', 'run')}: {run.get('method', 'FEDKIM')}",
        "synthetic": wording.SYNTHETIC if meta.get("synthetic") else "",
        "privacy": wording.PRIVACY,
        "not_a_device": wording.NOT_A_DEVICE,
        "about": " · ".join(str(part) for part in (meta.get("data"), meta.get("created")) if part),
        "cards": _cards(run, train, entries, routes),
        "findings": scores.findings(entries),
        "forests": [
            {"title": title, "note": note, **forest([e for e in entries if e["seen"] == seen], "classification")}
            for seen, title, note in (
                (True, "Seen tasks", "Trained on, at the sites and in the injection; scored on patients kept apart."),
                (False, "Unseen tasks, zero-shot", "No pair, label, threshold or prompt of theirs was used before."),
            )
            if any(e["seen"] == seen and e["kind"] == "classification" for e in entries)
        ],
        "written": forest(entries, "text") if any(e["kind"] == "text" for e in entries) else None,
        "differences": scores.differences(entries),
        "sites": scores.sites(entries),
        "blindness": scores.blindness(entries),
        "every": [scores.every_number(entry) for entry in entries],
        "losses": training.losses(rounds),
        "development": training.development(rounds),
        "routing": training.routing(routes),
        "communication": training.communication(rounds),
        "held": held({name: SiteStatistics.from_dict(site) for name, site in meta["statistics"].items()})
        if meta.get("statistics")
        else None,
        "config": _text(run.get("config", "")),
        "environment": [(key, _text(value)) for key, value in run.items() if key != "config"],
        "digests": train.get("digests") or [digest for digest in [train.get("digest")] if digest],
        "splits": sorted({str(entry["split"]) for entry in entries}),
        "folds": len(run.get("folds", [])),
        "draws": f"{run['draws']:,}" if "draws" in run else "many",
    }


def _cards(
    run: Mapping[str, Any], train: Mapping[str, Any], entries: list[Mapping[str, Any]], routes: Mapping[str, Any]
) -> list[tuple[str, str]]:
    rounds = train.get("rounds", [])
    seen = sum(entry["seen"] for entry in entries)
    cards = [("seen + unseen tasks", f"{seen} + {len(entries) - seen}")]
    site_names = {name for r in rounds for name in r.get("sites", {})}
    if run.get("folds"):
        cards.append(("folds, pooled", str(len(run["folds"]))))
    if rounds:
        cards += [("sites", str(len(site_names))), ("rounds", str(len(rounds)))]
    if routes.get("experts"):
        cards.append(("experts", str(routes["experts"])))
    if run.get("llm"):
        cards.append(("frozen LLM", str(run["llm"])))
    if run.get("seconds") is not None:
        cards.append(("wall-clock time", duration(run["seconds"])))
    if run.get("peak_memory_bytes"):
        cards.append(("peak memory", size(run["peak_memory_bytes"])))
    if run.get("test_revealed") is not None:
        cards.append(("test split revealed", f"{run['test_revealed']} ×"))
    return cards


def _text(value: Any) -> str:
    """A value of the run's information: text as it is, numbers short, tables as indented JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return figure(value)
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True, default=str)
