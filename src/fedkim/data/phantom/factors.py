"""Factors: the hidden causes of everything in the synthetic federation.

Causes come first, then the rendering, then the question: each patient draws factors, pictures and waves are drawn from
factors and nuisances, and every answer is a function of factors, never of pixels.

A finding has a standard normal cause ``z``. A seen finding is present where ``z > c``. An unseen one has the cause
``z_H = ρ·z_T + √(1−ρ²)·z_new`` of its seen partner T and a part of its own; both parts are rendered, and ``z_new`` is
never the label of a seen task. So ρ says how much of the unseen task a federation can have learnt from the seen ones:
nothing at 0 (the negative control), all at 1 (the seen task under another name).

What is rendered is a blurred cause, ``severity = r·z + √(1−r²)·ε``: nobody can do better on a rendering than
thresholding its severity, which bounds the AUROC of any model and keeps the tasks from being trivial.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from fedkim.randomness import numpy_generator_for

CHUNK = 64
"""Patients drawn and rendered together. Randomness belongs to a chunk, so more patients never change the first ones."""

FIDELITY = 0.915
"""r: correlation of a finding's rendered severity with its cause."""

KINDS = ("image", "signal", "icu")
"""What a patient brings."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is present or absent, and the seen finding whose cause it may share."""

    task: str
    kind: str
    prevalence: float
    partner: str | None = None

    @property
    def threshold(self) -> float:
        """c: the cause above which the finding is present."""
        return float(norm.ppf(1 - self.prevalence))


FINDINGS: dict[str, Finding] = {
    finding.task: finding
    for finding in (
        Finding(task="lung_opacity", kind="image", prevalence=0.40),
        Finding(task="covid", kind="image", prevalence=0.35),
        Finding(task="ecg_abnormal", kind="signal", prevalence=0.45),
        Finding(task="mortality", kind="icu", prevalence=0.25),
        Finding(task="enlarged_cardiomediastinum", kind="image", prevalence=0.45, partner="lung_opacity"),
        Finding(task="atelectasis", kind="image", prevalence=0.35, partner="lung_opacity"),
        Finding(task="pleural_effusion", kind="image", prevalence=0.40, partner="covid"),
        Finding(task="ectopic_beats", kind="signal", prevalence=0.35, partner="ecg_abnormal"),
        Finding(task="sepsis", kind="icu", prevalence=0.25, partner="mortality"),
    )
}
"""By task, seen ones first."""


@dataclass(frozen=True)
class Factors:
    """The hidden causes of ``num`` patients of one kind."""

    kind: str
    causes: Mapping[str, np.ndarray]
    """By task, float32 ``[num]``: z of a seen finding, z_new of an unseen one."""
    severities: Mapping[str, np.ndarray]
    """By task, float32 ``[num]``: what is rendered of each cause."""
    traits: Mapping[str, np.ndarray]
    """By name, int64 ``[num]``: side, zone, view, … and the natural ``site``: independent of every finding."""

    def __len__(self) -> int:
        return len(self.traits["site"])

    def chunk(self, index: int) -> "Factors":
        """The patients of one chunk, always :data:`CHUNK` of them (factors are drawn in whole chunks)."""
        rows = slice(index * CHUNK, (index + 1) * CHUNK)
        return Factors(
            self.kind,
            {task: values[rows] for task, values in self.causes.items()},
            {task: values[rows] for task, values in self.severities.items()},
            {name: values[rows] for name, values in self.traits.items()},
        )

    def cause(self, task: str, rho: float) -> np.ndarray:
        """The cause: z of a seen finding, ``ρ·z_partner + √(1−ρ²)·z_new`` of an unseen one, ``[num]``."""
        return _combined(self.causes, task, rho)

    def evidence(self, task: str, rho: float) -> np.ndarray:
        """The same combination of rendered severities: the best score that any reader of the rendering can have."""
        return _combined(self.severities, task, rho)

    def present(self, task: str, rho: float) -> np.ndarray:
        """Whether the finding is present, bool ``[num]``: the label."""
        return self.cause(task, rho) > FINDINGS[task].threshold

    def strength(self, task: str) -> np.ndarray:
        """How strongly the finding's own part is drawn, 0…1, one half at the threshold; float32 ``[num]``."""
        slope = np.float32(3.5)
        return 1 / (1 + np.exp(-slope * (self.severities[task] - np.float32(FINDINGS[task].threshold))))


TRAITS: dict[str, dict[str, int]] = {
    "image": {
        "opacity_side": 2,
        "opacity_zone": 3,
        "opacity_large": 2,
        "effusion_side": 2,
        "atelectasis_side": 2,
        "view": 2,
        "line": 2,
        "line_side": 2,
    },
    "signal": {"pattern": 3, "noise": 4, "noise_leads": 3},
    "icu": {},
}
"""By kind: the traits and how many equally likely values each has."""


def draw(kind: str, count: int, *, seed: int, num_sites: int) -> Factors:
    """The factors of ``count`` patients of a kind, rounded up to whole chunks; a pure function of its arguments."""
    tasks = [task for task, finding in FINDINGS.items() if finding.kind == kind]
    traits = {**TRAITS[kind], "site": num_sites}
    chunks = -(-count // CHUNK)
    causes: dict[str, list[np.ndarray]] = {task: [] for task in tasks}
    severities: dict[str, list[np.ndarray]] = {task: [] for task in tasks}
    values: dict[str, list[np.ndarray]] = {name: [] for name in traits}
    for chunk in range(chunks):
        random = numpy_generator_for(seed, "phantom", kind, "factors", chunk)
        for task in tasks:
            z, blur = random.standard_normal((2, CHUNK), dtype=np.float32)
            causes[task].append(z)
            severities[task].append(np.float32(FIDELITY) * z + np.float32((1 - FIDELITY**2) ** 0.5) * blur)
        for name, num_values in traits.items():
            values[name].append(random.integers(num_values, size=CHUNK))
    return Factors(kind, _joined(causes), _joined(severities), _joined(values))


def _combined(parts: Mapping[str, np.ndarray], task: str, rho: float) -> np.ndarray:
    partner = FINDINGS[task].partner
    if partner is None:
        return parts[task]
    return np.float32(rho) * parts[partner] + np.float32((1 - rho**2) ** 0.5) * parts[task]


def _joined(parts: Mapping[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate(arrays) if arrays else np.zeros(0) for name, arrays in parts.items()}
