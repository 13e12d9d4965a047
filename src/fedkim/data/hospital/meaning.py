"""What a site file must mean beyond its types: tasks that exist, words that are answers, units that can be converted."""

import math
from dataclasses import fields
from typing import TYPE_CHECKING

from fedkim.data.findings import Findings
from fedkim.data.sample import SPLITS
from fedkim.errors import FedkimError, unknown
from fedkim.modalities.units import BY_NAME, conversion
from fedkim.tasks import TASKS

if TYPE_CHECKING:
    from fedkim.data.hospital.site_file import HospitalData


def check_meaning(data: "HospitalData", file: str, findings: Findings) -> None:
    """Everything in ``[data]`` that has the right type and still can't be meant."""
    if data.source == "recipe":
        if not data.shard:
            found, expected = "nothing", "a site of the recipe, such as 'site-1'"
            findings.add("E-SITE-MEANING", file=file, field="data.shard", found=found, expected=expected)
        for item in fields(data):
            if item.name not in ("source", "shard") and getattr(data, item.name) != getattr(type(data)(), item.name):
                found, remedy = "a declaration of your own files", "with source = 'recipe' there are none: take it out"
                findings.add("E-SITE-MEANING", file=file, field=f"data.{item.name}", found=found, remedy=remedy)
        return
    if not data.tables:
        findings.add("E-SITE-MEANING", file=file, field="data.tables", found="no table", expected="at least one")
    _check_columns(data, file, findings)
    if not data.labels:
        expected = "a table [data.labels.TASK] for at least one task"
        findings.add("E-SITE-MEANING", file=file, field="data.labels", found="none", expected=expected)
    _check_labels(data, file, findings)
    for word, split in data.splits.items():
        if split not in SPLITS:
            field, expected = f"data.splits.{word}", " or ".join(SPLITS)
            findings.add("E-SITE-MEANING", file=file, field=field, found="no split of ours", expected=expected)
    _check_series(data, file, findings)
    if data.ecg.missing == "mask" and not data.ecg.leads:
        remedy = "say which leads there should be, in data.ecg.leads"
        findings.add("E-SITE-MEANING", file=file, field="data.ecg.missing", found="no leads", remedy=remedy)
    if not (0 <= data.ecg.sampling_rate <= 100_000 and 0 <= data.ecg.start < math.inf):  # NaN is neither
        expected = "finite numbers, 0 or above"
        findings.add("E-SITE-MEANING", file=file, field="data.ecg", found="a number out of range", expected=expected)
    if len({lead.lower() for lead in data.ecg.leads}) < len(data.ecg.leads):
        found, expected = "a lead named twice", "each once, whatever its capitals"
        findings.add("E-SITE-MEANING", file=file, field="data.ecg.leads", found=found, expected=expected)


def _check_columns(data: "HospitalData", file: str, findings: Findings) -> None:
    columns = data.columns
    if columns is None:
        remedy = "add [data.columns] with at least patient and one of image, ecg, series, stay"
        findings.add("E-SITE-MEANING", file=file, field="data.columns", found="none", remedy=remedy)
        return
    if not (columns.image or columns.ecg or columns.series or columns.stay):
        expected = "one of image, ecg, series, stay"
        findings.add("E-SITE-MEANING", file=file, field="data.columns", found="no input", expected=expected)
    if bool(columns.stay) != bool(data.series.file):
        remedy = "a shared table needs data.series.file and data.columns.stay"
        findings.add(
            "E-SITE-MEANING", file=file, field="data.columns.stay", found="one without the other", remedy=remedy
        )
    if columns.stay and columns.series:
        remedy = "give one file a row (series) or one shared table (stay)"
        findings.add("E-SITE-MEANING", file=file, field="data.columns.series", found="both", remedy=remedy)
    if bool(columns.consent) != bool(data.consent_given):
        remedy = "a consent column needs data.consent_given, the words that mean yes, and the other way round"
        findings.add(
            "E-SITE-MEANING", file=file, field="data.columns.consent", found="one without the other", remedy=remedy
        )


def _check_labels(data: "HospitalData", file: str, findings: Findings) -> None:
    for name, label in data.labels.items():
        field = f"data.labels.{name}"
        if name not in TASKS:
            findings.add(
                "E-SITE-MEANING",
                file=file,
                field=field,
                found="no such task",
                remedy=unknown("task", name, TASKS).remedy,
            )
            continue
        task = TASKS[name]
        if task.answers is None:
            if not label.question:
                expected = "the column of the question, for a free-text task"
                findings.add("E-SITE-MEANING", file=file, field=f"{field}.question", found="none", expected=expected)
            continue
        if any(answer not in task.answers for answer in label.words.values()):
            found, expected = "a word that isn't an answer", " or ".join(map(repr, task.answers))
            findings.add("E-SITE-MEANING", file=file, field=f"{field}.words", found=found, expected=expected)


def _check_series(data: "HospitalData", file: str, findings: Findings) -> None:
    for key in ("columns", "units"):
        for name, word in getattr(data.series, key).items():
            field = f"data.series.{key}.{name}"
            if name not in BY_NAME:
                remedy = unknown("measurement", name, BY_NAME).remedy
                findings.add("E-SITE-MEANING", file=file, field=field, found="no such measurement", remedy=remedy)
            elif key == "units":
                try:
                    conversion(name, word)
                except FedkimError as error:
                    found, expected = "a unit without a conversion", error.expected
                    findings.add(
                        error.code, file=file, field=field, found=found, expected=expected, remedy="convert it"
                    )
    if not 1 <= data.series.until_hour <= 24 * 365:
        findings.add(
            "E-SITE-MEANING", file=file, field="data.series.until_hour", found="another number", expected="1 to 8760"
        )
