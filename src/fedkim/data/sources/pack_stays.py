"""The pack's cohorts: YAIB's demos of MIMIC-III and eICU, each task's two sources read as one.

    icu/yaib_demo/{mortality24,aki,sepsis}/{mimic_demo,eicu_demo}/{dyn,outc}.parquet

ODbL 1.0 (the demos); the task definitions are YAIB's (MIT). The tables themselves: ``yaib_tables``.
"""

from pathlib import Path

from fedkim.data.sources import yaib_tables
from fedkim.data.sources.yaib_tables import Course, Hourly

FOLDER = Path("icu") / "yaib_demo"
SOURCES = ("mimic", "eicu")
"""The folders are ``mimic_demo`` and ``eicu_demo``."""


def folder(root: Path, task: str, source: str) -> Path:
    """Where a cohort's tables lie."""
    return Path(root) / FOLDER / task / f"{source}_demo"


def files(root: Path, task: str) -> list[Path]:
    """The tables of one YAIB task (``mortality24``, ``sepsis``, ``aki``) that are read."""
    return [folder(root, task, source) / f"{table}.parquet" for source in SOURCES for table in ("dyn", "outc")]


def read_hourly(root: Path, task: str) -> Hourly:
    """The measurements of all stays of one YAIB task, both sources."""
    parts = [yaib_tables.read_hourly(folder(root, task, source), source).values for source in SOURCES]
    return Hourly(values={stay: values for part in parts for stay, values in part.items()})


def read_deaths(root: Path) -> dict[str, bool]:
    """Stay → died in intensive care, for the stays of ``mortality24``."""
    died: dict[str, bool] = {}
    for source in SOURCES:
        died.update(yaib_tables.read_outcomes(folder(root, "mortality24", source), source))
    return died


def read_courses(root: Path, task: str) -> dict[str, Course]:
    """Stay → its course, for the hourly labels of ``aki`` or ``sepsis``."""
    courses: dict[str, Course] = {}
    for source in SOURCES:
        courses.update(yaib_tables.read_courses(folder(root, task, source), source))
    return courses
