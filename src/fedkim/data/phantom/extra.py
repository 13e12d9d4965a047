"""More questions on the same inputs, for runs that ask several a modality: traits and measurements that no finding decides.

They exist only where a recipe names them among its seen tasks, in pairs of opposite polarity: a model that answers "AP
view?" and "PA view?" alike has not read the question. Labels are functions of factors and of what was measured, never of
findings; mean arterial pressure alone is moved a little by two of them.
"""

from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor

from fedkim.data.phantom.factors import Factors
from fedkim.modalities.concepts import CONCEPTS

PRESSURE = 65.0
"""mmHg."""

Labeller = Callable[[Factors, Mapping[str, Tensor]], np.ndarray]
"""``(factors, canonical tensors) -> bool [num]``."""


def _low_pressure(factors: Factors, tensors: Mapping[str, Tensor]) -> np.ndarray:
    """Whether the lowest mean arterial pressure of the day lies below 65 mmHg."""
    group = CONCEPTS["vitals"]
    column = next(index for index, concept in enumerate(group) if concept.name == "map")
    scaled = tensors["vitals"][:, :, column].numpy()
    measured = tensors["vitals"][:, :, len(group) + column].numpy() > 0
    lowest = np.where(measured, scaled, np.inf).min(axis=1)
    return lowest < (PRESSURE - group[column].mean) / group[column].sd


EXTRA: Mapping[str, tuple[str, Labeller]] = {
    "ap_view": ("image", lambda factors, tensors: factors.traits["view"] == 1),
    "pa_view": ("image", lambda factors, tensors: factors.traits["view"] == 0),
    "noisy": ("signal", lambda factors, tensors: factors.traits["noise"] > 0),
    "noise_free": ("signal", lambda factors, tensors: factors.traits["noise"] == 0),
    "map_below_65": ("icu", _low_pressure),
    "map_stayed_above_65": ("icu", lambda factors, tensors: ~_low_pressure(factors, tensors)),
}
"""By task: the kind of patient, and its label."""


def extra_labels(
    tasks: tuple[str, ...], factors: Factors, tensors: Mapping[str, Tensor], count: int
) -> dict[str, np.ndarray]:
    """The labels of the first ``count`` patients for those of ``tasks`` that are asked of their kind, bool ``[count]``."""
    return {
        task: label(factors, tensors)[:count]
        for task, (kind, label) in EXTRA.items()
        if task in tasks and kind == factors.kind
    }
