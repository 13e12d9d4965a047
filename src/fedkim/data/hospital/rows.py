"""Rows: what each line of a hospital's tables says, with consent, labels, splits and ids settled and counted."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from fedkim.data.findings import Findings
from fedkim.data.hospital.files import confined
from fedkim.data.hospital.row import GIVES, INPUTS, Row
from fedkim.data.hospital.site_file import HospitalData, SiteFile
from fedkim.data.hospital.table import Table, read_table
from fedkim.data.hospital.together import check_together, each_once
from fedkim.data.hospital.words import counted
from fedkim.data.sample import SPLITS
from fedkim.errors import FedkimError
from fedkim.modalities.text import safe_question
from fedkim.tasks import TASKS


def read_rows(site: SiteFile, findings: Findings) -> list[Row]:
    """The usable rows of all tables; what is wrong, dropped or worth knowing goes to the findings."""
    rows: list[Row] = []
    refused: set[str] = set()
    named: set[Path] = set()
    for number, name in enumerate(site.data.tables, 1):
        shown = f"data.tables[{number}]" if not name.isprintable() or len(name) > 80 else name
        path = _table_path(site, name, shown, findings)
        if path is None:
            continue
        if path in named:
            remedy = "name it once in data.tables: each of its rows would count twice"
            findings.add("E-TABLE-TWICE", file=shown, found="a table named twice", expected="once", remedy=remedy)
            continue
        named.add(path)
        data = site.data
        table = read_table(path, findings, encoding=data.encoding, delimiter=data.delimiter, name=shown)
        if table is not None and _has_columns(table, data, findings):
            rows += _usable(table, data, findings, refused)
    if not site.files.is_dir():  # said once, not once a row
        remedy = "correct it: it begins at the site file's own folder"
        findings.add("E-FILE-MISSING", file=site.path.name, field="data.folder", found="no such folder", remedy=remedy)
    both = len(refused & {row.patient for row in rows})
    if both:
        found = f"{counted(both, 'patient')} with a row without consent beside one with it"
        remedy = "each row counts for itself; look whether a consent was withdrawn"
        findings.add("W-CONSENT-BOTH", file=site.path.name, found=found, remedy=remedy)
    if not findings.errors:
        rows = each_once(rows, site, findings)
        check_together(rows, site, findings)
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


def _usable(table: Table, data: HospitalData, findings: Findings, refused: set[str]) -> list[Row]:
    """The rows that can be used; patients of those without consent go to ``refused``."""
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
            refused.add(table.columns[columns.patient][index])
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
