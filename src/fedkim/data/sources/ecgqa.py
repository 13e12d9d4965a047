"""ECG-QA 1.0.2 on PTB-XL: 414,348 questions about ECGs (Oh et al., NeurIPS 2023 D&B, arXiv 2306.15681; CC BY 4.0).

    ecgqa/ptbxl/{template,paraphrased}/{train,valid,test}/00000.json …     10,000 questions a file (``ecgqa_questions``)
    ecgqa/ptbxl/answers.csv  answers_for_each_template.csv                 index,class · template_id,classes
    ecgqa/ptbxl/{train,valid,test}_ecgs.tsv                                index <tab> ecg_id, without a header

The recordings are PTB-XL's, and so are the patients: both sets share one registry of splits. PTB-XL is found in
``[data] roots`` under ``ptbxl``, else in a folder or link ``ptbxl`` inside this set's folder or beside it.

The paper asks about noise alone, and so does this reader: entries of ``attribute_type`` noise about one recording. Their
answer may be a list (kinds of noise, leads), which is scored as a set, or "not sure".
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fedkim.data.findings import Findings
from fedkim.data.public_sets import PUBLIC_SETS, PublicSet, Reading
from fedkim.data.record import Record
from fedkim.data.sources import ptbxl, ptbxl_table
from fedkim.data.sources.ecgqa_questions import read_questions
from fedkim.data.sources.published import Checker, read_rows
from fedkim.errors import FedkimError, unknown

TASK = "ecg_qa"
VERSIONS = ("template", "paraphrased")
SPLITS = ("train", "valid", "test")
ASKED = "noise"
"""The ``attribute_type`` that the paper's task is made of."""
NUM_QUESTIONS = {"train": 267_539, "valid": 64_663, "test": 82_146}
NUM_TEMPLATES = 70
NUM_IN_A_FILE = 10_000


def read(root: Path, reading: Reading) -> Sequence[Record]:
    """One record a question about noise, in the order of splits, files and entries; records of one ECG share its input.

    Raises:
        FedkimError: no such layout, no PTB-XL, a file that can't be used, or a question about an unknown recording.
    """
    version = reading.version or VERSIONS[0]
    if version not in VERSIONS:
        raise unknown("version of ecgqa", version, VERSIONS)
    folder = folder_of(root)
    home = ptbxl_root(root, reading.roots)
    recordings = ptbxl_table.read_recordings(home)
    by_number = {one.number: one for one in recordings}
    devices = ptbxl.device_by_patient(recordings)
    inputs: dict[int, Any] = {}
    records = []
    for split in SPLITS:
        for path, number, entry in entries_of(folder, version, split):
            if not is_asked(entry):
                continue
            ecg = entry["ecg_id"][0]
            if ecg not in by_number:
                what, expected = f"questions {path}, entry {number}", f"a recording of {home}"
                raise FedkimError(what, found="an ecg_id that PTB-XL lacks", expected=expected, code="E-CONTRADICTION")
            if ecg not in inputs:
                inputs[ecg] = ptbxl.recording_input(home, by_number[ecg])
            patient = by_number[ecg].patient
            records.append(
                Record(
                    id=f"ecgqa/{version}/{split}/{entry['sample_id']}",
                    patient=f"ptbxl/{patient}",
                    inputs=(inputs[ecg],),
                    labels={TASK: ", ".join(entry["answer"])},
                    questions={TASK: entry["question"]},
                    site=devices[patient],
                    published_split=split,
                    strata={
                        "source": "ecgqa",
                        "version": version,
                        "template": str(entry["template_id"]),
                        "type": str(entry.get("question_type", "")),
                    },
                )
            )
    if not records:
        found, expected = "no question about noise", "files of attribute_type noise"
        raise FedkimError(f"ECG-QA in {folder / version}", found=found, expected=expected, code="E-TABLE")
    return records


def is_asked(entry: Mapping[str, Any]) -> bool:
    """Whether the task asks this entry: about noise, and about one recording (two can't be one input)."""
    return entry.get("attribute_type") == ASKED and len(entry["ecg_id"]) == 1


def folder_of(root: Path) -> Path:
    """``ecgqa/ptbxl`` of the repository's clone, of its folder ``ecgqa``, or ``ptbxl`` itself.

    Raises:
        FedkimError: none of them holds ``template`` or ``paraphrased``.
    """
    root = Path(root)
    for folder in (root / "ecgqa" / "ptbxl", root / "ptbxl", root):
        if any((folder / version).is_dir() for version in VERSIONS):
            return folder
    expected = "ecgqa/ptbxl/template or paraphrased"
    raise FedkimError(f"ECG-QA in {root}", found="another layout", expected=expected, code="E-FILE-MISSING")


def ptbxl_root(root: Path, roots: Mapping[str, str]) -> Path:
    """The folder of PTB-XL's tables that belongs to the ECG-QA at ``root``.

    Raises:
        FedkimError: there is none.
    """
    if roots.get("ptbxl"):
        return Path(roots["ptbxl"])
    for folder in (Path(root) / "ptbxl", Path(root).resolve().parent / "ptbxl"):
        if (folder / ptbxl_table.DATABASE).is_file():
            return folder
    raise FedkimError(
        f"ECG-QA in {root}",
        found="no PTB-XL, whose recordings it asks about",
        remedy="name it in [data] roots as ptbxl (in a check: --root ptbxl=FOLDER), or link its folder as 'ptbxl' inside or "
        "beside this one",
        code="E-FILE-MISSING",
    )


