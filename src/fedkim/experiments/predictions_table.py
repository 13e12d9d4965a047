"""Predictions of a synthetic run as one small parquet file, from which every table can be computed again.

::

    task            split  patient     sample  template  truth  injected  small_before  proxy  base  …   (text rows: generated)
    lung_opacity    test   3735928559  0       ""        Yes    0.6875    0.71          –      0.5
    vqa_rad         test   1542136771  0       side      left   –         –             –      –         injected_text: left

``patient`` is a hash of the patient's name (which holds the seed), ``sample`` counts a patient's questions of a task. A probability is that of the
last answer, as a 16-bit step of its log-odds: :func:`quantised` is what the scores of a result are computed from, so that
they and the file agree exactly. Only synthetic patients are ever written here.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedkim.errors import FedkimError, install_extra
from fedkim.evaluation.predictions import Predictions, Rows
from fedkim.store.files import write_atomically

LARGEST = 60_000
"""Bytes a file may have."""

_SPAN = 16.0
"""Log-odds beyond ±16 (a chance of one in nine million) are cut."""
_STEPS = 2**16 - 2
_NONE = 2**16 - 1
_ANSWERS = ("No", "Yes")
_LEFT_OUT = ("shuffled", "majority", "majority_per_template")
"""Rows that follow from the others."""


def quantised(rows: Rows) -> Rows:
    """The rows as the file will give them back: hashed patients, probabilities on 16-bit steps of log-odds."""
    return _unpacked(_packed(rows))


def write_table(path: Path, rows: Rows) -> int:
    """Write the rows and give the file's bytes.

    Raises:
        FedkimError: pyarrow is missing, a task with more than two answers, a file above 60 kB.
    """
    arrow, parquet = _pyarrow()
    columns = _packed(rows)
    table = arrow.table({name: arrow.array(values, kind) for name, (values, kind) in _typed(columns, arrow).items()})
    scores = [name for name in table.column_names if table.schema.field(name).type == arrow.uint16()]
    write_atomically(
        path,
        lambda draft: parquet.write_table(
            table,
            draft,
            compression="zstd",
            compression_level=19,
            write_statistics=False,
            store_schema=False,
            use_dictionary=[name for name in table.column_names if name not in scores],
            use_byte_stream_split=scores,  # the upper bytes of scores are much alike
        ),
    )
    size = path.stat().st_size
    if size > LARGEST:
        path.unlink()
        raise FedkimError(
            f"predictions {path.name}", found=f"{size:,} bytes", expected=f"{LARGEST:,}", remedy="fewer test patients"
        )
    return size


def read_table(path: Path) -> Rows:
    """The inverse of :func:`write_table`.

    Raises:
        FedkimError: pyarrow is missing, no such file, or not one of ours.
    """
    _, parquet = _pyarrow()
    if not path.is_file():
        raise FedkimError(f"predictions {path}", found="no such file")
    try:
        return _unpacked(parquet.read_table(path).to_pydict())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FedkimError(f"predictions {path}", found=f"unreadable ({type(error).__name__})") from None


def _packed(rows: Rows) -> dict[str, list[Any]]:
    names = sorted({name for named in rows.values() for name in named} - set(_LEFT_OUT))
    columns: dict[str, list[Any]] = {key: [] for key in ("task", "split", "patient", "sample", "template", "truth")}
    columns |= {name: [] for name in names} | {f"{name}_text": [] for name in names}
    for task, named in rows.items():
        if not named:
            continue
        first = named["injected"]
        if first.answers not in (None, _ANSWERS):
            raise FedkimError(
                f"predictions of task {task!r}", found="other answers", expected="No and Yes, or free text"
            )
        seen: dict[int, int] = {}
        for row, patient in enumerate(first.patients):
            hashed = _hashed(patient)
            seen[hashed] = seen.get(hashed, -1) + 1
            columns["task"].append(task)
            columns["split"].append(first.split)
            columns["patient"].append(hashed)
            columns["sample"].append(seen[hashed])
            columns["template"].append(first.templates[row] if first.templates else "")
            columns["truth"].append(first.truth[row])
            for name in names:
                here = named.get(name)
                score = None if here is None or here.probabilities is None else float(here.probabilities[row, -1])
                columns[name].append(_NONE if score is None else _step(score))
                columns[f"{name}_text"].append(None if here is None or here.generated is None else here.generated[row])
    return {
        key: values
        for key, values in columns.items()
        if not key.endswith("_text") or any(text is not None for text in values)
    }


def _unpacked(columns: Mapping[str, list[Any]]) -> Rows:
    fixed = ("task", "split", "patient", "sample", "template", "truth")
    names = [name for name in columns if name not in fixed and not name.endswith("_text")]
    places: dict[str, list[int]] = {}
    for index, task in enumerate(columns["task"]):
        places.setdefault(task, []).append(index)
    rows: Rows = {}
    for task, kept in places.items():
        found = {name: _row(columns, name, task, kept) for name in names}
        rows[task] = {name: row for name in _order(found) if (row := found[name]) is not None}
    return rows


def _row(columns: Mapping[str, list[Any]], name: str, task: str, kept: list[int]) -> Predictions | None:
    """One row of one task; None where it wasn't computed."""
    steps = np.array([columns[name][index] for index in kept])
    texts = [columns[f"{name}_text"][index] for index in kept] if f"{name}_text" in columns else [None] * len(kept)
    closed, written = bool((steps != _NONE).all()), all(text is not None for text in texts)
    if not closed and not written:
        return None
    probability = _probability(steps)
    return Predictions(
        task=task,
        split=columns["split"][kept[0]],
        samples=tuple(f"{columns['patient'][index]:08x}/{columns['sample'][index]}" for index in kept),
        patients=tuple(f"{columns['patient'][index]:08x}" for index in kept),
        truth=tuple(columns["truth"][index] for index in kept),
        answers=_ANSWERS if closed else None,
        probabilities=np.stack([1 - probability, probability], axis=1) if closed else None,
        generated=None if closed else tuple(map(str, texts)),
        templates=tuple(columns["template"][index] for index in kept) if not closed else (),
    )


def _order(names: Mapping[str, Any]) -> list[str]:
    return ["injected", *sorted(set(names) - {"injected"})]


def _step(probability: float) -> int:
    odds = float(np.log(max(probability, 1e-12)) - np.log(max(1 - probability, 1e-12)))
    return round((min(max(odds, -_SPAN), _SPAN) + _SPAN) / (2 * _SPAN) * _STEPS)


def _probability(steps: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-(steps / _STEPS * 2 * _SPAN - _SPAN)))


def _hashed(patient: str) -> int:
    return int.from_bytes(hashlib.sha256(patient.encode()).digest()[:4], "big")


def _typed(columns: Mapping[str, list[Any]], arrow: Any) -> dict[str, tuple[list[Any], Any]]:
    words = arrow.string()
    kinds = {"patient": arrow.uint32(), "sample": arrow.uint8()} | dict.fromkeys(
        ("task", "split", "template", "truth"), words
    )
    return {
        name: (values, kinds.get(name, words if name.endswith("_text") else arrow.uint16()))
        for name, values in columns.items()
    }


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise FedkimError("predictions as parquet need pyarrow", remedy=install_extra("tables")) from None
    return pyarrow, parquet
