"""Rows: what each line of a hospital's tables says, with consent, labels, splits and ids settled and counted."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedkim.data.findings import Finding, Findings
from fedkim.data.hospital.files import confined
from fedkim.data.hospital.site_file import HospitalData, SiteFile
from fedkim.data.hospital.table import Table, read_table
from fedkim.data.hospital.words import counted
from fedkim.data.leaks import check_ids
from fedkim.data.sample import SPLITS
from fedkim.errors import FedkimError
from fedkim.modalities.concepts import CONCEPTS
from fedkim.modalities.text import safe_question
from fedkim.tasks import TASKS

INPUTS = ("image", "ecg", "series", "stay")
"""Columns that name an input."""
GIVES: Mapping[str, tuple[str, ...]] = {
    "image": ("image",),
    "ecg": ("signal",),
    "series": tuple(CONCEPTS),
    "stay": tuple(CONCEPTS),
}
"""Modalities by the column that brings them."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table that can be used, ids and paths as they stand there: it never leaves this package."""

    table: str
    number: int
    """Counted from 1 after the header."""
    patient: str
    files: Mapping[str, str]
    """By column role (``image``, ``ecg``, ``series``, ``stay``), only those that are there."""
    labels: Mapping[str, str]
    questions: Mapping[str, str] = field(default_factory=dict)
    split: str = ""
    site: str = ""


def read_rows(site: SiteFile, findings: Findings) -> list[Row]:
    """The usable rows of all tables; what is wrong, dropped or worth knowing goes to the findings."""
    rows: list[Row] = []
    for number, name in enumerate(site.data.tables, 1):
        shown = f"data.tables[{number}]" if not name.isprintable() or len(name) > 80 else name
        path = _table_path(site, name, shown, findings)
        if path is None:
            continue
        data = site.data
        table = read_table(path, findings, encoding=data.encoding, delimiter=data.delimiter, name=shown)
        if table is not None and _has_columns(table, data, findings):
            rows += _usable(table, data, findings)
    if not findings.errors:
        _check_whole(rows, site, findings)
    return rows


def _table_path(site: SiteFile, name: str, shown: str, findings: Findings) -> Path | None:
    try:
        return confined(site.path.parent, name)
    except FedkimError as error:
        code, found, remedy = error.code, error.found, error.remedy
        findings.add(code, file=shown, found=found, expected=error.expected, remedy=remedy)
        return None


def _declared(data: HospitalData) -> dict[str, str]:
    """Header by what it is declared as."""
    assert data.columns is not None
    roles = ("patient", *INPUTS, "split", "consent", "site")
    declared = {f"columns.{role}": getattr(data.columns, role) for role in roles}
    for task, label in data.labels.items():
        declared |= {f"labels.{task}.column": label.column, f"labels.{task}.question": label.question}
    return {key: header for key, header in declared.items() if header}


def _has_columns(table: Table, data: HospitalData, findings: Findings) -> bool:
    missing = False
    for key, header in _declared(data).items():
        if header not in table.columns:
            # a file without a header line shows patients where names should be: none of them is repeated
            found = f"{counted(len(table.columns), 'column')}, none of that name"
            remedy = f"correct data.{key}, or the table's first line"
            findings.add("E-TABLE-COLUMN", file=table.name, field=header, found=found, remedy=remedy)
            missing = True
    assert data.columns is not None
    if data.columns.patient in table.numeric:
        found, expected = "fractions", "text or whole numbers"
        remedy = "export the column as text: 007 and 7 are two patients"
        findings.add(
            "E-ID-TYPE", file=table.name, field=data.columns.patient, found=found, expected=expected, remedy=remedy
        )
        missing = True
    return not missing


def _usable(table: Table, data: HospitalData, findings: Findings) -> list[Row]:
    assert data.columns is not None
    columns, missing, counts, rows = data.columns, set(data.missing), Counter[str](), []

    def cell(header: str, row: int) -> str:
        """A cell; empty where it is one of the words for nothing (an id has no such words: ``NA`` is somebody)."""
        text = table.columns[header][row] if header else ""
        return "" if text in missing else text

    for index in range(table.num_rows):
        number = index + 1
        if not any(table.columns[header][index] for header in _declared(data).values()):
            counts["blank"] += 1
            continue
        if columns.consent and table.columns[columns.consent][index] not in data.consent_given:
            counts["consent"] += 1
            continue
        patient = table.columns[columns.patient][index]
        if not patient or any(not mark.isprintable() for mark in patient):
            found = "an empty cell" if not patient else "characters that can't be seen"
            findings.add("E-ID-FORM", file=table.name, row=number, field=columns.patient, found=found, expected="an id")
            continue
        files = {role: cell(getattr(columns, role), index) for role in INPUTS}
        files = {role: name for role, name in files.items() if name}
        labels, questions = _labels(table, data, index, cell, findings, counts)
        if labels is None:
            continue
        if not labels:
            counts["unlabelled"] += 1
            continue
        given = {modality for role in files for modality in GIVES[role]}
        needed = {modality for task in labels for modality in TASKS[task].inputs}
        if not needed & given:
            remedy = "give the file, or leave the row's label empty"
            findings.add("E-ROW-INPUT", file=table.name, row=number, found="a label and no input", remedy=remedy)
            continue
        counts["partial"] += not needed <= given
        split = _split(table, data, index, findings)
        if split is None:
            continue
        rows.append(
            Row(
                table=table.name, number=number, patient=patient, files=files, labels=labels, questions=questions,
                split=split, site=cell(columns.site, index),
            )
        )  # fmt: skip
    for key, (code, noun, found, remedy) in _COUNTED.items():
        if counts[key]:
            findings.add(code, file=table.name, found=f"{counted(counts[key], noun)} {found}", remedy=remedy)
    return rows


