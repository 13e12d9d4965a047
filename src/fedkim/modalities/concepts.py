"""The 48 hourly measurements of an intensive-care stay: name, unit, reference scale and plausible range of each.

Names and units are those of YAIB (van de Water et al., ICLR 2024), which takes them from ricu's concept dictionary.
Mean and standard deviation are rounded textbook values for adults in intensive care, written down by hand: scaling
constants estimated from the sites' patients would leave the sites. The ranges hold whatever a living patient can
show; values outside are slips of the device or of the unit and count as not observed.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Concept:
    """One measurement."""

    name: str
    unit: str
    mean: float
    sd: float
    """Standard deviation; with ``log`` both belong to ln(1 + value)."""
    low: float
    high: float
    log: bool = False
    """Skewed quantities (enzymes, creatinine, urine) are scaled by their logarithm."""


def _linear(name: str, unit: str, mean: float, sd: float, low: float, high: float) -> Concept:
    return Concept(name=name, unit=unit, mean=mean, sd=sd, low=low, high=high)


def _skewed(name: str, unit: str, typical: float, factor: float, low: float, high: float) -> Concept:
    """Around ``typical``; one standard deviation up multiplies 1 + value by ``factor``."""
    return Concept(name=name, unit=unit, mean=math.log1p(typical), sd=math.log(factor), low=low, high=high, log=True)


VITALS = (
    _linear("hr", "beats/min", 85, 18, 10, 300),
    _linear("sbp", "mmHg", 120, 22, 20, 300),
    _linear("dbp", "mmHg", 63, 14, 5, 220),
    _linear("map", "mmHg", 80, 16, 10, 250),
    _linear("resp", "breaths/min", 19, 6, 1, 80),
    _linear("o2sat", "%", 97, 3, 20, 100),
    _linear("temp", "°C", 36.9, 0.8, 25, 45),
)

INPUTS = (_linear("fio2", "%", 45, 20, 15, 100),)

OUTPUTS = (_skewed("urine", "mL", 90, 2.8, 0, 5000),)

LABS = (
    _linear("alb", "g/dL", 3.0, 0.7, 0.3, 8),
    _skewed("alp", "IU/L", 85, 1.8, 1, 10000),
    _skewed("alt", "IU/L", 30, 3.0, 1, 30000),
    _skewed("ast", "IU/L", 40, 3.0, 1, 50000),
    _linear("be", "mEq/L", -1, 6, -40, 40),
    _linear("bicar", "mEq/L", 24, 5, 1, 60),
    _skewed("bili", "mg/dL", 0.8, 1.7, 0, 80),
    _skewed("bili_dir", "mg/dL", 0.4, 1.7, 0, 60),
    _skewed("bnd", "%", 6, 2.5, 0, 100),
    _skewed("bun", "mg/dL", 21, 1.9, 0, 300),
    _linear("ca", "mg/dL", 8.4, 0.8, 3, 20),
    _linear("cai", "mmol/L", 1.13, 0.12, 0.3, 3),
    _skewed("ck", "IU/L", 180, 4.0, 1, 500000),
    _skewed("ckmb", "ng/mL", 6, 3.0, 0, 5000),
    _linear("cl", "mEq/L", 104, 6, 60, 160),
    _skewed("crea", "mg/dL", 1.1, 1.5, 0, 40),
    _skewed("crp", "mg/L", 80, 3.0, 0, 1500),
    _linear("fgn", "mg/dL", 300, 150, 10, 2000),
    _skewed("glu", "mg/dL", 140, 1.4, 5, 2500),
    _linear("hgb", "g/dL", 10.5, 2.1, 1, 26),
    _skewed("inr_pt", "no unit", 1.3, 1.3, 0.3, 30),
    _linear("k", "mEq/L", 4.1, 0.65, 1, 12),
    _skewed("lact", "mmol/L", 1.8, 1.6, 0, 50),
    _skewed("lymph", "%", 10, 2.0, 0, 100),
    _linear("mch", "pg", 30, 2.5, 10, 60),
    _linear("mchc", "g/dL", 33, 1.5, 15, 50),
    _linear("mcv", "fL", 90, 7, 40, 160),
    _skewed("methb", "%", 0.5, 1.3, 0, 80),
    _linear("mg", "mg/dL", 2.0, 0.4, 0.2, 12),
    _linear("na", "mEq/L", 138, 6, 90, 200),
    _linear("neut", "%", 77, 14, 0, 100),
    _skewed("pco2", "mmHg", 41, 1.3, 5, 250),
    _linear("ph", "no unit", 7.37, 0.09, 6.3, 8.0),
    _linear("phos", "mg/dL", 3.4, 1.4, 0.1, 25),
    _linear("plt", "1000/µL", 200, 95, 0, 3000),
    _skewed("po2", "mmHg", 105, 1.6, 10, 760),
    _skewed("ptt", "s", 36, 1.5, 5, 300),
    _skewed("tnt", "ng/mL", 0.1, 1.5, 0, 200),
    _skewed("wbc", "1000/µL", 11, 1.6, 0, 600),
)

CONCEPTS: dict[str, tuple[Concept, ...]] = {"vitals": VITALS, "labs": LABS, "inputs": INPUTS, "outputs": OUTPUTS}
"""By modality, in prompt order; a modality's columns follow this order."""
