"""One patient's files as model inputs, read by the very functions that training and evaluation use, and what of them isn't read."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fedkim.errors import FedkimError, unknown
from fedkim.modalities.concepts import CONCEPTS
from fedkim.recipe import Recipe

_OPTION = {"image": "--image", "signal": "--signal", "text": "--question"}
_UNIT_IN_HEADER = re.compile(r"\s*\w+\s*[\[(].*[\])]\s*")


def read_inputs(
    recipe: Recipe,
    modalities: Iterable[str],
    *,
    image: Path | None,
    signal: Path | None,
    start: float,
    table: Path | None,
    stay: str | None,
    until_hour: int | None,
    units: str | None,
    leads: tuple[str, ...] | None = None,
) -> dict[str, Any]:
    """Canonical tensors by modality, for exactly the modalities that the task needs.

    ``leads`` are those that the run's ECGs were read with, in order; None: as they stand in the file.

    Raises:
        FedkimError: an option is missing for a modality, or a file can't be read as what it should be.
    """
    from fedkim.modalities import series
    from fedkim.modalities.image import read_image
    from fedkim.modalities.signal import read_record

    inputs: dict[str, Any] = {}
    tables: dict[str, Any] | None = None
    for modality in modalities:
        if modality == "image" and image:
            inputs["image"] = read_image(image, size=recipe.data.image_size)
        elif modality == "signal" and signal:
            inputs["signal"] = read_record(signal, start_seconds=start, leads=leads)
        elif modality in CONCEPTS and table:
            if tables is None:
                require_units(table, units)
                tables = series.read_table(table, stay=stay, until_hour=until_hour, units=units or "")
            if modality not in tables:
                columns = ", ".join(concept.name for concept in CONCEPTS[modality])
                raise FedkimError(
                    f"table {table}", found=f"no column of {modality!r}", expected=f"at least one of {columns}"
                )
            inputs[modality] = tables[modality]
        elif modality != "text":
            option = _OPTION.get(modality, "--table")
            raise FedkimError(f"modality {modality!r}", found="nothing", remedy=f"give it with {option}")
    return inputs


def table_warnings(
    table: Any, modalities: Iterable[str], *, stay: Any, until_hour: int | None, units: str | None, option: str
) -> list[str]:
    """What of an ICU table (a file or a DataFrame) isn't read as it might be meant: values that nobody can show, hours left out.

    Args:
        table: as :func:`fedkim.modalities.series.read_table` takes it.
        modalities: those that were read from it.
        stay: which stay.
        until_hour: the window's end; None: the first day.
        units: of headers that carry none.
        option: what the caller says for ``until_hour``.
    """
    from fedkim.modalities.series import hours_beyond, implausible

    told = []
    for modality in modalities:
        told += implausible(table, modality, stay=stay, until_hour=until_hour, units=units or "")
    later = hours_beyond(table, stay=stay, units=units or "") if until_hour is None else 0
    if later:
        told.append(
            f"the table goes on for {later} hours after the first day, which are left out; {option} chooses another day"
        )
    return told


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
    bare = [name for name in _headers(table) if name.strip() in known and not _UNIT_IN_HEADER.fullmatch(name)]
    if bare:
        raise FedkimError(
            f"table {table}: column {bare[0].strip()!r}",
            found="no unit",
            expected="a header such as 'crea [mg/dL]'",
            remedy="or say --units yaib if the table is in YAIB's units (docs/data/pack.md)",
        )


def _headers(table: Path) -> list[str]:
    if not table.is_file():
        raise FedkimError(f"table {table}", found="no such file", remedy="check the path")
    try:
        if table.suffix == ".parquet":
            from pyarrow.parquet import read_schema

            return list(read_schema(table).names)
        with open(table, encoding="utf-8-sig") as file:
            return [cell.strip().strip('"') for cell in file.readline(1 << 20).split(",")]
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors or OSErrors
        raise FedkimError(
            f"table {table}", found=f"unreadable ({type(error).__name__})", expected="a .csv or .parquet table"
        ) from None
