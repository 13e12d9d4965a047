r"""The lists of the FEDMEKI benchmark, turned into a hospital's table and site file.

``<set>_client.json``, ``…_valid.json``, ``…_server.json`` and ``…_test.json`` each hold a list of::

    {"modality_path": "images/0004cfab.png",
     "conversations": [{"from": "question", "value": "<image>\nBased on this image, is the patient COVID-19 positive?"},
                       {"from": "answer", "value": "Answer: Yes"}],
     "task_type": "The COVID-19 prediction task involves …", "modalities": "Image only"}

The format knows no patients: a file is the unit of splitting, and two films of one patient can't be told. Rows that can't be
used are dropped and counted, never mended; a file that stands on both sides of a split stays on the held-out side alone.
Source: FEDMEKI, arXiv 2408.09227, and the preprocessing scripts published with it.
"""

import csv
import io
import json
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from fedkim.data.findings import Findings
from fedkim.data.hospital.files import confined, open_regular
from fedkim.data.hospital.words import counted
from fedkim.errors import FedkimError
from fedkim.modalities.text import safe_question
from fedkim.tasks import TASKS

LARGEST = 1 << 30
"""Bytes of one list."""
SPLITS: Mapping[str, str] = {"client": "private", "valid": "development", "server": "public", "test": "test"}
"""Our split by the ending of a list's name."""
_HELD_OUT = ("test", "development", "public", "private")
"""From the most to the least held out."""
_QUESTIONS: Mapping[str, str] = {
    "assess this ct image: should it be classified as lung opacity?": "lung_opacity",
    "assess this x-ray: should it be classified as lung opacity?": "lung_opacity",
    "based on this image, is the patient covid-19 positive?": "covid",
    "is the given ecg abnormal?": "ecg_abnormal",
    "does this image show evidence of enlarged cardiomediastinum?": "enlarged_cardiomediastinum",
    "does this image show evidence of atelectasis?": "atelectasis",
    "does this image show evidence of pleural effusion?": "pleural_effusion",
    "does the given ecg contain ectopic beats?": "ectopic_beats",
    "based on these clinical features, will mortality occur in this patient?": "mortality",
    "based on these clinical features, will sepsis occur in this patient?": "sepsis",
}
_FREE: Mapping[str, str] = {"rad": "vqa_rad", "vqarad": "vqa_rad", "slake": "slake", "ecgqa": "ecg_qa"}
"""Free-text task by the beginning of a list's name."""
_PICKLES = (".pt", ".pth", ".pkl", ".npy", ".npz")
_NAME = re.compile(r"(?P<set>.+)_(?P<part>client|valid|server|test)\.json")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One row of a list that can be used."""

    path: str
    """Below the root."""
    task: str
    answer: str
    question: str
    split: str


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import made of the lists."""

    site_file: Path
    counts: Mapping[str, Mapping[str, int]]
    """Rows by task and split."""
    findings: Findings = field(default_factory=Findings)


def import_fedmeki(files: Sequence[str | Path], *, root: str | Path, out: str | Path) -> Imported:
    """Write ``manifest.csv`` and ``site.toml`` into ``out`` for the lists ``files``, whose paths start at ``root``.

    Raises:
        FedkimError: a list can't be read, none of its rows can be used, or ``out`` holds an import already.
    """
    root, out, findings = Path(root), Path(out), Findings()
    if not root.is_dir():
        raise FedkimError(f"root {root}", found="no such folder", expected="where the lists' paths start")
    if not files:
        raise FedkimError("lists to import", found="none", expected="files such as covid_client.json")
    items = [item for file in files for item in _items(Path(file), root, findings)]
    findings.raise_for_errors("FEDMEKI lists")
    items = _apart(_agreeing(_once(items, findings), findings), findings)
    if not items:
        told = "; ".join(str(finding) for finding in findings)
        raise FedkimError("FEDMEKI lists", found="no row that can be used", remedy=told or "check the lists")
    if any(item.task == "pleural_effusion" for item in items):
        findings.add(
            "W-FEDMEKI-EFFUSION", found="answers about pleural effusion", expected="the finding's own column",
            remedy="in the published pf lists they are the Atelectasis column's: make them anew or leave the task out",
        )  # fmt: skip
    site_file = _write(items, root, out)
    counts: dict[str, Counter[str]] = {}
    for item in items:
        counts.setdefault(item.task, Counter())[item.split] += 1
    return Imported(site_file=site_file, counts=counts, findings=findings)


