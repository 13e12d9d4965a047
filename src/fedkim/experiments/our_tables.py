"""Our tables: the ρ-curve with its negative control, heterogeneity, bytes against score, forgetting."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from fedkim.errors import FedkimError
from fedkim.experiments.methods import FEDKIM, MATCHED, PLUS, title_of
from fedkim.experiments.scores import SUMMARIES, CellScores, Scores, common, less, mean_of, processor
from fedkim.experiments.table import DASH, Table, difference, shown
from fedkim.report.words import figure, interval

LINKED = (FEDKIM, MATCHED, PLUS)
"""Methods of the ρ-curve."""
RHO = "rho-"
"""Variations of the ρ-curve are named ``rho-0``, ``rho-0.5``, …"""
FORGOTTEN = -3.0
"""Points of PubMedQA that the whole interval of the change should lie above."""


def rho_of(scores: Scores, variation: str) -> float | None:
    """ρ of a variation's cells, from their settings."""
    for cell in scores.cells:
        if cell.variation == variation:
            data = cell.settings["data"]
            return float(data["rho"]) if data["source"] == "phantom" else None
    return None


def rho_points(scores: Scores, method: str, row: str = "injected") -> dict[float, dict[int, float]]:
    """By ρ, a method's mean unseen AUROC by seed."""
    points = {
        rho: scores.by_seed(method, "unseen", row=row, variation=variation)
        for rho, variation in rho_variations(scores).items()
    }
    return {rho: values for rho, values in sorted(points.items()) if values}


def rho_variations(scores: Scores) -> dict[float, str]:
    """By ρ, the variation that has it; the main setting's is the empty one."""
    found = {}
    for variation in dict.fromkeys(cell.variation for cell in scores.cells):
        rho = rho_of(scores, variation)
        if rho is not None and (variation == "" or variation.startswith(RHO)):
            found[rho] = variation
    return found


def rho_table(scores: Scores) -> Table:
    """Unseen AUROC by ρ; ρ = 0 is the negative control."""
    curves = [(title_of(method), rho_points(scores, method)) for method in LINKED]
    curves.append(("best seen head (proxy)", rho_points(scores, "fedkim", row="proxy")))
    rhos = sorted({rho for _, points in curves for rho in points})
    most = max((len(by_seed) for _, points in curves for by_seed in points.values()), default=0)

    def mean(by_seed: Mapping[int, float]) -> str:
        return shown(by_seed) + (f" (seeds: {len(by_seed)})" if 0 < len(by_seed) < most else "")

    rows = [[name, *(mean(points.get(rho, {})) for rho in rhos)] for name, points in curves if points]
    return Table(
        title="Transfer: unseen tasks by ρ",
        note="Mean AUROC of unseen classification. "
        "At ρ = 0 no label can transfer: what lies above 50 there is an error of the experiment, or a finding whose "
        "picture disturbs the reader of another; the best seen head shows how much of that there is.",
        header=["method", *(f"ρ = {rho:g}" for rho in rhos)],
        rows=rows if len(rhos) > 1 else [],
    )


_VARIED = (
    ("seen", "injected", SUMMARIES["seen"]),
    ("seen", "small_before", "their small models"),
    ("unseen", "injected", SUMMARIES["unseen"]),
    ("generation", "injected", SUMMARIES["generation"]),
)


def varied(scores: Scores, title: str, variations: Sequence[str]) -> Table:
    """The main setting beside variations of it, on the variations' seeds."""
    rows = []
    for variation in variations:
        for method, own, backbone in scores.groups():
            if own != variation:
                continue
            there = scores.group(method, variation=variation, backbone=backbone)
            cells = [title_of(method), variation, str(len(there))]
            for which, row, _ in _VARIED:
                tasks = scores.tasks(which)  # a variation's own further tasks would be another mean
                here = scores.by_seed(method, which, row=row, variation=variation, backbone=backbone, tasks=tasks)
                main = scores.by_seed(method, which, row=row, backbone=backbone, tasks=tasks)
                cells += [shown(here), difference(less(here, main))]
            beside = scores.group(method, backbone=backbone)
            seeds, asked = common(there, beside) or sorted(there), scores.tasks("seen")
            rows.append([*cells, *(_mean_blindness(side, seeds, asked) for side in (there, beside))])
    header = ["method", "variation", "seeds"]
    for _, _, name in _VARIED:
        header += [name, "− main"]
    return Table(
        title=title,
        note="Means over the tasks of the main setting; differences to it are paired by seed [95 % t-interval]. Blindness, on seeds that both have: mean over unseen tasks of the largest correlation with a question that the main setting trains.",
        header=[*header, "blindness", "blindness, main"],
        rows=rows,
    )


