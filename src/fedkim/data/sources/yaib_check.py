"""What can be wrong with a YAIB cohort, and what one should know of it before training on it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedkim.data.findings import Findings
from fedkim.data.sources import yaib_tables
from fedkim.errors import FedkimError
from fedkim.modalities.concepts import CONCEPTS
from fedkim.modalities.units import suspicion

KNOWN = {
    ("mortality24", "mimic_demo"): (99, 21),
    ("mortality24", "eicu_demo"): (1_367, 70),
    ("sepsis", "mimic_demo"): (115, 1),
    ("sepsis", "eicu_demo"): (896, 63),
    ("aki", "mimic_demo"): (113, 44),
    ("aki", "eicu_demo"): (1_988, 698),
}
"""Stays and positive stays of the published demo cohorts."""
FEW = 5
"""Stays of an outcome below which nothing is computed."""
IMPLAUSIBLE = 0.02
"""Share of a concept's values outside its range from which it is told."""
TELLING = 0.6
"""AUROC of the number of hours from which the length of a series is said to tell the label."""


def check_cohort(task: str, source: str, folder: Path, findings: Findings) -> None:
    """Note everything about one folder."""
    place = f"{task}/{source}"

    def attempt(table: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except FedkimError as error:
            findings.add_error(error, file=f"{place}/{table}", code="E-SERIES-FORMAT")
            return None

    hourly = attempt("dyn.parquet", lambda: yaib_tables.read_hourly(folder, source))
    if task == "mortality24":
        outcomes = attempt("outc.parquet", lambda: yaib_tables.read_outcomes(folder, source))
    else:
        courses = attempt("outc.parquet", lambda: yaib_tables.read_courses(folder, source))
        outcomes = None if courses is None else {stay: course.onset is not None for stay, course in courses.items()}
    if not (folder / "sta.parquet").is_file():
        findings.add("I-PART", file=f"{place}/sta.parquet", found="no such file; age and sex aren't read anyway")
    if hourly is not None:
        check_values(f"{place}/dyn.parquet", hourly.values, findings)
    if outcomes is None:
        return
    _check_counts(f"{place}/outc.parquet", (task, source), outcomes, findings)
    if hourly is None:
        return
    if differing := set(outcomes) ^ set(hourly.values):
        found = f"{len(differing)} stays that only one of dyn and outc has"
        findings.add("E-CONTRADICTION", file=place, found=found, expected="the same stays")
    if task != "mortality24":
        _check_length(place, hourly.values, outcomes, findings)


def check_values(file: str, values: Mapping[str, np.ndarray], findings: Findings) -> None:
    """Note columns that look like another unit (``E-UNIT``, ``W-UNIT``), are often implausible, or empty."""
    everything = np.concatenate(list(values.values()))
    concepts = [concept for group in CONCEPTS.values() for concept in group]
    empty = []
    for column, concept in enumerate(concepts):
        given = everything[:, column]
        given = given[np.isfinite(given)]
        if not len(given):
            empty.append(concept.name)
            continue
        outside = float(((given < concept.low) | (given > concept.high)).mean())
        if doubt := suspicion(concept, given):
            code, found = doubt
            remedy = "convert the column" if code == "E-UNIT" else "make sure of its unit"
            findings.add(code, file=file, field=concept.name, found=found, expected=concept.unit, remedy=remedy)
        elif outside > IMPLAUSIBLE:
            expected = f"{concept.low:g} to {concept.high:g} {concept.unit}"
            found = f"{outside:.1%} of the values outside what a living patient can show"
            findings.add(
                "W-SERIES-RANGE",
                file=file,
                field=concept.name,
                found=found,
                expected=expected,
                remedy="they count as not measured",
            )
    if empty:
        findings.add(
            "I-SERIES-EMPTY",
            file=file,
            found=f"nothing measured in {len(empty)} columns: {', '.join(empty[:8])}{' …' if len(empty) > 8 else ''}",
        )


def length_auroc(hours: Mapping[str, int], outcomes: Mapping[str, bool]) -> float | None:
    """AUROC of a series' number of hours, the better of the two directions; None with too few of an outcome."""
    from scipy.stats import rankdata

    stays = [stay for stay in outcomes if stay in hours]
    positive = np.array([outcomes[stay] for stay in stays], dtype=bool)
    num = int(positive.sum())
    if min(num, len(stays) - num) < FEW:
        return None
    ranks = rankdata([hours[stay] for stay in stays])
    auroc = (ranks[positive].sum() - num * (num + 1) / 2) / (num * (len(stays) - num))
    return float(max(auroc, 1 - auroc))


def _check_counts(file: str, cohort: tuple[str, str], outcomes: Mapping[str, bool], findings: Findings) -> None:
    counts = (len(outcomes), sum(outcomes.values()))
    for what, number, known in zip(("stays", "positive stays"), counts, KNOWN.get(cohort, counts)):
        if number != known:
            expected = f"{known:,} in the known release"
            findings.add("W-COUNT", file=file, field=what, found=f"{number:,}", expected=expected)
    if min(counts[1], counts[0] - counts[1]) < FEW:
        found = f"{counts[1]} positive of {counts[0]}"
        findings.add("W-CLASS-RARE", file=file, found=found, expected="some of both", remedy="no score can be computed")


def _check_length(
    place: str, values: Mapping[str, np.ndarray], outcomes: Mapping[str, bool], findings: Findings
) -> None:
    auroc = length_auroc({stay: len(rows) for stay, rows in values.items()}, outcomes)
    if auroc is not None and auroc >= TELLING:
        findings.add(
            "W-LENGTH",
            file=place,
            found=f"AUROC {auroc:.2f} from the number of hours alone",
            expected="about 0.5",
            remedy="whole series leak the label; the default label rule cuts cases and controls at the same hour",
        )
