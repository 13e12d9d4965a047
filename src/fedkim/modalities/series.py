"""Vitals, labs, inputs, outputs: the four channel groups of one intensive-care stay, each a modality of its own.

Canonical tensor: float32 ``[24, 2F]`` for the group's F concepts, one row an hour: first F forward-filled values,
standardised with the constants of :mod:`fedkim.modalities.concepts`, clipped to ±5, 0 where never observed so far;
then F flags, 1 in hours with a measurement of their own.

Tables are hourly: column ``hour`` (or the index) and one column a concept, as YAIB's ``dyn.parquet`` with its
``stay_id`` and ``time``; long tables and other units are read too (:mod:`fedkim.modalities.series_tables`).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fedkim.errors import FedkimError
from fedkim.modalities.concepts import CONCEPTS, Concept
from fedkim.modalities.modality import Modality
from fedkim.modalities.series_tables import open_table
from fedkim.modalities.temporal import TemporalTransformer

if TYPE_CHECKING:
    import pandas

HOURS = 24


def read_table(
    table: "str | Path | pandas.DataFrame",
    stay: int | str | None = None,
    until_hour: float | None = None,
    *,
    units: str | Mapping[str, str] = "",
    require_measurement: bool = True,
) -> dict[str, Tensor]:
    """The stay in a table as one ``[24, 2F]`` tensor per modality with any of its columns.

    Args:
        table: an hourly table, wide or long (see the module's text): a ``.csv`` or ``.parquet`` file, or a DataFrame, whose index
            may be the hours.
        stay: which ``stay_id``; may be left out where the table holds one stay.
        until_hour: the window ends just before this hour, a whole number; default 24, the first day. Of a stay observed for less than a day by
            then the first rows stay empty: the patient's latest state stands at the end of every window.
        units: where the table states none: a unit by concept; a wide table without any is in the concepts' units.
        require_measurement: refuse a window in which nothing was measured.

    Raises:
        FedkimError: missing or unreadable file, unknown stay, unknown unit, hours out of order or twice, no known
            column, nothing measured in the window.
    """
    stays = open_table(table, units=units)
    what = stays.what
    values = stays.window(stay, HOURS if until_hour is None else until_hour, HOURS)
    tensors, first = {}, 0
    for name, group in CONCEPTS.items():
        if any(concept.name in stays.present for concept in group):
            tensors[name] = prepare_values(values[:, first : first + len(group)], group)
        first += len(group)
    if not tensors:
        raise FedkimError(
            what,
            found="none of the known columns",
            expected="such as hr, sbp, crea, urine",
            remedy="rename its columns",
            code="E-SERIES-COLUMN",
        )
    if require_measurement and not any(tensor.any() for tensor in tensors.values()):
        raise FedkimError(
            what,
            found="no plausible measurement in the window",
            remedy="check stay, hours and units of the table",
            code="E-SERIES-EMPTY",
        )
    return tensors


def prepare_values(values: np.ndarray, concepts: Sequence[Concept]) -> Tensor:
    """Raw values ``[24, F]`` in the concepts' units, NaN where not measured, as ``[24, 2F]``."""
    low, high, mean, sd = (np.array([getattr(c, key) for c in concepts]) for key in ("low", "high", "mean", "sd"))
    log = np.array([c.log for c in concepts])
    observed = (values >= low) & (values <= high)  # NaN compares false
    safe = np.where(observed, values, 0.0)
    scaled = np.clip((np.where(log, np.log1p(np.maximum(safe, 0)), safe) - mean) / sd, -5, 5)
    latest = np.maximum.accumulate(np.where(observed, np.arange(len(values))[:, None], -1), axis=0)
    filled = np.where(latest >= 0, np.take_along_axis(scaled, np.maximum(latest, 0), axis=0), 0.0)
    return torch.from_numpy(np.concatenate([filled, observed], axis=1).astype(np.float32))


def implausible(
    table: "str | Path | pandas.DataFrame",
    modality: str,
    *,
    stay: int | str | None = None,
    until_hour: float | None = None,
    units: str | Mapping[str, str] = "",
) -> list[str]:
    """What of a window counts as not measured because no living patient can show it, a sentence a concept.

    Mostly such values are in another unit than the concept's. The table is read as
    :func:`read_table` reads it.
    """
    group = CONCEPTS[modality]
    first = sum(len(others) for others in list(CONCEPTS.values())[: list(CONCEPTS).index(modality)])
    window = open_table(table, units=units).window(stay, HOURS if until_hour is None else until_hour, HOURS)
    values = window[:, first : first + len(group)]
    told = []
    for concept, column in zip(group, values.T):
        given = column[~np.isnan(column)]  # infinity is a value that nobody has, as −1 is
        outside = int(((given < concept.low) | (given > concept.high)).sum())
        if outside:
            told.append(
                f"{concept.name}: {outside} of {len(given)} values outside {concept.low:g} to {concept.high:g} {concept.unit} "
                "count as not measured; check its unit"
            )
    return told


def overlooked(table: "str | Path | pandas.DataFrame", *, units: str | Mapping[str, str] = "") -> list[str]:
    """What of a table isn't read because of its capitals, a sentence a name: the concepts' names are in small letters."""
    names = open_table(table, units=units).overlooked
    return [f"{name!r} isn't read; did you mean {meant!r}?" for name, meant in names.items()]


def hours_beyond(
    table: "str | Path | pandas.DataFrame", *, stay: int | str | None = None, units: str | Mapping[str, str] = ""
) -> int:
    """How many hours a stay goes on after its first day, by the table's last row."""
    return max(0, open_table(table, units=units).last_hour(stay) + 1 - HOURS)


def augment(series: Tensor, generator: torch.Generator) -> Tensor:
    """Blank a fifth of the inputs of ``[B, 24, 2F]`` (dropout on the input, scaled so that the mean stays)."""
    keep = torch.rand(series.shape, generator=generator) >= 0.2
    return series * keep / 0.8


_DESCRIPTIONS = {
    "vitals": (
        "Vital signs: heart rate, blood pressure, breathing rate, oxygen saturation and temperature, hour by hour "
        "over one day of intensive care."
    ),
    "labs": (
        "Laboratory results: blood counts, salts, kidney, liver and clotting values, blood gases and lactate, hour "
        "by hour over one day of intensive care."
    ),
    "inputs": (
        "What the patient is given: the share of oxygen in the inspired air and other treatments, hour by hour over "
        "one day of intensive care."
    ),
    "outputs": ("What the patient puts out: the volume of urine, hour by hour over one day of intensive care."),
}


def _modalities() -> Iterator[Modality]:
    for name in CONCEPTS:
        yield Modality(
            name=name,
            description=_DESCRIPTIONS[name],
            tokens=4,
            encoders={"transformer": TemporalTransformer},
            augment=augment,
        )


SERIES: tuple[Modality, ...] = tuple(_modalities())
"""Vitals, labs, inputs, outputs."""
