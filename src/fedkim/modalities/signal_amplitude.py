"""Whether a recording can be an ECG by its amplitude: millivolts, and not cut off by an amplifier."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedkim.errors import FedkimError

SPREAD = (0.005, 25.0)
"""Millivolts between the 2.5th and the 97.5th percentile of the middling lead: wider than any heart at both ends."""
STUCK = 0.2
"""Share of a lead's samples at its two extremes, in runs, from which it counts as saturated."""
_OTHER_UNIT = 4
"""A lead so many times wider than any heart is in another unit; below that an electrode may be loose."""
_RUN = 5
"""Samples that make a run: a peak cut off by the amplifier is flat for longer than a rounded one."""


def check_amplitude(what: str, values: np.ndarray, leads: Sequence[str]) -> None:
    """Refuse what no electrode can have measured, and what an amplifier has cut off. Gaps are the caller's to refuse.

    Args:
        what: the recording, for the message.
        values: millivolts, ``[leads, n]``.
        leads: their names.

    Raises:
        FedkimError: another unit (``E-ECG-AMPLITUDE``), or leads stuck at their extremes (``E-ECG-SATURATED``).
    """
    if not np.isfinite(values).all():
        return
    moving = np.ptp(values, axis=1) > 0
    alive, names = values[moving], np.array(leads)[moving]
    if not len(alive):
        return
    low, high = np.percentile(alive, (2.5, 97.5), axis=1)
    spread = float(np.median(high - low))
    wide = high - low > _OTHER_UNIT * SPREAD[1]
    if wide.any() and spread <= SPREAD[1]:  # beside it the others would be nothing: a window has one scale
        found = f"an amplitude over {_OTHER_UNIT * SPREAD[1]:g} mV in {', '.join(names[wide])}, beside {(~wide).sum()} leads without"
        remedy = "look whether it is in µV"
        raise FedkimError(what, found=found, expected="millivolts", remedy=remedy, code="E-ECG-AMPLITUDE")
    peak = float(np.median(np.ptp(alive, axis=1)))
    if spread > SPREAD[1] or peak < SPREAD[0]:
        found, like = ("over 25 mV", "µV") if spread > SPREAD[1] else ("under 0.005 mV", "V")
        remedy = f'it looks like {like}: say so in the file ("II [{like}]" in a CSV), or, where it says nothing, in a site file: data.ecg.unit'
        raise FedkimError(
            what, found=f"an amplitude {found}", expected="millivolts", remedy=remedy, code="E-ECG-AMPLITUDE"
        )
    saturated = sum(_is_saturated(lead) for lead in alive)
    if 2 * saturated > len(alive):
        found = f"{saturated} of {len(alive)} leads stuck at their extremes"
        raise FedkimError(what, found=found, remedy="choose a window with signal", code="E-ECG-SATURATED")


def _is_saturated(lead: np.ndarray) -> bool:
    for extreme in (lead.min(), lead.max()):
        at = np.concatenate([[False], lead == extreme, [False]])
        edges = np.flatnonzero(at[1:] != at[:-1])
        lengths: Any = edges[1::2] - edges[::2]
        if lengths[lengths >= _RUN].sum() >= STUCK * len(lead):
            return True
    return False
