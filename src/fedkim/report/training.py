"""The page's parts about training: losses and development scores by round, routes, bytes."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from fedkim.report.drawing import COLOURS, Series, line_chart, stacked_bars
from fedkim.report.words import figure, size

_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def losses(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Mean loss of each site by round, and the injection's loss by server step with its mean by round."""
    names = _site_names(rounds)
    lines = [
        Series(
            name=name,
            points=[(r["round"], r.get("sites", {}).get(name, {}).get("loss")) for r in rounds],
            colour=i % COLOURS,
            style="dashed" if i >= COLOURS else "",
        )
        for i, name in enumerate(names)
    ]
    site_plot = line_chart(lines, x_label="round", y_label="loss") if lines else Markup("")
    steps: list[tuple[float, float | None]] = []
    means: list[tuple[float, float | None]] = []
    position = 0
    for r in rounds:
        loss = _as_list(r.get("injection", {}).get("loss"))
        if loss:
            means.append((position + len(loss) / 2, sum(loss) / len(loss)))
        steps += [(position + i + 1, value) for i, value in enumerate(loss)]
        position += len(loss)
    server_plot = Markup("")
    if steps:
        thin = max(1, len(steps) // 1500)  # more points than pixels only make the page heavy
        server_plot = line_chart(
            [
                Series(name="each step", points=steps[::thin], colour=1, style="faint"),
                Series(name="mean of a round", points=means, colour=1),
            ],
            x_label="server step",
            y_label="loss",
        )
    if not site_plot and not server_plot:
        return None
    return {
        "sites": site_plot,
        "server": server_plot,
        "legend": [{"name": name, "colour": i % COLOURS} for i, name in enumerate(names)],
        "table": [_loss_line(r, names) for r in rounds],
        "names": names,
    }


def development(rounds: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Development AUROC by round, a small plot a task: injected, and the small models where they were scored."""
    kinds = ("development", "development_small")
    tasks = list(dict.fromkeys(task for kind in kinds for r in rounds for task in r.get(kind, {})))
    plots = []
    values = [v for r in rounds for kind in kinds for v in r.get(kind, {}).values()]
    lowest = min((value for value in values if value is not None), default=0.5)
    start = min(0.4, int(lowest * 10) / 10)
    for task in tasks:
        injected = [(r["round"], r.get("development", {}).get(task)) for r in rounds]
        small = [(r["round"], r.get("development_small", {}).get(task)) for r in rounds]
        lines = [Series(name="injected", points=injected, colour=0)]
        if any(value is not None for _, value in small):
            lines.insert(0, Series(name="small model", points=small, colour=2, style="dashed"))
        plot = line_chart(
            lines, x_label="round", y_label="AUROC", width=210, height=150, y_range=(start, 1.0), baseline=0.5
        )
        last = next((value for _, value in reversed(injected) if value is not None), None)
        plots.append({"task": task, "plot": plot, "last": "" if last is None else figure(last)})
    return plots


def routing(routes: Mapping[str, Any]) -> dict[str, Any] | None:
    """α by task and expert as a heat map, with each task's entropy, the experts' shares of the work and what is wrong.

    An unseen task names the seen one whose route is nearest, with the total variation between the two. The shade is fixed, an even share light and three times that darkest, so that pages of two runs compare.
    """
    table = routes.get("tasks") or {}
    if not table:
        return None
    experts = len(next(iter(table.values())))
    entropy, nearest = routes.get("entropy", {}), routes.get("nearest", {})
    lines = [
        {
            "task": task,
            "cells": _heat(weights),
            "entropy": figure(entropy.get(task)),
            "nearest": f"{nearest[task]['task']} ({figure(nearest[task]['total_variation'])})"
            if task in nearest
            else "",
        }
        for task, weights in table.items()
    ]
    return {
        "experts": experts,
        "lines": lines,
        "usage": _heat(routes.get("usage", [])),
        "nearest": bool(nearest),
        "warnings": list(routes.get("warnings", [])),
        "uniform": figure(1 / experts),
        "variation": figure(routes.get("total_variation"), 4),
    }


def _heat(weights: Sequence[float]) -> list[dict[str, str]]:
    return [{"text": figure(w), "shade": f"{0.85 * min(1.0, w * len(weights) / 3):.3f}"} for w in weights]


def communication(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Bytes that each site sent and received: bars by round, totals by site."""
    names = _site_names(rounds)
    sent = {name: [r.get("sites", {}).get(name, {}).get("bytes_sent", 0) for r in rounds] for name in names}
    got = {name: [r.get("sites", {}).get(name, {}).get("bytes_received", 0) for r in rounds] for name in names}
    if not any(sum(values) for values in (*sent.values(), *got.values())):
        return None
    tallest = max(sum(values[i] for values in sent.values()) for i in range(len(rounds)))
    unit = next((unit for unit, scale in reversed(_UNITS.items()) if tallest >= scale), "B")
    layers = [(name, [value / _UNITS[unit] for value in sent[name]]) for name in names]
    lines = []
    for name in names:
        took_part = [r for r in rounds if name in r.get("sites", {})]
        lines.append(
            {
                "site": name,
                "rounds": len(took_part),
                "sent": size(sum(sent[name]) / max(1, len(took_part))),
                "received": size(sum(got[name]) / max(1, len(took_part))),
                "total": size(sum(sent[name]) + sum(got[name])),
            }
        )
    counts = {name: _last_counts(rounds, name) for name in names}
    parts = sorted({part for count in counts.values() for part in count})
    total = sum(map(sum, sent.values())) + sum(map(sum, got.values()))
    return {
        "plot": stacked_bars([str(r["round"]) for r in rounds], layers, x_label="round", unit=unit),
        "unit": unit,
        "legend": [{"name": name, "colour": i % COLOURS} for i, name in enumerate(names)],
        "lines": lines,
        "total": size(total),
        "by_round": [
            {"round": r["round"], "cells": [size(sent[name][i]) if sent[name][i] else "" for name in names]}
            for i, r in enumerate(rounds)
        ],
        "names": names,
        "examples": [{"part": part, "cells": [counts[name].get(part, "") for name in names]} for part in parts],
    }


def _last_counts(rounds: Sequence[Mapping[str, Any]], site: str) -> Mapping[str, int]:
    """Examples by component of the last round in which a site took part."""
    counts = [r["sites"][site].get("num_examples", {}) for r in rounds if site in r.get("sites", {})]
    return counts[-1] if counts else {}


def _loss_line(r: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    loss = _as_list(r.get("injection", {}).get("loss"))
    return {
        "round": r["round"],
        "sites": [figure(r.get("sites", {}).get(name, {}).get("loss")) for name in names],
        "server": figure(sum(loss) / len(loss) if loss else None),
        "entropy": figure(r.get("injection", {}).get("entropy")),
    }


def _site_names(rounds: Sequence[Mapping[str, Any]]) -> list[str]:
    names = {name for r in rounds for name in r.get("sites", {})}
    return sorted(names, key=lambda name: (len(name), name))  # site-2 before site-10


def _as_list(loss: Any) -> list[float]:
    return list(loss) if isinstance(loss, list | tuple) else [] if loss is None else [loss]
