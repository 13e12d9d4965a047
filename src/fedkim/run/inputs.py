"""One patient's files as model inputs, read by the very functions that training and evaluation use, and what of them isn't read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedkim.errors import FedkimError, unknown
from fedkim.modalities.image import read_image
from fedkim.modalities.series import CONCEPTS, HOURS, hours_beyond, implausible, overlooked, read_table
from fedkim.modalities.series_columns import name_and_unit
from fedkim.modalities.signal import read_record
from fedkim.modalities.signal_files import leads_of
from fedkim.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Window:
    """What of a patient's files is read."""

    units: str | None = None
    """``yaib`` for an ICU file whose headers carry no units, where they are YAIB's."""
    stay: int | str | None = None
    """Which ``stay_id`` of an ICU table."""
    until_hour: float | None = None
    """The 24 hours that end just before this one, a whole number; None: the first day."""
    start: float = 0.0
    """Where the ten seconds of an ECG begin, in seconds."""
    leads: tuple[str, ...] = ()
    """The ECG's leads by name, in the order of the training; empty: the standard twelve, or where there are others those of the file."""


def patient_inputs(
    task: Task, given: Mapping[str, Any], window: Window, *, image_size: int, shapes: Mapping[str, Sequence[int]]
) -> dict[str, Tensor]:
    """A patient's files, tables and prepared tensors as the tensors that a model was trained on.

    Args:
        task: whose inputs are read, all of them and no other.
        given: by modality, as :meth:`fedkim.run.Run.answer` takes them.
        window: what of the files.
        image_size: of the model's images, in pixels.
        shapes: of the inputs that the model was trained on, by modality.

    Raises:
        FedkimError: an input that is missing, superfluous, unreadable, never learned, of another shape or not finite;
            a window of a kind of file that the task doesn't read; a table without units, or tables without a measurement
            in the window.
    """
    for name in given:
        if name not in task.inputs:
            raise FedkimError(
                f"task {task.name!r}", found=f"an input {name!r}", expected=", ".join(task.inputs) or "no input"
            )
    _require_use_of(window, task)
    for modality in task.inputs:
        if given.get(modality) is None:
            raise FedkimError(f"task {task.name!r}", found=f"no {modality}", remedy=f"give {modality}=…")
        if modality not in shapes:
            raise FedkimError(f"modality {modality!r}", found="no site of this run taught it")
    inputs = {}
    for modality in task.inputs:
        inputs[modality] = tensor = _prepared(modality, given[modality], window, image_size, shapes[modality])
        if tensor.shape != torch.Size(shapes[modality]):
            raise FedkimError(
                f"input {modality!r}", found=f"shape {tuple(tensor.shape)}", expected=str(tuple(shapes[modality]))
            )
        if not bool(tensor.isfinite().all()):
            raise FedkimError(f"input {modality!r}", found="NaN or infinity", expected="finite values")
    tables = [name for name in inputs if name in CONCEPTS and not isinstance(given[name], Tensor)]
    if tables and not any(bool(inputs[name].any()) for name in tables):
        raise FedkimError(
            f"inputs {', '.join(tables)}",
            found="no plausible measurement in the window",
            remedy="check stay, hours, names and units of the tables",
        )
    return inputs


def _require_use_of(window: Window, task: Task) -> None:
    """Refuse what is said of files that the task doesn't read, as such files are."""
    of_tables = dict.fromkeys(("units", "stay", "until_hour"), "ICU table")
    superfluous = {} if set(CONCEPTS) & set(task.inputs) else of_tables
    superfluous |= {} if "signal" in task.inputs else {"start": "ECG", "leads": "ECG"}
    for name, kind in superfluous.items():
        if getattr(window, name) != getattr(Window, name):
            option = f"--{name.replace('_', '-')}"
            remedy = f"leave it out: the task reads no {kind}"
            raise FedkimError(f"task {task.name!r}", found=f"{name} ({option})", remedy=remedy)


