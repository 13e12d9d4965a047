"""YAIB cohorts: a day of hourly intensive care from any of its sources, MIMIC-III among them (van de Water et al., ICLR 2024).

    <root>/mortality24/mimic_demo/{dyn,sta,outc}.parquet      a folder each task, a folder each source (``yaib_tables``)
    <root>/sepsis/eicu_demo/…       <root>/aki/miiv/…         whichever tasks and sources there are
    <root>/patients/mimic_demo.csv                            ours, if you have it: stay_id,patient_id

A record is 24 hours of a stay: ``vitals [24, 14]``, ``labs [24, 78]``, ``inputs [24, 2]``, ``outputs [24, 2]``. The unit of
splitting is the patient where ``patients/`` tells, else the stay, because YAIB's tables carry no patient. The source is
the natural site. Two sources that hold the same patients are refused: nothing in the tables says who is who.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from fedkim.data.findings import Findings
from fedkim.data.public_sets import PUBLIC_SETS, PublicSet, Reading
from fedkim.data.record import Input, Record
from fedkim.data.sources import matching, yaib_check, yaib_tables
from fedkim.data.sources.published import read_rows
from fedkim.errors import FedkimError
from fedkim.modalities import series

LABELS = {"mortality24": "mortality", "sepsis": "sepsis", "aki": "aki"}
"""The task's name here, by YAIB's folder."""
CONTROLS = {"sepsis": 5, "aki": 1}
"""Controls a case, of the tasks whose labels are hourly."""
MATCHING_SEED = 0
"""Of the matching; not the run's seed, so that a set's records are the same in every run."""
CAREVUE = "mimic_carevue"
"""The subset of MIMIC-III from before 2008, which shares nobody with MIMIC-IV."""


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """One folder: a task on one source."""

    task: str
    source: str
    folder: Path


def cohorts(root: Path) -> list[Cohort]:
    """The folders below ``root`` that hold a known task, in order.

    Raises:
        FedkimError: there is none.
    """
    found = [
        Cohort(task=task, source=folder.name, folder=folder)
        for task in LABELS
        if (Path(root) / task).is_dir()
        for folder in sorted((Path(root) / task).iterdir())
        if folder.is_dir()
    ]
    if not found:
        expected = f"<task>/<source>/dyn.parquet with a task of {', '.join(LABELS)}"
        raise FedkimError(f"YAIB cohorts in {root}", found="none", expected=expected, code="E-FILE-MISSING")
    return found


def read(root: Path, reading: Reading) -> Sequence[Record]:
    """First days with their outcome, then windows of the hourly tasks.

    fixed: the 24 hours before an onset, each case with controls cut at the same hour (``matching``), as series of cases end
    soon after the onset and their length would give the label away. paper: every stay, its last 24 hours, Yes if any hour
    is positive; so the window shows the onset itself and its length tells the label. It is kept to compare with.

    Raises:
        FedkimError: no cohort, two sources of the same patients, or a table that is missing, unreadable or not what it should be.
    """
    found, patients = cohorts(root), _Patients(Path(root))
    findings = Findings()
    _check_sources(found, findings)
    findings.raise_for_errors(f"YAIB cohorts in {root}")
    records: list[Record] = []
    dead = {cohort.source: cohort for cohort in found if cohort.task == "mortality24"}
    first_days: set[str] = set()
    for cohort in dead.values():
        died = yaib_tables.read_outcomes(cohort.folder, cohort.source)
        _check_tables(cohort, died)
        first_days |= set(died)
        records += [_record(cohort, stay, series.HOURS, "day1", died[stay], patients) for stay in sorted(died)]
    for cohort in found:
        if cohort.task in CONTROLS:
            courses = yaib_tables.read_courses(cohort.folder, cohort.source)
            _check_tables(cohort, courses)
            cut = _whole(courses) if reading.labels == "paper" else _matched(cohort.task, courses, first_days)
            for window in cut:
                name = f"{cohort.task}@{window.until_hour}"
                records.append(_record(cohort, window.stay, window.until_hour, name, window.case, patients))
    return records


def check(root: Path) -> Findings:
    """Sources of the same patients, columns, labels, hours, units, ranges, counts of the demos, and what the length of a series tells."""
    findings = Findings()
    try:
        found = cohorts(root)
    except FedkimError as error:
        findings.add(error.code, file=str(root), found=error.found, expected=error.expected)
        return findings
    _check_sources(found, findings)
    for cohort in found:
        yaib_check.check_cohort(cohort.task, cohort.source, cohort.folder, findings)
    for source in sorted({cohort.source for cohort in found}):
        if not _patients_file(Path(root), source).is_file():
            findings.add(
                "W-NO-PATIENT",
                file=source,
                found="stays without a patient: two stays of one patient can end in two splits",
                remedy=f"add patients/{source}.csv with stay_id and patient_id if you have them",
            )
    return findings


def same_patients(one: str, other: str) -> bool:
    """Whether two sources hold the same patients, by their names.

    A database and its demo or subset do, and MIMIC-III and MIMIC-IV, whose admissions of 2008 to 2012 stand in both under other
    numbers, their demos too, unless MIMIC-III is there as :data:`CAREVUE`, whose patients came before.
    """
    first, second = (name.removesuffix("_demo").removesuffix("_carevue") for name in (one, other))
    if first == second:
        return True
    return {first, second} == {"mimic", "miiv"} and CAREVUE not in (one, other)


def _check_sources(found: Sequence[Cohort], findings: Findings) -> None:
    for one, other in combinations(sorted({cohort.source for cohort in found}), 2):
        if same_patients(one, other):
            findings.add(
                "E-LEAK-SOURCE",
                file=other,
                found=f"patients whom {one} holds too",
                expected="each patient in one source",
                remedy=f"take one of the two away; beside miiv MIMIC-III may stand as its CareVue subset, {CAREVUE}",
            )


class _Patients:
    """The patient of each stay, as far as ``patients/<source>.csv`` tells."""

    def __init__(self, root: Path):
        self.root = root
        self.known: dict[str, dict[str, str]] = {}

    def of(self, source: str, number: str) -> str:
        if source not in self.known:
            path = _patients_file(self.root, source)
            rows = read_rows(path, ("stay_id", "patient_id")) if path.is_file() else []
            self.known[source] = {row["stay_id"]: row["patient_id"] for row in rows}
        table = self.known[source]
        if not table:
            return f"yaib/{source}/{number}"
        if not table.get(number):
            what = f"table {_patients_file(self.root, source)}"
            raise FedkimError(what, found="a stay without a patient", expected="every stay", code="E-VALUE")
        return f"yaib/{source}/patient-{table[number]}"


def _patients_file(root: Path, source: str) -> Path:
    return root / "patients" / f"{source}.csv"


def _check_tables(cohort: Cohort, labelled: Iterable[str]) -> None:
    """Refuse measurements that aren't of the labelled stays, or that are in another unit than the concepts'."""
    values = yaib_tables.read_hourly(cohort.folder, cohort.source).values
    yaib_tables.check_same_stays(cohort.folder, labelled, values)
    findings = Findings()
    yaib_check.check_values("dyn.parquet", values, findings)
    findings.raise_for_errors(f"cohort {cohort.folder}")


def _matched(task: str, courses: Mapping[str, yaib_tables.Course], first_days: set[str]) -> list[matching.Window]:
    """Pools are stays with and without a first day of their own: they end in different splits when a task is unseen."""
    inside = [stay for stay in courses if stay in first_days]
    outside = [stay for stay in courses if stay not in first_days]
    return matching.match([inside, outside], courses, CONTROLS[task], MATCHING_SEED, task)


def _whole(courses: Mapping[str, yaib_tables.Course]) -> Iterator[matching.Window]:
    for stay, course in sorted(courses.items()):
        yield matching.Window(stay=stay, until_hour=course.last_hour + 1, case=course.onset is not None)


def _record(cohort: Cohort, stay: str, until_hour: int, name: str, case: bool, patients: _Patients) -> Record:
    number = stay.partition("/")[2]
    return Record(
        id=f"yaib/{stay}/{name}",
        patient=patients.of(cohort.source, number),
        inputs=(
            Input(
                path=cohort.folder / "dyn.parquet",
                read=series.read_table,
                settings={"stay": number, "until_hour": until_hour, "units": "yaib", "require_measurement": False},
            ),
        ),
        labels={LABELS[cohort.task]: "Yes" if case else "No"},
        site=cohort.source,
        strata={"source": cohort.source},
    )


YAIB = PublicSet(
    name="yaib",
    contents="YAIB cohorts: hourly intensive-care stays harmonised by ricu from MIMIC-III, MIMIC-IV, eICU, HiRID or AUMCdb, each "
    "under its own terms",
    citation="van de Water et al., Yet Another ICU Benchmark, ICLR 2024, arXiv 2306.05109",
    tasks=("mortality", "sepsis", "aki"),
    read=read,
    check=check,
)
PUBLIC_SETS["yaib"] = YAIB
