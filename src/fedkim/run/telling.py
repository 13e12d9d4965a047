"""What is told of a finished round: a line for whoever watches, and events."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedkim.aggregation import short_of_sites
from fedkim.federation import Round
from fedkim.progress import Progress
from fedkim.run.world import World
from fedkim.store.run_store import RunStore


def tell_round(
    world: World, finished: Round, entry: Mapping[str, Any], *, store: RunStore | None, progress: Progress
) -> None:
    """Sites and losses, who was left out and why, and components that too few sites sent for the robust rule.

    Args:
        world: the run's parts.
        finished: the round.
        entry: as the history remembers it.
        store: where events go.
        progress: told of the lines.
    """
    number, total = finished.number, world.recipe.federation.rounds
    head, tail = f"round {number}/{total}: {len(finished.contributions)} sites", f"{entry['seconds']:.0f} s"
    losses = entry["injection"].get("loss", [])
    if finished.skipped:
        progress.line(f"{head}, below the quorum of {world.quorum}: skipped; {tail}")
    else:
        sites = np.mean([contribution.metrics["loss"] for contribution in finished.contributions])
        injected = f"injection loss {np.mean(losses[-5:]):.3f}" if losses else "no injection yet"
        progress.line(f"{head}, loss {sites:.3f}; {injected}; {tail}")
    for rejection in finished.rejections:
        progress.line(f"round {number}: {rejection.site} left out, {rejection.code}: {rejection.reason}")
    if store:
        _events(finished, entry, losses, store)
    if not finished.skipped:
        _tell_short(world, finished, store=store, progress=progress)


def _events(finished: Round, entry: Mapping[str, Any], losses: list[float], store: RunStore) -> None:
    number = finished.number
    for name, site in entry["sites"].items():
        store.event("update", round=number, site=name, loss=site["loss"], bytes=site["bytes_sent"])
    for rejection in finished.rejections:
        store.event("rejected", round=number, site=rejection.site, reason=rejection.code)
    if finished.skipped:
        store.event("skipped", round=number, accepted=len(finished.contributions))
    elif losses:
        store.event("injected", round=number, loss=float(np.mean(losses)), seconds=entry["seconds"])


def _tell_short(world: World, finished: Round, *, store: RunStore | None, progress: Progress) -> None:
    """Components that too few sites sent for the robust rule, and what became of them."""
    algorithm = world.algorithm
    sent = [contribution.components for contribution in finished.contributions]
    for name, number in short_of_sites(algorithm, sent).items():
        became = "averaged unguarded" if algorithm.too_few == "mean" else "kept as broadcast"
        progress.line(f"{name}: {became}; {number} of the {algorithm.least} sites that {algorithm.name!r} needs")
        if store:
            store.event("short_of_sites", round=finished.number, component=name, sites=number, reason=algorithm.too_few)