def _prepared(modality: str, value: Any, window: Window, image_size: int, shape: Sequence[int]) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(torch.float32)
    if modality in ("image", "signal") and not isinstance(
        value, str | Path
    ):  # whose text could be the patient's values
        expected = "the path of a file, or a prepared tensor"
        raise FedkimError(f"input {modality!r}", found=f"a {type(value).__name__}", expected=expected)
    try:
        if modality == "image":
            return read_image(value, size=image_size)
        if modality == "signal":
            return read_record(value, start_seconds=window.start, leads=window.leads or leads_of(shape[0]))
        if modality in CONCEPTS:
            return _from_table(modality, Path(value) if isinstance(value, str) else value, window)
    except FedkimError:
        raise
    except (AttributeError, TypeError, ValueError, KeyError) as error:
        raise FedkimError(
            f"input {modality!r}",
            found=f"a {type(value).__name__} that can't be read ({type(error).__name__})",
            expected="a file, a table of hours and concepts (ICU groups) or a prepared tensor",
        ) from None
    raise FedkimError(
        f"input {modality!r}", found=type(value).__name__, expected="a prepared tensor", remedy="see MODALITIES"
    )


def _from_table(modality: str, table: Any, window: Window) -> Tensor:
    if isinstance(table, Path):
        require_units(table, window.units)
    tables = read_table(table, window.stay, window.until_hour, units=window.units or "", require_measurement=False)
    # zeros where nothing of a group was measured, as in the training; the answer says so
    return tables.get(modality, torch.zeros(HOURS, 2 * len(CONCEPTS[modality])))


def lead_warnings(given: Mapping[str, Any], window: Window, shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """That leads other than the standard twelve are known by their place alone: a run doesn't keep their names."""
    num = shapes["signal"][0] if "signal" in given and not isinstance(given["signal"], Tensor) else 0
    if not num or window.leads or leads_of(num):
        return []
    which = "its lead is taken" if num == 1 else f"its {num} leads are taken in the file's order"
    return [f"an ECG's leads are not checked: {which}; name those of the training, in its order (leads, --leads)"]


def table_warnings(given: Mapping[str, Any], window: Window) -> list[str]:
    """What of ICU tables isn't read as it might be meant: names in other capitals, values that nobody can show, hours left out.

    Args:
        given: inputs by modality; those that aren't tables have nothing to be warned of.
        window: what of them was read.
    """
    told: list[str] = []
    for modality, table in given.items():
        if modality not in CONCEPTS or isinstance(table, Tensor):
            continue
        told += overlooked(table, units=window.units or "")
        told += implausible(table, modality, stay=window.stay, until_hour=window.until_hour, units=window.units or "")
        later = hours_beyond(table, stay=window.stay, units=window.units or "") if window.until_hour is None else 0
        if later:
            told.append(
                f"the table goes on for {later} hours after the first day, which are left out; another day is chosen "
                "by its last hour (until_hour, --until-hour)"
            )
    return list(dict.fromkeys(told))


def require_units(table: Path, units: str | None) -> None:
    """Refuse a table whose units nobody has stated: a value in another unit looks like another patient.

    Raises:
        FedkimError: an unknown name for a set of units, or headers without units and no ``--units``.
    """
    if units is not None:
        if units != "yaib":
            raise unknown("set of units", units, ["yaib"])
        return
    known = {concept.name for group in CONCEPTS.values() for concept in group}
    parts = [name_and_unit(header) for header in _headers(table)]
    bare = [name for name, unit in parts if name in known and unit is None]
    if bare:
        raise FedkimError(
            f"table {table}: column {bare[0]!r}",
            found="no unit",
            expected="a header such as 'crea [mg/dL]'",
            remedy="or say --units yaib if the table is in YAIB's units (docs/data/pack.md)",
        )


def _headers(table: Path) -> list[str]:
    if not table.is_file():
        raise FedkimError(f"table {table}", found="no such file", remedy="check the path")
    try:
        if table.suffix.lower() == ".parquet":
            from pyarrow.parquet import read_schema

            return list(read_schema(table).names)
        with open(table, encoding="utf-8-sig") as file:
            return [cell.strip().strip('"') for cell in file.readline(1 << 20).split(",")]
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors or OSErrors
        raise FedkimError(
            f"table {table}", found=f"unreadable ({type(error).__name__})", expected="a .csv or .parquet table"
        ) from None