def parse_answer(text: str, answers: Sequence[str] | None) -> str | None:
    """The answer in ``text``; None where it isn't exactly one of ``answers`` (None: any words).

    ``Answer: Yes`` and ``yes`` are Yes; ``Yes and No``, ``normal`` and an empty answer are nothing.
    """
    words = " ".join(unicodedata.normalize("NFC", text).split())
    words = re.sub(r"^answer\s*:\s*", "", words, flags=re.IGNORECASE).strip()
    if answers is None:
        return safe_question(words)[0] or None
    return next((answer for answer in answers if answer.lower() == words.lower()), None)


def _items(file: Path, root: Path, findings: Findings) -> Iterator[Item]:
    """The usable rows of one list; the others are counted by what is wrong with them."""
    match = _NAME.fullmatch(file.name)
    if match is None:
        expected = "a name such as covid_client.json, …_valid, …_server or …_test"
        findings.add("E-FEDMEKI-NAME", file=file.name, found="another name", expected=expected)
        return
    content = open_regular(file, file.name, findings, largest=LARGEST)
    if content is None:
        return
    try:
        rows = json.loads(content)
        if not isinstance(rows, list):
            raise TypeError
    except (ValueError, TypeError, RecursionError):
        findings.add("E-FEDMEKI-JSON", file=file.name, found="no JSON list", expected="a list of rows")
        return
    counts: Counter[str] = Counter()
    for row in rows:
        item = _item(row, match["set"].lower(), SPLITS[match["part"]], root)
        if isinstance(item, Item):
            yield item
        else:
            counts[item] += 1
    for code, number in sorted(counts.items()):
        found, remedy = _DROPPED[code]
        findings.add(code, file=file.name, found=f"{counted(number, 'row')} {found}", remedy=f"left out; {remedy}")


_DROPPED = {
    "W-FEDMEKI-ROW": ("of another form", "a row has modality_path and a question with its answer"),
    "W-FEDMEKI-TASK": ("of an unknown task", "the question is none of the benchmark's"),
    "W-FEDMEKI-ANSWER": ("without a clear answer", "it must be one of the task's, and nothing else"),
    "W-FEDMEKI-TENSOR": ("with a pickled tensor", "opening one runs its code; use the hourly tables it was made from"),
    "W-FEDMEKI-FILE": ("whose file isn't below the root", "check --root"),
    "W-FEDMEKI-INPUT": ("without a file", "the task needs one"),
}


def _item(row: Any, name: str, split: str, root: Path) -> Item | str:
    """A usable row, or the code of why it isn't one."""
    try:
        path = row["modality_path"]
        said = {turn["from"]: turn["value"] for turn in row["conversations"]}
        question, answer = said["question"], said["answer"]
    except (KeyError, TypeError):
        return "W-FEDMEKI-ROW"
    if not isinstance(question, str) or not isinstance(answer, str | int) or not isinstance(path, str | None):
        return "W-FEDMEKI-ROW"
    words = " ".join(re.sub(r"^\s*(?:<\w+>\s*)+", "", question).split())
    task = _QUESTIONS.get(words.lower()) or next((t for start, t in _FREE.items() if name.startswith(start)), None)
    if task is None:
        return "W-FEDMEKI-TASK"
    parsed = parse_answer(str(answer), TASKS[task].answers)
    asked = safe_question(words)[0]
    if parsed is None or not asked:
        return "W-FEDMEKI-ANSWER"
    if not path:
        return "W-FEDMEKI-INPUT"
    if PurePosixPath(path).suffix.lower() in _PICKLES:
        return "W-FEDMEKI-TENSOR"
    below = _below(path, root, signal="signal" in TASKS[task].modalities)
    if below is None:
        return "W-FEDMEKI-FILE"
    return Item(path=below, task=task, answer=parsed, question=asked, split=split)


