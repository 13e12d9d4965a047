"""A run's own predictions on disk, for pooling over folds and for paired comparisons; they never leave the run's folder."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedkim.errors import FedkimError
from fedkim.evaluation.predictions import PER_SAMPLE, Predictions, Rows
from fedkim.store.files import write_text


def write_predictions(path: Path, rows: Rows, *, keep_ids: bool = True) -> None:
    """Write every row as JSON, atomically; not ``keep_ids``: samples and patients as numbers, counted through the file."""
    if not keep_ids:
        rows = _numbered(rows)
    record = {task: {name: _as_json(row) for name, row in named.items()} for task, named in rows.items()}
    write_text(path, json.dumps(record) + "\n")


def read_predictions(path: Path) -> Rows:
    """The inverse of :func:`write_predictions`; bits of the probabilities included.

    Raises:
        FedkimError: missing or unreadable.
    """
    try:
        record = json.loads(path.read_bytes())
        return {task: {name: _from_json(row) for name, row in named.items()} for task, named in record.items()}
    except FileNotFoundError:
        raise FedkimError(f"predictions {path}", found="no such file", remedy="run the recipe to its end") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FedkimError(f"predictions {path}", found="unreadable", expected="JSON written by fedkim") from None


def _numbered(rows: Rows) -> Rows:
    """The same rows with numbers for ids: who is the same patient still shows, who it is doesn't."""
    samples: dict[str, str] = {}
    patients: dict[str, str] = {}
    return {
        task: {
            name: replace(
                row,
                samples=tuple(samples.setdefault(one, f"sample-{len(samples) + 1}") for one in row.samples),
                patients=tuple(patients.setdefault(one, f"patient-{len(patients) + 1}") for one in row.patients),
            )
            for name, row in named.items()
        }
        for task, named in rows.items()
    }


def _as_json(row: Predictions) -> dict[str, Any]:
    return {
        "task": row.task,
        "split": row.split,
        "answers": row.answers,
        "within": row.within,
        "probabilities": None if row.probabilities is None else row.probabilities.tolist(),
        **{name: getattr(row, name) for name in PER_SAMPLE},
        "groups": [sorted(group) for group in row.groups],
    }


def _from_json(record: dict[str, Any]) -> Predictions:
    columns: dict[str, Any] = {name: None if record[name] is None else tuple(record[name]) for name in PER_SAMPLE}
    columns["groups"] = tuple(frozenset(group) for group in record["groups"])
    return Predictions(
        task=record["task"],
        split=record["split"],
        answers=None if record["answers"] is None else tuple(record["answers"]),
        within=record["within"],
        probabilities=None if record["probabilities"] is None else np.array(record["probabilities"]),
        **columns,
    )
