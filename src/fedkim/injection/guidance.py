"""Guidance: the alignment is fitted so that what the aggregated decoders look at is loud. Ours, not the paper's.

Shapes: k tokens of a modality, W encoder width, K answers of a task.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from fedkim.injection.alignment import Alignment
from fedkim.injection.injector import Injector
from fedkim.injection.pools import Pools, encode_pool

Guide = Callable[[str, Mapping[str, Tensor]], Mapping[str, Tensor]]
"""``(task, features by modality) -> directions [K − 1, W] by modality`` along which the task's aggregated decoder decides."""


def condition(injector: Injector, pools: Pools, guide: Guide, gain: float) -> None:
    """Fit each alignment's constants to this round's features of the public inputs (:meth:`Alignment.condition`).

    An input counts once for each task that reads it.
    """
    features: dict[str, list[Tensor]] = {}
    directions: dict[str, list[Tensor]] = {}
    for name, pool in pools.items():
        encoded = encode_pool(injector, name, pool)
        for modality, tokens in encoded.items():
            features.setdefault(modality, []).append(tokens)
        for modality, own in guide(name, encoded).items():
            directions.setdefault(modality, []).append(own)
    for modality, parts in features.items():
        alignment = injector.alignment[modality]
        assert isinstance(alignment, Alignment)
        alignment.condition(torch.cat(parts), torch.cat(directions[modality]), gain)