_COUNTED = {
    "blank": ("I-ROW-BLANK", "row", "without any cell", "left out"),
    "consent": ("I-ROW-CONSENT", "row", "without a word of data.consent_given", "left out"),
    "unlabelled": ("I-ROW-UNLABELLED", "row", "without a label", "left out"),
    "partial": ("W-ROW-PARTIAL", "row", "with a label whose task needs more inputs", "that label isn't used"),
    "escaped": ("I-TEXT-ESCAPED", "question", "with special marks or control characters", "these were taken out"),
    "shortened": ("I-TEXT-SHORTENED", "question", "that is too long", "cut after 2000 characters"),
}


def _labels(
    table: Table,
    data: HospitalData,
    index: int,
    cell: Callable[[str, int], str],
    findings: Findings,
    counts: Counter[str],
) -> tuple[dict[str, str] | None, dict[str, str]]:
    """``(answers, questions)`` by task; None where a cell isn't understood."""
    labels: dict[str, str] = {}
    questions: dict[str, str] = {}
    for task, label in data.labels.items():
        text, answers = cell(label.column, index), TASKS[task].answers
        if not text:
            continue
        if label.words or answers is not None:
            words = label.words or {answer: answer for answer in answers or ()}
            if text not in words:
                found, expected = "another word", " or ".join(map(repr, words))
                remedy = f"add it to data.labels.{task}.words, or to data.missing if it says nothing"
                findings.add(
                    "E-LABEL-WORD", file=table.name, row=index + 1, field=label.column, found=found, expected=expected,
                    remedy=remedy,
                )  # fmt: skip
                return None, questions
            text = words[text]
        if answers is not None:
            labels[task] = text
            continue
        question, escaped, shortened = safe_question(cell(label.question, index))
        answer, more, longer = safe_question(text)
        counts["escaped"] += escaped or more
        counts["shortened"] += shortened or longer
        if not question:
            findings.add("E-ROW-QUESTION", file=table.name, row=index + 1, field=label.question, found="no question")
            return None, questions
        labels[task], questions[task] = answer, question
    return labels, questions


def _split(table: Table, data: HospitalData, index: int, findings: Findings) -> str | None:
    assert data.columns is not None
    if not data.columns.split:
        return ""
    words = data.splits or {split: split for split in SPLITS}
    word = table.columns[data.columns.split][index]
    if word not in words:
        found, expected = "another word", " or ".join(map(repr, words))
        field_name = data.columns.split
        findings.add("E-SPLIT-WORD", file=table.name, row=index + 1, field=field_name, found=found, expected=expected)
        return None
    return words[word]


_WAYS = {
    "E-ID-UNICODE": "forms of Unicode",
    "E-ID-SPACE": "blanks",
    "E-ID-CASE": "capitals",
    "W-ID-VARIANT": "leading zeros",
}


def _check_whole(rows: list[Row], site: SiteFile, findings: Findings) -> None:
    """What only all rows together show."""
    name = site.path.name
    if not rows:
        findings.add("E-SITE-EMPTY", file=name, found="no usable row", expected="at least one patient")
        return
    splits: dict[str, set[str]] = {}
    owners: dict[tuple[str, str], set[str]] = {}
    ids: dict[str, list[Finding]] = {}
    for row in rows:
        splits.setdefault(row.patient, set()).add(row.split)
        for role, file in row.files.items():
            owners.setdefault((role, file), set()).add(row.patient)
    torn = sum(len(names) > 1 for names in splits.values())
    if torn:
        remedy = "keep all rows of a patient in one split"
        findings.add(
            "E-PATIENT-SPLITS",
            file=name,
            found=f"{counted(torn, 'patient')} in two splits",
            expected="one",
            remedy=remedy,
        )
    shared = sum(len(patients) > 1 for patients in owners.values())
    if shared:
        remedy = "one of the rows names the wrong file or the wrong patient"
        findings.add(
            "E-FILE-SHARED",
            file=name,
            found=f"{counted(shared, 'file')} of two patients",
            expected="one",
            remedy=remedy,
        )
    for finding in check_ids(list(splits), file=name):
        ids.setdefault(finding.code, []).append(finding)
    for code, alike in ids.items():
        found, remedy = f"{counted(len(alike), 'id')} also written in another way ({_WAYS[code]})", alike[0].remedy
        findings.add(code, file=name, field="data.columns.patient", found=found, remedy=remedy)
    for task in site.data.labels:
        answers = TASKS[task].answers
        seen = {row.labels[task] for row in rows if task in row.labels}
        absent = [answer for answer in answers or () if answer not in seen]
        if absent and seen:
            found = f"no row with the answer {' or '.join(map(repr, absent))}"
            remedy = "scores that need it will be missing, with that reason"
            findings.add("W-CLASS-ABSENT", file=name, field=f"data.labels.{task}", found=found, remedy=remedy)
        elif not seen:
            findings.add("W-TASK-ABSENT", file=name, field=f"data.labels.{task}", found="no label of the task")
