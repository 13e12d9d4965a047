"""Leaks: one patient, or one picture, on both sides of a split.

A leak hides in three ways: an id is written in two ways (``J 7`` and ``j 7``, composed and decomposed accents, a blank
at the end), one file is there under two names or in two formats, or two data sets hold the same picture (a COVID set whose
normal films are another set's). :func:`check_ids` finds the first, :func:`twins` the others; patients that share a content are
one *person* to the split registry, and :func:`find_leaks` says what a split that came with the data has overlooked.

Findings count and point to rows; they never repeat an id.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedkim.data.findings import Findings
from fedkim.data.fingerprints import LIKENESS, find_duplicates
from fedkim.data.record import Record

_SPACES = re.compile(r"[\s\u200b\u200c\u200d\u2060\ufeff]+")
_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")


@dataclass(frozen=True, kw_only=True)
class Twins:
    """Two records with the same content."""

    first: int
    second: int
    """Positions in the records."""
    modality: str
    exact: bool


def check_ids(patients: Sequence[str], *, file: str = "") -> Findings:
    """What is suspicious in the way patients' ids are written; one finding for each further way of writing one.

    ``E-ID-UNICODE``, ``E-ID-SPACE``, ``E-ID-CASE``: the same letters, differing in the form of Unicode, in blanks, in
    capitals. Nobody means two patients by that, so it has to be mended. ``W-ID-VARIANT``: ``007`` and ``7``; these may well be two
    patients, and are kept apart.

    Args:
        patients: the id of each row.
        file: for the findings.
    """
    findings = Findings()
    first_row: dict[str, int] = {}
    for row, patient in enumerate(patients, 1):
        first_row.setdefault(patient, row)
    first_as: dict[str, str] = {}
    for patient, row in first_row.items():
        first = first_as.setdefault(_plain(patient), patient)
        if first != patient:
            code, how = _difference(first, patient)
            findings.add(
                code,
                file=file,
                row=row,
                field="patient",
                found=f"an id that row {first_row[first]} writes differently ({how})",
                expected="one way of writing an id",
                remedy="write it alike in every row; the two would be two patients, and fall into two splits",
            )
    first_without: dict[str, str] = {}
    for key, patient in first_as.items():
        first = first_without.setdefault(_ZEROS.sub("", key), patient)
        if first != patient:
            findings.add(
                "W-ID-VARIANT",
                file=file,
                row=first_row[patient],
                field="patient",
                found=f"an id that row {first_row[first]} has with other leading zeros",
                expected="ids that keep their zeros",
                remedy="mend it if they are one patient; they are taken for two",
            )
    return findings


def _plain(patient: str) -> str:
    return _SPACES.sub("", unicodedata.normalize("NFKC", patient)).casefold()


def _difference(one: str, other: str) -> tuple[str, str]:
    """The code, and in words, what two ways of writing differ in."""
    one, other = unicodedata.normalize("NFKC", one), unicodedata.normalize("NFKC", other)
    if one == other:
        return "E-ID-UNICODE", "composed or decomposed characters"
    if _SPACES.sub("", one) == _SPACES.sub("", other):
        return "E-ID-SPACE", "blanks"
    return "E-ID-CASE", "capitals"


def twins(records: Sequence[Record], tensors: Sequence[Mapping[str, Tensor]]) -> list[Twins]:
    """Pairs of records that show the same thing under two patients, over all data sets at once.

    Pictures and waves are compared by likeness, a stay in intensive care (all its tables together) by equality. Records of
    one patient may repeat each other freely.

    Args:
        records: of all sets.
        tensors: their decoded inputs, in the same order.
    """
    found = []
    for modality, places in _comparable(tensors).items():
        firsts: dict[int, int] = {}  # an input that several records share is compared once
        distinct: list[tuple[int, Tensor]] = []
        shared = []
        for position, tensor in places:
            first = firsts.setdefault(tensor.data_ptr(), position)
            if first == position:
                distinct.append((position, tensor))
            else:
                shared.append((first, position, True))
        pairs = [
            (distinct[pair.first][0], distinct[pair.second][0], pair.exact)
            for pair in find_duplicates([tensor for _, tensor in distinct], modality)
        ]
        for first, second, exact in sorted(pairs + shared):
            if records[first].patient != records[second].patient:
                found.append(Twins(first=first, second=second, modality=modality, exact=exact))
    return found


def _comparable(tensors: Sequence[Mapping[str, Tensor]]) -> dict[str, list[tuple[int, Tensor]]]:
    """By kind: pictures, waves, and what else a record has as one flat row."""
    kinds: dict[str, list[tuple[int, Tensor]]] = defaultdict(list)
    joined: dict[tuple[int, ...], Tensor] = {}
    for position, inputs in enumerate(tensors):
        rest = []
        for modality, tensor in inputs.items():
            if modality in LIKENESS:
                kinds[modality].append((position, tensor))
            else:
                rest.append(tensor)
        if rest:
            key = tuple(tensor.data_ptr() for tensor in rest)
            if key not in joined:
                joined[key] = torch.cat([tensor.flatten() for tensor in rest])
            kinds["series"].append((position, joined[key]))
    return kinds


def persons(patients: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Who is who: each patient's representative, the first by name of all that the pairs link to them."""
    parent = {patient: patient for patient in patients}

    def root(patient: str) -> str:
        while parent[patient] != patient:
            parent[patient] = parent[parent[patient]]
            patient = parent[patient]
        return patient

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return {patient: root(patient) for patient in parent}


def find_leaks(records: Sequence[Record], same: Iterable[Twins], splits: Sequence[str]) -> Findings:
    """What stands on both sides of a split.

    ``E-LEAK-PATIENT``: one patient in two splits · ``E-LEAK-CONTENT``: one content in two splits of a task ·
    ``E-LEAK-TASK``: of two tasks, so that one task's training shows the other's test · ``E-LEAK-SET``: of two data sets.

    Args:
        records: of all sets.
        same: from :func:`twins`.
        splits: of each record.
    """
    findings = Findings()
    seen: dict[str, int] = {}
    told: set[str] = set()
    for position, (record, split) in enumerate(zip(records, splits, strict=True)):
        first = seen.setdefault(record.patient, position)
        if splits[first] != split and record.patient not in told:
            told.add(record.patient)
            findings.add(
                "E-LEAK-PATIENT",
                row=position + 1,
                field="split",
                found=f"a patient in {split} whom row {first + 1} has in {splits[first]}",
                expected="one split a patient",
                remedy="split by patient",
            )
    for pair in same:
        one, other = records[pair.first], records[pair.second]
        before, after = splits[pair.first], splits[pair.second]
        if before == after:
            continue
        if one.data_set != other.data_set:
            code, where = "E-LEAK-SET", f" of another data set, {one.data_set}"
        elif not set(one.labels) & set(other.labels):
            code, where = "E-LEAK-TASK", " for another task"
        else:
            code, where = "E-LEAK-CONTENT", ""
        findings.add(
            code,
            row=pair.second + 1,
            field=pair.modality,
            found=f"in {after} what row {pair.first + 1} has in {before}{where} ({'the same' if pair.exact else 'a copy'})",
            expected="each content in one split",
            remedy="take them for one patient",
        )
    return findings