def _below(path: str, root: Path, *, signal: bool) -> str | None:
    """The path as it is below ``root``: on other machines lists name folders that nobody else has, so they may be cut off."""
    if not PurePosixPath(path).name:
        return None
    name = (
        str(PurePosixPath(path).with_suffix(".hea")) if signal and not path.lower().endswith((".hea", ".csv")) else path
    )
    parts = [part for part in PurePosixPath(posixpath.normpath(name)).parts if part not in ("/", ".")]
    for start in range(len(parts)):
        below = "/".join(parts[start:])
        try:
            confined(root, below)
        except FedkimError:
            continue
        return unicodedata.normalize("NFC", below) if below.isprintable() and below == below.strip() else None
    return None


def _once(items: list[Item], findings: Findings) -> list[Item]:
    """Each row once: one list repeats a picture for every box that was drawn in it."""
    kept = list(dict.fromkeys(items))
    if len(kept) < len(items):
        found = f"{counted(len(items) - len(kept), 'row')} more than once"
        findings.add("I-FEDMEKI-TWICE", found=found, remedy="each is kept once")
    return kept


def _agreeing(items: list[Item], findings: Findings) -> list[Item]:
    """Without the rows that answer one question about one file in two ways."""
    answers: dict[tuple[str, str, str], set[str]] = {}
    for item in items:
        answers.setdefault((item.path, item.task, item.question), set()).add(item.answer)
    kept = [item for item in items if len(answers[item.path, item.task, item.question]) == 1]
    if len(kept) < len(items):
        found = f"{counted(len(items) - len(kept), 'row')} that contradict another"
        findings.add("W-FEDMEKI-CONFLICT", found=found, remedy="left out")
    return kept


def _apart(items: list[Item], findings: Findings) -> list[Item]:
    """Each file in its most held-out split alone, over all tasks; what the lists mixed up is told."""
    splits: dict[str, set[str]] = {}
    for item in items:
        splits.setdefault(item.path, set()).add(item.split)
    home = {path: next(split for split in _HELD_OUT if split in names) for path, names in splits.items()}
    for split in _HELD_OUT[:-1]:
        mixed = {path for path, names in splits.items() if home[path] == split and len(names) > 1}
        if mixed:
            all_here = sum(split in names for names in splits.values())
            found = f"{len(mixed):,} of the {counted(all_here, 'file')} of {split} also in another split"
            dropped = sum(item.path in mixed and item.split != split for item in items)
            remedy = f"{counted(dropped, 'row')} left out of the other splits"
            findings.add("W-FEDMEKI-LEAK", found=found, expected="each in one", remedy=remedy)
    return [item for item in items if item.split == home[item.path]]


def _write(items: Sequence[Item], root: Path, out: Path) -> Path:
    tasks = sorted({item.task for item in items})
    closed = [task for task in tasks if TASKS[task].answers is not None]
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for item in items:
        free = TASKS[item.task].answers is None
        key = (item.path, item.task if free else "", item.question if free else "")
        row = rows.setdefault(key, {"patient": item.path, "split": item.split})
        row["ecg" if "signal" in TASKS[item.task].modalities else "image"] = item.path
        row[item.task] = item.answer
        if free:
            row[f"{item.task} question"] = item.question
    roles = [role for role in ("image", "ecg") if any(role in row for row in rows.values())]
    free_columns = [name for task in tasks if task not in closed for name in (task, f"{task} question")]
    header = ["patient", "split", *roles, *closed, *free_columns]
    lines = ["[site]", 'name = "fedmeki"', "", "[data]", 'tables = ["manifest.csv"]']
    lines += [f"folder = {json.dumps(str(root.resolve()), ensure_ascii=False)}", "", "[data.columns]"]
    lines += [f'{role} = "{role}"' for role in ("patient", "split", *roles)]
    for task in tasks:
        lines += ["", f"[data.labels.{task}]", f'column = "{task}"']
        lines += [] if task in closed else [f'question = "{task} question"']
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    made: list[Path] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in (("manifest.csv", buffer.getvalue()), ("site.toml", "\n".join(lines) + "\n")):
            with open(out / name, "x", encoding="utf-8") as file:
                made.append(out / name)
                file.write(text)
    except BaseException as error:
        for path in made:  # half of the two would be in the way of the next try
            path.unlink()
        if not isinstance(error, OSError):
            raise
        there = isinstance(error, FileExistsError)
        found = "files of that name" if there else error.strerror or "not writable"
        raise FedkimError(
            f"folder {out}", found=found, expected="none" if there else "", remedy="choose another --out"
        ) from None
    return out / "site.toml"
