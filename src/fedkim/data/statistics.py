"""What sites hold, told so that no small group shows: counts, prevalence, missingness, histograms.

Each table counts a site's *patients*, each in one cell, and is told as :func:`~fedkim.data.smallest_cell.disclose` says. Over several sites only what each has disclosed is added and compared, so a pooled figure can't give a
site's hidden cell away.

What this doesn't do: two releases of a site whose patients differ by one can be subtracted from each other, and
nothing here is differentially private.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from torch import Tensor

from fedkim.data.sample import Dataset, Sample
from fedkim.data.smallest_cell import SMALLEST_CELL, Cells, disclose
from fedkim.modalities.series import CONCEPTS

NONE = "none"
"""The cell of those without a label, or without the input."""
EDGES = (-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0)
"""Of histograms of standardised quantities: the same at every site, so that no edge tells of anyone."""
SHARES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Of histograms of quantities from 0 up."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One quantity of an input, as a histogram over patients, with mean and spread where there are ``k`` patients."""

    histogram: Cells
    mean: float | None
    sd: float | None


@dataclass(frozen=True, kw_only=True)
class SiteStatistics:
    """What one site tells about its patients."""

    patients: int | None
    tasks: Mapping[str, Cells]
    """By closed task: patients by answer (``No+Yes``: some samples each way), and those without one."""
    modalities: Mapping[str, Cells]
    """Patients ``with`` and ``without`` the input."""
    features: Mapping[str, Feature]
    """``"image sharpness"``, ``"vitals hr"``: a patient counts by the mean over their samples."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "SiteStatistics":
        """The inverse of :meth:`to_dict`."""
        return cls(
            patients=record["patients"],
            tasks={name: Cells(**cells) for name, cells in record["tasks"].items()},
            modalities={name: Cells(**cells) for name, cells in record["modalities"].items()},
            features={
                name: Feature(histogram=Cells(**feature["histogram"]), mean=feature["mean"], sd=feature["sd"])
                for name, feature in record["features"].items()
            },
        )


def describe(
    shard: Dataset, *, tasks: Sequence[str], modalities: Sequence[str], k: int = SMALLEST_CELL
) -> SiteStatistics:
    """One site's statistics.

    Args:
        shard: its samples.
        tasks: closed tasks of the federation, so that one which the site lacks counts as missing.
        modalities: of the federation.
        k: smallest cell that is shown.
    """
    by_patient: dict[str, list[Sample]] = defaultdict(list)
    for sample in shard:
        by_patient[sample.patient].append(sample)
    answers = {task: Counter({NONE: 0}) for task in tasks}
    held = {modality: Counter({"with": 0, "without": 0}) for modality in modalities}
    values: dict[str, list[float]] = defaultdict(list)
    for samples in by_patient.values():
        for task in tasks:
            given = sorted({s.labels[task] for s in samples if task in s.labels and task not in s.questions})
            answers[task]["+".join(given) or NONE] += 1
        for modality in modalities:
            inputs = [sample.inputs[modality] for sample in samples if modality in sample.inputs]
            held[modality]["with" if inputs else "without"] += 1
            measured: dict[str, list[float]] = defaultdict(list)
            for tensor in inputs:
                for name, value in _quantities(modality, tensor).items():
                    measured[name].append(value)
            for name, several in measured.items():
                values[f"{modality} {name}"].append(float(np.mean(several)))
    number = len(by_patient)
    return SiteStatistics(
        patients=number if number >= k else None,
        tasks={task: disclose(counts, k) for task, counts in answers.items()},
        modalities={modality: disclose(counts, k) for modality, counts in held.items()},
        features={name: _feature(name, numbers, number, k) for name, numbers in sorted(values.items())},
    )


def describe_sites(sites: Mapping[str, Dataset], *, k: int = SMALLEST_CELL) -> dict[str, SiteStatistics]:
    """:func:`describe` of each site, over the tasks and modalities of all; one that a small site's number could be told by hides too."""
    tasks = {t for shard in sites.values() for s in shard for t in s.labels if t not in s.questions}
    modalities = {modality for shard in sites.values() for sample in shard for modality in sample.inputs}
    numbers = {site: len({sample.patient for sample in shard}) for site, shard in sites.items()}
    shown = disclose(numbers, k).counts
    return {
        # of more than it has nothing of a site is shown
        site: describe(
            shard,
            tasks=sorted(tasks),
            modalities=sorted(modalities),
            k=k if shown[site] is not None else max(k, numbers[site] + 1),
        )
        for site, shard in sites.items()
    }


# what differs between sites -------------------------------------------------------------------------------------------