def communication(scores: Scores) -> Table:
    """Bytes that sites send against what they buy, with the time of a cell."""
    rows = []
    for method, variation, backbone in scores.groups():
        if variation:
            continue
        groups = scores.group(method, backbone=backbone)
        cells = [cell for group in groups.values() for cell in group]
        if not cells:
            continue
        rows.append(
            [
                title_of(method),
                backbone,
                str(len(groups)),
                f"{fmean(cell.bytes_sent for cell in cells) / 2**20:.1f}",
                str(sum(cell.refused for cell in cells)),
                shown(scores.by_seed(method, "seen", backbone=backbone)),
                _minutes(cells),
            ]
        )
    return Table(
        title="Bytes against score",
        note=(
            "MiB that all sites send in all rounds, none where another stands in for them; updates that the gate refused in all cells; "
            "processor minutes of a run on one thread, by kind of processor where there are several, of runs that were not cut off."
        ),
        header=["method", "backbone", "seeds", "MiB sent", "refused", "seen, AUROC", "minutes"],
        rows=rows,
    )


def _minutes(cells: Sequence[CellScores]) -> str:
    """Processor minutes of a cell, a mean for each kind of processor: what one takes three times as long for isn't averaged."""
    by_kind: dict[str, list[float]] = {}
    for cell in cells:
        info = cell.record["run_info"]
        if "rounds before resuming" in info.get("seconds_by_part", {}):
            continue  # the time of its last process alone is known
        by_kind.setdefault(processor(info), []).append(info.get("processor_seconds", 0.0) / 60)
    return ", ".join(f"{fmean(minutes):.1f} ({kind})" for kind, minutes in sorted(by_kind.items())) or DASH


def forgetting_tables(folder: Path) -> list[Table]:
    """What runs forgot, from ``<folder>/forgetting/*.json``; nothing where none has been measured."""
    rows = []
    for path in sorted((folder / "forgetting").glob("*.json")):
        try:
            rows.append([path.stem, *_forgotten(json.loads(path.read_text(encoding="utf-8")))])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            found, expected = "unreadable", "what `fedkim forgetting --results` wrote"
            raise FedkimError(f"file {path}", found=found, expected=expected) from None
    header = ["run", "language model", "PubMedQA: majority", "before", "after", "difference"]
    table = Table(
        title="Does it forget?",
        note=(
            "Accuracy on PubMedQA's official test questions and perplexity on the other abstracts, with 95 % intervals by article: they say "
            "how sure one training's figure is. Wanted: the difference's interval above −3 points. Below the majority's accuracy a change says "
            "which answer the model leans to rather than what it knows."
        ),
        header=[*header, "perplexity, before", "after", "ratio", "wanted"],
        rows=rows,
    )
    return [table] if rows else []


def _mean_blindness(groups: Mapping[int, Sequence[CellScores]], seeds: Sequence[int], asked: Sequence[str]) -> str:
    cells = [cell for seed in seeds for cell in groups.get(seed, ())]
    found = [abs(worst[1]) for cell in cells for task in cell.tasks("unseen") if (worst := cell.blindness(task, asked))]
    value = mean_of(found)
    return DASH if value is None else f"{value:.2f}"


def _forgotten(record: Mapping[str, Any]) -> list[str]:
    majority = record.get("pubmedqa", {}).get("majority")
    cells = [str(record["llm"]), DASH if majority is None else figure(majority, 3)]
    for part, change in (("pubmedqa", "difference"), ("perplexity", "ratio")):
        cells += [interval(record.get(part, {}).get(key)) for key in ("base", "injected", change)]
    low = record.get("pubmedqa", {}).get("difference", {}).get("low")
    return [*cells, DASH if low is None else "reached" if 100 * low > FORGOTTEN else "missed"]
