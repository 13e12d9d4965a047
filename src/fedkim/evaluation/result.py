"""What a run's ``result.json`` holds, key by key: written by the run, read by tables and reports.

Everything is JSON: numbers that don't exist are null with a ``reason`` beside them, never NaN. Optional keys may be
missing; tables and reports then leave their part out.
"""

import math
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from fedkim.errors import FedkimError
from fedkim.tasks import Task


class ScoreResult(TypedDict):
    """A number with its 95 % interval by patient (``statistics.Score``)."""

    value: float | None
    low: float | None
    high: float | None
    reason: str
    """Why there is no value or no interval; empty otherwise."""
    skipped_draws: int


class RowResult(TypedDict, total=False):
    """One method on one task (``scoring.score_task``)."""

    n: int
    patients: int
    counts: dict[str, int]
    """Classification: samples by true answer."""
    patients_by_answer: dict[str, int]
    """Classification: patients by true answer; one with several samples may have given several. Of a hospital's patients it is
    never kept, nor in a matrix; results of earlier versions lack it."""
    threshold: float | None
    metrics: dict[str, ScoreResult]
    """auroc auprc ece accuracy balanced_accuracy precision recall f1 mcc (at 0.5) [auroc_within_folds], or
    exact_match token_f1 bleu_1 rouge_1 meteor_no_synonyms empty_rate."""
    tuned: dict[str, Any]
    """Seen tasks: ``{"threshold", "source", "metrics" | "reason"}``."""
    primary: dict[str, Any]
    """``{"metric", "within", "n", "patients", **ScoreResult}``: the score the task is judged by."""
    group: dict[str, Any]
    """The same scores inside the primary group (``Task.within``), with the group's ``name``."""
    closed: dict[str, Any]
    """Text: yes/no questions, ``{"n", "patients", "metrics": {accuracy, exact_match, unparsable_rate}}``."""
    open: dict[str, Any]
    """Text: all other questions, ``{"n", "patients", "metrics": {exact_match, token_f1}}``."""


class TaskResult(TypedDict):
    """One task with all its rows (``scoring.score_rows``)."""

    task: str
    seen: bool
    kind: str
    split: str
    n: int
    patients: int
    primary_metric: str
    within: str | None
    rows: dict[str, RowResult]
    """By row name, see ``tables.ROWS``: injected, base, blind, shuffled, proxy, small_before, small_after, majority …"""
    differences: dict[str, ScoreResult]
    """Injected minus each other row, paired, in the primary score and group."""
    sites: dict[str, Any]
    """``{"metric", "by_site": {site: {n, patients, **ScoreResult}}, "worst": {site, …} | None}``."""
    blindness: dict[str, dict]
    """Unseen tasks, by seen task: ``{"pearson", "spearman", "n", "reason"}``."""
    proxy: NotRequired[str]
    """The seen task whose head is the proxy row."""


class SiteRound(TypedDict, total=False):
    """What one site did in one round."""

    loss: float
    seconds: float
    bytes_sent: int
    """Of the weights that it gave; on a network less may have been sent (``fedkim status federation.toml`` counts that)."""
    bytes_received: int
    """Of the weights that it was given, likewise."""
    num_examples: dict[str, int]
    """By component, as in the Update."""
    digest: str
    """sha256 of what it sent."""


class RoundResult(TypedDict, total=False):
    """One committed round."""

    round: int
    sites: dict[str, SiteRound]
    """Only the sites that took part."""
    rejected: dict[str, str]
    """By site left out, the code and the reason."""
    skipped: bool
    """There only if too few good updates came: nothing was averaged or injected."""
    injection: dict[str, Any]
    """``{"loss": [per step], "tasks": mean loss by task, "entropy": mean entropy of α (1: even), "routes": RouteInfo of the seen tasks, "seconds" of the process that ended it}``;
    no entropy and no routes without experts."""
    development: dict[str, float | None]
    """AUROC of the injected model by seen task."""
    development_small: dict[str, float | None]
    """The same of the aggregated small models, before injection."""
    seconds: float


class TrainInfo(TypedDict, total=False):
    """How training went."""

    rounds: list[RoundResult]
    digest: str
    """sha256 of the final weights."""
    digests: list[str]
    """Of a run pooled over folds: one per fold; the rounds are then the first fold's."""


class RouteInfo(TypedDict, total=False):
    """The router's α of the reported round (``fedkim.m3oe.routes_record``)."""

    experts: int
    router: str
    """Digest of the router's weights; empty where there is none."""
    tasks: dict[str, list[float]]
    """α by task, ``experts`` numbers that sum to 1."""
    entropy: dict[str, float]
    """By task, divided by ln(experts): 1 is an even split, 0 a single expert."""
    total_variation: float
    """Mean over pairs of tasks of ½ Σ |α − α′|: 0 means that every task gets the same route."""
    modalities: dict[str, list[str]]
    usage: list[float]
    """Mean α of each expert over the seen tasks."""
    collapsed: list[str]
    """Seen tasks whose route lies on few experts."""
    indistinct: bool
    """Whether the seen tasks' routes hardly differ."""
    warnings: list[str]
    """The last two in words."""
    nearest: dict[str, dict[str, Any]]
    """By unseen task, the nearest seen one: ``{"task", "total_variation"}``."""


class Result(TypedDict, total=False):
    """A run's result.json."""

    run_info: dict[str, Any]
    """``recipe`` (name), ``method``, ``backbone``, ``config`` (the resolved recipe as TOML text), ``seed``, ``llm``, ``split``, ``draws``,
    ``seconds``, ``seconds_by_part``, ``peak_memory_bytes``, ``versions`` {package: version}, ``environment`` {code's digest, threads, dtype,
    instruction set …}, ``test_revealed`` (how often); ``folds`` of a pooled result, ``cell`` and ``processor_seconds`` of a matrix's."""
    train_info: TrainInfo
    metrics: dict[str, TaskResult]
    routes: RouteInfo
    meta_info: dict[str, Any]
    """``synthetic`` (bool), ``data`` (its name), ``created`` (ISO date), ``sites`` {patients, samples, components}, ``statistics``;
    ``network``, ``external`` and ``suppressed`` where they apply."""


def tuned_threshold(result: Mapping[str, Any] | None, task: Task) -> dict[str, Any]:
    """``{"value", "source"}`` of a yes/no task as a result has tuned it, or 0.5; empty for other tasks.

    Raises:
        FedkimError: the result holds something else there, so somebody has changed it.
    """
    if len(task.answers or ()) != 2:
        return {}
    entry = (result or {}).get("metrics", {}).get(task.name, {})
    chosen = entry.get("rows", {}).get("injected", {}).get("tuned") or {}
    value = chosen.get("threshold")
    if value is not None:
        if type(value) not in (int, float) or not 0 <= value <= math.nextafter(
            1, 2
        ):  # the last one calls nobody positive
            what, remedy = f"threshold of {task.name!r} in the stored result", "put back what was written"
            raise FedkimError(what, found="something else", expected="a number from 0 to 1", remedy=remedy)
        return {"value": float(value), "source": "tuned on development patients"}
    return {"value": 0.5, "source": "0.5, not tuned"}