def prevalence(cells: Cells) -> float | None:
    """The share of ``Yes`` among patients with an answer; None where a cell of either is hidden."""
    counts = {name: count for name, count in cells.counts.items() if name != NONE}
    known = [count for count in counts.values() if count is not None]
    if len(known) < len(counts) or not sum(known):
        return None
    yes = sum(count or 0 for name, count in counts.items() if "Yes" in name.split("+"))
    return yes / sum(known)


def compare(sites: Mapping[str, SiteStatistics]) -> dict[str, Any]:
    """How unlike the sites are, from what they disclosed alone.

    Prevalence: its range over sites. Features: of all pairs of sites the largest standardised mean difference,
    |m₁ − m₂| / √((s₁² + s₂²)/2) (above 0.1 is commonly called an imbalance), and the largest total variation, half the sum of
    absolute differences of shares, over the bins that both show.
    """
    tasks: dict[str, Any] = {}
    for task in sorted({task for site in sites.values() for task in site.tasks}):
        found = {name: prevalence(site.tasks[task]) for name, site in sites.items() if task in site.tasks}
        known = {name: value for name, value in found.items() if value is not None}
        tasks[task] = {
            "prevalence": found,
            "range": max(known.values()) - min(known.values()) if len(known) > 1 else None,
        }
    features: dict[str, Any] = {}
    for name in sorted({name for site in sites.values() for name in site.features}):
        holders = [site.features[name] for site in sites.values() if name in site.features]
        pairs = list(combinations(holders, 2))
        features[name] = {
            "largest_mean_difference": _largest(pairs, _mean_difference),
            "largest_total_variation": _largest(pairs, _total_variation),
        }
    return {"tasks": tasks, "features": features}


def _largest(
    pairs: Sequence[tuple[Feature, Feature]], measure: Callable[[Feature, Feature], float | None]
) -> float | None:
    values = [value for pair in pairs if (value := measure(*pair)) is not None]
    return max(values) if values else None


def _mean_difference(one: Feature, other: Feature) -> float | None:
    if one.mean is None or other.mean is None or one.sd is None or other.sd is None:
        return None
    spread = math.sqrt((one.sd**2 + other.sd**2) / 2)
    return abs(one.mean - other.mean) / spread if spread else None


def _total_variation(one: Feature, other: Feature) -> float | None:
    shown = [
        name
        for name, count in one.histogram.counts.items()
        if name != NONE and count is not None and other.histogram.counts.get(name) is not None
    ]
    shares = []
    for cells in (one.histogram, other.histogram):
        total = sum(cells.counts[name] or 0 for name in shown)
        if not total:
            return None
        shares.append([(cells.counts[name] or 0) / total for name in shown])
    return sum(abs(a - b) for a, b in zip(*shares)) / 2


# quantities -----------------------------------------------------------------------------------------------------------


def _quantities(modality: str, tensor: Tensor) -> dict[str, float]:
    """What acquisition leaves in a canonical input: by these, sites differ even where patients don't."""
    values = tensor.numpy()
    if modality == "image":
        steps = [np.abs(np.diff(values, axis=axis)).mean() for axis in (-1, -2)]
        return {"median": float(np.median(values)), "sharpness": float(np.mean(steps))}
    if modality == "signal":
        return {"spread": float(values.std()), "roughness": float(np.abs(np.diff(values, axis=-1)).mean())}
    if modality in CONCEPTS:
        concepts = CONCEPTS[modality]
        filled, observed = values[:, : len(concepts)], values[:, len(concepts) :] > 0
        means = {
            concept.name: float(filled[observed[:, column], column].mean())
            for column, concept in enumerate(concepts)
            if observed[:, column].any()
        }
        return means | {"observed": float(observed.mean())}
    return {"mean": float(values.mean())}


_FROM_ZERO = ("sharpness", "spread", "roughness", "observed")


def _feature(name: str, numbers: Sequence[float], patients: int, k: int) -> Feature:
    edges = SHARES if name.rpartition(" ")[2] in _FROM_ZERO else EDGES
    names = bins(edges)
    counts = dict.fromkeys((*names, NONE), 0)
    for place in np.searchsorted(edges, numbers, side="right"):
        counts[names[int(place)]] += 1
    counts[NONE] = patients - len(numbers)
    told = len(numbers) >= k
    return Feature(
        histogram=disclose(counts, k),
        mean=round(float(np.mean(numbers)), 4) if told else None,
        sd=round(float(np.std(numbers)), 4) if told else None,
    )


def bins(edges: Sequence[float]) -> list[str]:
    """Names of the bins between and beyond the edges."""
    inner = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return [f"below {edges[0]:g}", *inner, f"{edges[-1]:g} or more"]
