"""What a hospital's rows show only all together: repetitions and contradictions, each told once and as a count."""

import posixpath
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace

from fedkim.data.findings import Finding, Findings
from fedkim.data.hospital.row import GIVES, Row
from fedkim.data.hospital.site_file import SiteFile
from fedkim.data.hospital.words import counted
from fedkim.data.leaks import check_ids
from fedkim.tasks import TASKS, has_inputs


def each_once(rows: list[Row], site: SiteFile, findings: Findings) -> list[Row]:
    """Every answer once: rows without those that say what an earlier one says, whatever their ward, and labels likewise.

    A stay beside two films would else be two examples of what is asked about the stay.
    """
    first: dict[tuple[object, ...], Row] = {}
    for row in rows:
        said = [tuple(sorted(part.items())) for part in (_resolved(row.files), row.labels, row.questions)]
        first.setdefault((row.patient, *said, row.split), row)
    twice = len(rows) - len(first)
    if twice:
        found, remedy = f"{counted(twice, 'row')} that repeat another", "left out: each counts once"
        findings.add("W-ROW-TWICE", file=site.path.name, found=found, remedy=remedy)
    answered: set[tuple[object, ...]] = set()
    kept, again = [], 0
    for row in first.values():
        labels: dict[str, str] = {}
        for task, label in row.labels.items():
            answer = (task, label, row.questions.get(task), row.split, row.patient, *_files_of(row, task))
            labels |= {} if answer in answered else {task: label}
            answered.add(answer)
        again += len(row.labels) - len(labels)
        kept += [replace(row, labels=labels)] if labels else []
    if again:
        found = f"{counted(again, 'label')} that an earlier row has for the same files"
        findings.add("I-LABEL-TWICE", file=site.path.name, found=found, remedy="each counts once")
    return kept


def _files_of(row: Row, task: str) -> list[tuple[str, str]]:
    """The row's files that a task reads."""
    inputs = set(TASKS[task].inputs)
    return sorted((role, file) for role, file in _resolved(row.files).items() if set(GIVES[role]) & inputs)


def _resolved(files: Mapping[str, str]) -> dict[str, str]:
    """Files by one name each; a stay has an id."""
    return {role: file if role == "stay" else posixpath.normpath(file) for role, file in files.items()}


def check_together(rows: list[Row], site: SiteFile, findings: Findings) -> None:
    """Note what only all rows together show: patients in two splits, files of two patients, contradictions, answers that nobody has."""
    name = site.path.name
    if not rows:
        findings.add("E-SITE-EMPTY", file=name, found="no usable row", expected="at least one patient")
        return
    splits: dict[str, set[str]] = {}
    owners: dict[tuple[str, str], set[str]] = {}
    ids: dict[str, list[Finding]] = {}
    for row in rows:
        splits.setdefault(row.patient, set()).add(row.split)
        for role, file in _resolved(row.files).items():
            owners.setdefault((role, file), set()).add(row.patient)
    torn = sum(len(names) > 1 for names in splits.values())
    shared = Counter(role for (role, _), them in owners.items() if len(them) > 1)
    stays = shared.pop("stay", 0)
    twins = [counted(number, noun) for number, noun in ((sum(shared.values()), "file"), (stays, "stay")) if number]
    wrong = f"one of the rows names the wrong {'file' if any(shared.values()) else 'stay'} or the wrong patient"
    for code, number, found, remedy in (
        (
            "E-PATIENT-SPLITS",
            torn,
            f"{counted(torn, 'patient')} in two splits",
            "keep all rows of a patient in one split",
        ),
        ("E-FILE-SHARED", len(twins), f"{' and '.join(twins)} of two patients", wrong),
    ):
        if number:
            findings.add(code, file=name, found=found, expected="one", remedy=remedy)
    for finding in check_ids(list(splits), file=name):
        ids.setdefault(finding.code, []).append(finding)
    for code, alike in ids.items():
        found, remedy = f"{counted(len(alike), 'id')} also written in another way ({_WAYS[code]})", alike[0].remedy
        findings.add(code, file=name, field="data.columns.patient", found=found, remedy=remedy)
    for task in site.data.labels:
        both = _num_contradicted(rows, task)
        if both:
            found, where = f"{counted(both, 'input')} of a patient answered in two ways", f"data.labels.{task}"
            remedy = "correct the row that is wrong"
            findings.add("E-LABEL-CONFLICT", file=name, field=where, found=found, expected="one answer", remedy=remedy)
        answers = TASKS[task].answers
        seen = {row.labels[task] for row in rows if task in row.labels}
        absent = [answer for answer in answers or () if answer not in seen]
        if absent and seen:
            found = f"no row with the answer {' or '.join(map(repr, absent))}"
            remedy = "scores that need it will be missing, with that reason"
            findings.add("W-CLASS-ABSENT", file=name, field=f"data.labels.{task}", found=found, remedy=remedy)
        elif not seen:
            findings.add("W-TASK-ABSENT", file=name, field=f"data.labels.{task}", found="no label of the task")


_WAYS = {
    "E-ID-UNICODE": "forms of Unicode",
    "E-ID-SPACE": "blanks",
    "E-ID-CASE": "capitals",
    "W-ID-VARIANT": "leading zeros",
}


def _num_contradicted(rows: list[Row], name: str) -> int:
    """How often the same files of a patient have two answers to a task; free text may be worded in many ways."""
    task = TASKS[name]
    answers: dict[tuple[object, ...], set[str]] = defaultdict(set)
    for row in rows:
        files = _files_of(row, name)
        if name in row.labels and has_inputs(task, {modality for role, _ in files for modality in GIVES[role]}):
            answers[row.patient, *files].add(row.labels[name])
    return 0 if task.answers is None else sum(len(given) > 1 for given in answers.values())