def entries_of(folder: Path, version: str, split: str) -> Iterator[tuple[Path, int, dict[str, Any]]]:
    """File, number in it and entry, of all files of a split in order.

    Raises:
        FedkimError: a file can't be used.
    """
    for path in sorted((folder / version / split).glob("*.json"), key=lambda path: (len(path.stem), path.stem)):
        for number, entry in enumerate(read_questions(path), start=1):
            yield path, number, entry


def check(root: Path, roots: Mapping[str, str] | None = None) -> Findings:
    """Files, counts of the release, answers outside the vocabulary, ECGs and patients in two splits; opens no ECG."""
    checker = Checker()
    folder = checker.attempt(str(root), lambda: folder_of(root))
    if folder is None:
        return checker.findings
    home = checker.attempt(str(root), lambda: ptbxl_root(root, roots or {}))
    recordings = home and checker.attempt(ptbxl_table.DATABASE, lambda: ptbxl_table.scan(home)[0])
    answers = checker.attempt(
        "answers.csv", lambda: {row["class"] for row in read_rows(folder / "answers.csv", ("class",))}
    )
    patient_of = {one.number: one.patient for one in recordings or ()}
    for version in VERSIONS:
        if not (folder / version).is_dir():
            checker.findings.add("I-PART", file=version, found="no such folder: this version can't be asked")
            continue
        _check_version(folder, version, answers, patient_of, checker)
    return checker.findings


def _check_version(
    folder: Path, version: str, answers: set[str] | None, patient_of: Mapping[int, str], checker: Checker
) -> None:
    templates: set[str] = set()
    held: dict[str, set[int]] = {}
    for split in SPLITS:
        place = f"{version}/{split}"
        files = checker.attempt(place, partial(_entries_by_file, folder, version, split))
        if files is None:
            continue
        entries = [entry for held_there in files for entry in held_there]
        odd = sum(len(held_there) != NUM_IN_A_FILE for held_there in files[:-1])
        checker.count(place, f"files of other than {NUM_IN_A_FILE:,} questions, the last aside", odd, 0)
        checker.count(place, "questions", len(entries), NUM_QUESTIONS[split])
        templates |= {str(entry["template_id"]) for entry in entries}
        held[split] = {ecg for entry in entries for ecg in entry["ecg_id"]}
        if answers is not None:
            foreign = sum(not answers.issuperset(entry["answer"]) for entry in entries)
            if foreign:
                found = f"{foreign:,} questions with an answer outside answers.csv"
                checker.findings.add("E-VALUE", file=place, field="answer", found=found, expected="0")
        if pairs := sum(entry.get("attribute_type") == ASKED and not is_asked(entry) for entry in entries):
            found = f"{pairs:,} questions about noise compare two recordings and aren't asked"
            checker.findings.add("I-PART", file=place, found=found)
        if patient_of and (lost := len(held[split] - patient_of.keys())):
            checker.findings.add(
                "E-CONTRADICTION", file=place, found=f"{lost:,} recordings that PTB-XL lacks", expected="0"
            )
        _check_list(folder / f"{split}_ecgs.tsv", place, held[split], checker.findings)
    checker.count(version, "templates", len(templates), NUM_TEMPLATES)
    checker.disjoint(
        {f"{version}/{split}": map(str, ecgs) for split, ecgs in held.items()},
        code="E-CONTENT-IN-TWO-SPLITS",
        remedy="take the files as published",
    )
    if patient_of:
        checker.disjoint(
            {
                f"{version}/{split}": (patient_of[ecg] for ecg in ecgs if ecg in patient_of)
                for split, ecgs in held.items()
            },
            code="W-PATIENT-IN-TWO-SPLITS",
            remedy="the published split is by recording; the registry splits by patient",
        )


def _entries_by_file(folder: Path, version: str, split: str) -> list[list[dict[str, Any]]]:
    files: dict[Path, list[dict[str, Any]]] = {}
    for path, _, entry in entries_of(folder, version, split):
        files.setdefault(path, []).append(entry)
    return list(files.values())


def _check_list(path: Path, place: str, asked: set[int], findings: Findings) -> None:
    """Questions about recordings that the split's own list doesn't name."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            listed = {
                int(row[1]) for row in csv.reader(file, delimiter="\t") if len(row) > 1 and row[1].strip().isdigit()
            }
    except FileNotFoundError:
        findings.add("I-PART", file=path.name, found="no such file; it isn't needed")
        return
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        findings.add("E-TABLE", file=path.name, found=f"unreadable ({type(error).__name__})")
        return
    if foreign := len(asked - listed):
        findings.add(
            "E-CONTRADICTION", file=place, found=f"{foreign:,} recordings that {path.name} lacks", expected="0"
        )


ECGQA = PublicSet(
    name="ecgqa",
    contents="ECG-QA 1.0.2, its questions about noise in PTB-XL's recordings (CC BY 4.0)",
    citation="Oh et al., ECG-QA: A Comprehensive Question Answering Dataset Combined With Electrocardiogram, NeurIPS 2023",
    tasks=(TASK,),
    read=read,
    check=check,
    versions=VERSIONS,
    needs=("ptbxl",),
)
PUBLIC_SETS["ecgqa"] = ECGQA
