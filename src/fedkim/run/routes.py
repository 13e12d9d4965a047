"""The routes of a run, told after every round: a router that collapses is noticed while it happens."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedkim.injection import Injector
from fedkim.m3oe import routes_record
from fedkim.progress import Progress
from fedkim.store.run_store import RunStore
from fedkim.tasks import Task


def round_routes(injector: Injector, seen: Sequence[Task]) -> dict[str, Any]:
    """``{"entropy", "routes"}`` of the seen tasks for a round's history; nothing without experts.

    ``entropy`` is the tasks' mean; ``routes`` is :func:`fedkim.m3oe.routes_record`.
    """
    if not injector.experts:
        return {}
    record = routes_record([injector.route(task.name) for task in seen])
    return {"entropy": sum(record["entropy"].values()) / len(record["entropy"]), "routes": record}


def tell_routes(
    record: Mapping[str, Any],
    before: Mapping[str, Any] | None,
    *,
    round: int,
    store: RunStore | None,
    progress: Progress,
) -> None:
    """Events of one round's routes, and lines of warning where something is wrong that wasn't in the round before.

    Events: ``route`` a task (its entropy, the largest weight and whose it is), ``router`` for all of them (mean total
    variation, the smallest and the largest share of the work an expert has), ``collapsed`` a task whose route has
    collapsed, ``indistinct`` if the router tells no task from another.

    Args:
        record: the round's.
        before: the round before's, if there was one.
        round: its number.
        store: where events go.
        progress: told of warnings.
    """
    before = before or {}
    new = set(record["collapsed"]) - set(before.get("collapsed", ()))
    if new or (record["indistinct"] and not before.get("indistinct")):
        for warning in record["warnings"]:
            progress.line(f"warning: {warning}")
    if store is None:
        return
    for task, weights in record["tasks"].items():
        largest = max(weights)
        store.event(
            "route",
            round=round,
            task=task,
            entropy=record["entropy"][task],
            expert=weights.index(largest),
            value=largest,
        )
    usage = record["usage"]
    store.event("router", round=round, variation=record["total_variation"], low=min(usage), high=max(usage))
    for task in record["collapsed"]:
        store.event("collapsed", round=round, task=task)
    if record["indistinct"]:
        store.event("indistinct", round=round)
