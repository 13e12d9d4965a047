"""PTB-XL 1.0.3: 21,799 ten-second twelve-lead ECGs of 18,869 patients (Wagner et al., Scientific Data 2020; PhysioNet, CC BY 4.0).

    ptbxl_database.csv  scp_statements.csv              the tables (``ptbxl_table``)
    records100/00000/00001_lr.{hea,dat}                 WFDB, 100 samples a second, 12 leads, 1,000 samples
    records500/00000/00001_hr.{hea,dat}                 the same recording at 500

Each recording is one record with the canonical ``signal [12, 1000]``, leads in the standard order. Folds 1 to 8 are the
authors' training set, 9 their validation, 10 their test; no patient is in two of them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fedkim.data import paper_split
from fedkim.data.findings import Findings
from fedkim.data.public_sets import PUBLIC_SETS, PublicSet, Reading
from fedkim.data.record import Input, Record
from fedkim.data.sources.ptbxl_table import (
    COLUMNS,
    DATABASE,
    OLDER_THAN_89,
    STATEMENTS,
    Recording,
    read_classes,
    read_recordings,
    scan,
)
from fedkim.data.sources.published import Checker
from fedkim.errors import FedkimError
from fedkim.modalities import signal
from fedkim.modalities.signal_files import STANDARD_LEADS

PUBLISHED_SPLIT = {**dict.fromkeys(range(1, 9), "train"), 9: "validation", 10: "test"}
NUM_RECORDINGS, NUM_PATIENTS = 21_799, 18_869
NUM_BY_SUPERCLASS = {"NORM": 9_514, "MI": 5_469, "STTC": 5_235, "CD": 4_898, "HYP": 2_649}
NUM_WITHOUT = 411
"""Recordings without any superclass."""
SURE = 50.0
"""Per cent above which the published code calls a recording normal."""
EXTRA_BEATS = frozenset({"PAC", "PVC", "PRC(S)", "BIGU", "TRIGU"})
"""SCP codes of premature atrial, ventricular and other beats, and of their coming every second or third beat."""
_ECTOPIC = re.compile(r"\d*(sv|v)?es\d*", re.IGNORECASE)


def read(root: Path, reading: Reading) -> Sequence[Record]:
    """One record a recording, in the table's order.

    Raises:
        FedkimError: a table can't be used, there is neither ``records100`` nor ``records500``, or recordings are missing.
    """
    root = Path(root)
    recordings, classes = read_recordings(root), read_classes(root)
    findings = Findings()
    _check_files([recording_input(root, one) for one in recordings], findings)
    findings.raise_for_errors(f"PTB-XL in {root}")
    beats = _beats(recordings, reading.labels)
    home = device_by_patient(recordings)
    return [
        Record(
            id=f"ptbxl/{one.number}",
            patient=f"ptbxl/{one.patient}",
            inputs=(recording_input(root, one),),
            labels={"ecg_abnormal": abnormal(one.codes, classes, reading.labels)}
            | ({"ectopic_beats": beats[one.number]} if one.number in beats else {}),
            site=home[one.patient],
            published_split=PUBLISHED_SPLIT[one.fold],
            strata={"source": "ptbxl", "fold": str(one.fold), "sex": one.sex, "age": age_band(one.age)},
        )
        for one in recordings
    ]


def abnormal(codes: Mapping[str, float], classes: Mapping[str, str], labels: str = "fixed") -> str:
    """``ecg_abnormal``. fixed: No if any code is of the superclass NORM, graded or not. paper: No if NORM is above 50 %.

    They differ in recordings whose NORM is ungraded (0 %) or doubted (15, 35, 50 %): the paper's rule calls these abnormal.
    """
    normal = codes.get("NORM", 0) > SURE if labels == "paper" else any(classes.get(code) == "NORM" for code in codes)
    return "No" if normal else "Yes"


def ectopic(extra_beats: str, codes: Iterable[str] = (), *, labels: str = "fixed") -> str:
    """``ectopic_beats``: Yes, No, or empty where it can't be said.

    paper: Yes if ``es`` stands anywhere in the column ``extra_beats``. fixed: Yes if one of its words is an extrasystole (``1ES``,
    ``VES``, ``SVES``, ``VES2``) or a diagnostic code says so, graded or not; No if the column is empty and no code does. A question
    mark or other words alone (``VES?``, ``alles``, ``bigeminus``) say neither.
    """
    if labels == "paper":
        return "Yes" if "es" in extra_beats.lower() else "No"
    words = [word for word in re.split(r"[\s,;/+]+", extra_beats) if word]
    if any(_ECTOPIC.fullmatch(word) for word in words) or not EXTRA_BEATS.isdisjoint(codes):
        return "Yes"
    return "" if words else "No"


def device_by_patient(recordings: Sequence[Recording]) -> dict[str, str]:
    """The natural site of each patient: the device of the first recording (by ``ecg_id``), so that nobody is at two sites.

    The column ``site`` has gaps and dozens of tiny values; eleven devices cover everybody.
    """
    first: dict[str, str] = {}
    for one in sorted(recordings, key=lambda one: one.number):
        first.setdefault(one.patient, one.device)
    return first


def folder_of(root: Path) -> str:
    """``records100``, or ``records500`` where the copy has no other.

    Raises:
        FedkimError: there is neither.
    """
    for folder in ("records100", "records500"):
        if (Path(root) / folder).is_dir():
            return folder
    what, remedy = f"PTB-XL in {root}", "unpack the recordings beside the tables"
    raise FedkimError(what, found="neither records100 nor records500", remedy=remedy, code="E-FILE-MISSING")


def recording_input(root: Path, recording: Recording) -> Input:
    """How the recording is read: twelve leads in the standard order."""
    name = recording.file_100 if folder_of(root) == "records100" else recording.file_500
    stem = Path(root) / name
    return Input(
        path=stem.with_suffix(".hea"),
        read=signal.read_signal,
        settings={"leads": list(STANDARD_LEADS)},
        companions=(stem.with_suffix(".dat"),),
    )


def age_band(age: float | None) -> str:
    """Decades of life as tables have them; 300 is everybody above 89."""
    if age is None:
        return ""
    if age == OLDER_THAN_89 or age > 89:
        return ">89"
    return next(band for bound, band in ((40, "<40"), (60, "40-59"), (75, "60-74"), (90, "75-89")) if age < bound)


def check(root: Path) -> Findings:
    """Headers, values, counts of the release, missing or cut recordings, patients in two folds; opens one recording."""
    root, checker = Path(root), Checker()
    found = checker.attempt(DATABASE, lambda: scan(root))
    classes = checker.attempt(STATEMENTS, lambda: read_classes(root))
    if found is None:
        return checker.findings
    recordings, problems = found
    for problem in problems:
        checker.findings.add(**vars(problem))
    _check_header(root, checker.findings)
    checker.count(DATABASE, "recordings", len(recordings), NUM_RECORDINGS)
    checker.count(DATABASE, "patients", len({one.patient for one in recordings}), NUM_PATIENTS)
    if classes is not None:
        _check_classes(recordings, classes, checker)
    folds: dict[str, set[str]] = {}
    for one in recordings:
        folds.setdefault(one.patient, set()).add(PUBLISHED_SPLIT[one.fold])
    if torn := sum(len(splits) > 1 for splits in folds.values()):
        checker.findings.add(
            "E-PATIENT-IN-TWO-SPLITS", file=DATABASE, field="strat_fold", found=f"{torn:,} patients", expected="0"
        )
    if old := sum(one.age == OLDER_THAN_89 for one in recordings):
        checker.findings.add("I-AGE", file=DATABASE, field="age", found=f"{old:,} of 300, which means older than 89")
    if checker.attempt(str(root), lambda: folder_of(root)):
        inputs = [recording_input(root, one) for one in recordings]
        _check_files(inputs, checker.findings)
        _check_sizes(inputs, checker.findings)
        _check_one(inputs, float(folder_of(root).removeprefix("records")), checker.findings)
    return checker.findings


def _beats(recordings: Sequence[Recording], labels: str) -> dict[int, str]:
    answers = {one.number: ectopic(one.extra_beats, one.codes, labels=labels) for one in recordings}
    if labels != "paper":
        return {number: answer for number, answer in answers.items() if answer}
    asked: Counter[str] = Counter()
    chosen = {}
    for number in sorted(answers):
        asked[answers[number]] += 1
        if asked[answers[number]] <= paper_split.AT_MOST["ectopic_beats"]:
            chosen[number] = answers[number]
    return chosen


def _check_header(root: Path, findings: Findings) -> None:
    with (root / DATABASE).open(encoding="utf-8-sig") as file:
        header = [name.strip().strip('"') for name in file.readline().split(",")]
    if header != list(COLUMNS):
        unlike = sorted(set(header) ^ set(COLUMNS))
        found = f"{len(header)} columns, {len(unlike)} of them other ones" if unlike else "another order"
        findings.add("W-COLUMN", file=DATABASE, found=found, expected=f"the {len(COLUMNS)} of version 1.0.3")


def _check_classes(recordings: Sequence[Recording], classes: Mapping[str, str], checker: Checker) -> None:
    held = [{classes[code] for code in one.codes if code in classes} for one in recordings]
    for name, number in NUM_BY_SUPERCLASS.items():
        checker.count(DATABASE, f"recordings of {name}", sum(name in some for some in held), number)
    checker.count(DATABASE, "recordings without superclass", sum(not some for some in held), NUM_WITHOUT)
    if both := sum("NORM" in some and len(some) > 1 for some in held):
        found = f"{both:,} recordings of NORM and another superclass, which count as normal"
        checker.findings.add("I-NORM", file=DATABASE, field="scp_codes", found=found)
    if foreign := {name for name in classes.values() if name not in NUM_BY_SUPERCLASS}:
        expected = ", ".join(NUM_BY_SUPERCLASS)
        checker.findings.add(
            "E-VALUE",
            file=STATEMENTS,
            field="diagnostic_class",
            found=f"{len(foreign)} other classes",
            expected=expected,
        )


def _check_files(inputs: Sequence[Input], findings: Findings) -> None:
    missing = [row for row, one in enumerate(inputs, start=1) if not _is_there(one)]
    if missing:
        found = f"{len(missing):,} of {len(inputs):,} recordings without .hea or .dat, this row's the first"
        findings.add("E-FILE-MISSING", file=DATABASE, row=missing[0], found=found, remedy="complete the copy")


def _check_sizes(inputs: Sequence[Input], findings: Findings) -> None:
    """Recordings whose ``.dat`` is shorter or longer than its header says: a download that broke off."""
    wrong = [row for row, one in enumerate(inputs, start=1) if _is_there(one) and not _is_whole(one)]
    if wrong:
        found = f"{len(wrong):,} recordings whose .dat hasn't the bytes that its .hea tells, this row's the first"
        findings.add(
            "E-ECG-FORMAT", file=DATABASE, row=wrong[0], found=found, remedy="copy them again from their source"
        )


def _is_whole(one: Input) -> bool:
    """By the header alone: ``name leads rate samples``, then a line a lead, ``file 16 …`` for two bytes a sample."""
    try:
        lines = [
            line.split() for line in one.path.read_text(encoding="utf-8").splitlines() if line[:1] not in ("", "#")
        ]
        leads, samples = int(lines[0][1]), int(lines[0][3])
        formats = [words[1] for words in lines[1 : leads + 1]]
        size = sum(path.stat().st_size for path in one.companions)
    except (OSError, ValueError, IndexError):
        return False
    return (
        size == 2 * leads * samples or formats != ["16"] * leads
    )  # of other forms, a copy's own, the header doesn't tell the size


def _check_one(inputs: Sequence[Input], rate: float, findings: Findings) -> None:
    """The first recording that is there: its leads, rate and amplitude."""
    first = next((one for one in inputs if _is_there(one)), None)
    if first is None:
        return
    try:
        first.read(first.path, **first.settings, sampling_rate=rate)
    except FedkimError as error:
        code, place = error.code or "E-ECG-FORMAT", first.path.name
        findings.add(code, file=place, found=error.found, expected=error.expected, remedy=error.remedy)


def _is_there(one: Input) -> bool:
    return all(path.is_file() for path in (one.path, *one.companions))


PTBXL = PublicSet(
    name="ptbxl",
    contents="PTB-XL 1.0.3: ten-second twelve-lead ECGs from one German institute's devices, 1989 to 1996, with cardiologists' "
    "statements (CC BY 4.0)",
    citation="Wagner et al., PTB-XL, a large publicly available electrocardiography dataset, Scientific Data 7:154, 2020",
    tasks=("ecg_abnormal", "ectopic_beats"),
    read=read,
    check=check,
)
PUBLIC_SETS["ptbxl"] = PTBXL
