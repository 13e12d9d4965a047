"""The page about what sites hold: patients by answer, what differs between sites, and the histograms behind it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fedkim.data.statistics import NONE, Cells, SiteStatistics, compare
from fedkim.report import wording
from fedkim.report.drawing import Series, line_chart, stacked_bars
from fedkim.report.template import filled, write_page
from fedkim.report.words import percent, shown_count

SHOWN = 12
"""Features whose histograms are drawn: those in which sites differ most."""


def write_statistics(
    sites: Mapping[str, SiteStatistics], path: Path, *, title: str, k: int, synthetic: bool = False
) -> Path:
    """One HTML file that opens offline.

    Raises:
        FedkimError: the file can't be written.
    """
    return write_page(path, render_statistics(sites, title=title, k=k, synthetic=synthetic))


def render_statistics(sites: Mapping[str, SiteStatistics], *, title: str, k: int, synthetic: bool = False) -> str:
    """The page as text; it refers to nothing outside itself."""
    return filled(
        "statistics.html.j2",
        title=title,
        k=k,
        synthetic=wording.SYNTHETIC if synthetic else "",
        held=held(sites),
    )


def held(sites: Mapping[str, SiteStatistics]) -> dict[str, Any]:
    """What ``held.html.j2`` draws: patients, answers and inputs of the sites, and what differs between them."""
    compared = compare(sites)
    return {
        "sites": [{"name": name, "patients": shown_count(site.patients)} for name, site in sites.items()],
        "modalities": [
            {"name": name, "cells": [shown_count(site.modalities[name].counts["with"]) for site in sites.values()]}
            for name in next(iter(sites.values())).modalities
        ],
        "tasks": [_task(name, sites, compared["tasks"][name]) for name in compared["tasks"]],
        "features": _features(sites, compared["features"]),
    }


def _task(name: str, sites: Mapping[str, SiteStatistics], compared: Mapping[str, Any]) -> dict[str, Any]:
    tables = {site: found.tasks[name] for site, found in sites.items()}
    answers = sorted({answer for cells in tables.values() for answer in cells.counts if answer != NONE})
    layers = [(answer, [float(cells.counts.get(answer) or 0) for cells in tables.values()]) for answer in answers]
    return {
        "name": name,
        "range": percent(compared["range"]),
        "prevalence": [percent(value) for value in compared["prevalence"].values()],
        "chart": stacked_bars(list(tables), layers, x_label="site", unit="patients"),
        "hidden": sum(count is None for cells in tables.values() for count in cells.counts.values()),
    }


def _features(sites: Mapping[str, SiteStatistics], compared: Mapping[str, Any]) -> list[dict[str, Any]]:
    def difference(name: str) -> float:
        return -(compared[name]["largest_mean_difference"] or 0.0)

    rows = []
    for place, name in enumerate(sorted(compared, key=lambda name: (difference(name), name))):
        found = {site: statistics.features[name] for site, statistics in sites.items() if name in statistics.features}
        lines = [
            Series(name=site, points=_points(feature.histogram), colour=list(sites).index(site))
            for site, feature in found.items()
        ]
        rows.append(
            {
                "name": name,
                "mean_difference": _two(compared[name]["largest_mean_difference"]),
                "total_variation": _two(compared[name]["largest_total_variation"]),
                "chart": line_chart(lines, x_label=f"bin of {name}", y_label="share of patients")
                if place < SHOWN
                else Markup(""),
            }
        )
    return rows


def _points(cells: Cells) -> list[tuple[float, float | None]]:
    """Shares among the shown cells; a hidden one is a gap."""
    counts = {name: count for name, count in cells.counts.items() if name != NONE}
    total = sum(count or 0 for count in counts.values())
    return [
        (float(place), count / total if count is not None and total else None)
        for place, count in enumerate(counts.values())
    ]


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
