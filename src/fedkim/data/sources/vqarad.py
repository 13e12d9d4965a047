"""VQA-RAD: questions that clinicians asked about radiological images, with their answers (Lau et al., Scientific Data 2018).

Two versions are around, and their scores can't be compared:

    public   VQA_RAD Dataset Public.json         2,248 questions; VQA_RAD Image Folder/synpic54610.jpg
    mevf     trainset.json testset.json          3,064 + 451 questions, of Nguyen et al. (MEVF, MICCAI 2019); images/synpic54610.jpg

    {"qid": 1, "phrase_type": "freeform", "image_name": "synpic54610.jpg", "image_organ": "CHEST", "question": "Is the …?",
     "question_type": "PRES", "answer": "No", "answer_type": "CLOSED", …}

``answer`` may be a number, ``answer_type`` ends in a blank here and there. The published test is every question whose
``phrase_type`` begins with ``test_``; its images are also in the training part. No patient is named: an image counts as one, and a split
by patient is disjoint in images.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedkim.data.findings import Findings
from fedkim.data.public_sets import PUBLIC_SETS, PublicSet, Reading
from fedkim.data.record import Input, Record
from fedkim.data.sources.published import Checker, answered, plain_name, read_list, require_files, text
from fedkim.errors import FedkimError, unknown
from fedkim.modalities import image

TASK = "vqa_rad"
FILES = {"public": ("VQA_RAD Dataset Public.json",), "mevf": ("trainset.json", "testset.json")}
FOLDERS = {"public": "VQA_RAD Image Folder", "mevf": "images"}
KEYS = ("phrase_type", "image_name", "image_organ", "question", "question_type", "answer", "answer_type")
_RELEASE = {"public": (2_248,), "mevf": (3_064, 451)}
_NUM_TEST, _NUM_IMAGES, _NUM_IMAGES_USED = 451, 315, 314


def read(root: Path, reading: Reading) -> Sequence[Record]:
    """One record a question that has an answer; questions about one image share its file.

    Raises:
        FedkimError: an unknown version or one that isn't in the folder, a file that can't be used, or missing images.
    """
    root, version = Path(root), reading.version or "public"
    if version not in FILES:
        raise unknown("version of vqarad", version, FILES)
    other = next(name for name in FILES if name != version)
    if not (root / FILES[version][0]).is_file() and (root / FILES[other][0]).is_file():
        remedy = f'[data] versions = {{ vqarad = "{other}" }}, and results get that name'
        raise FedkimError(f"folder {root}", found=f"version {other} of vqarad", expected=version, remedy=remedy)
    records = []
    for file in FILES[version]:
        entries = read_list(root / file, KEYS)
        paths = _pictures(root, version, entries, file)
        require_files(paths, f"vqarad's {file}")
        for row, (entry, path) in enumerate(zip(entries, paths), start=1):
            if answered(entry):
                records.append(_record(entry, path, f"{Path(file).stem}-{row}", version, reading.image_size))
    return records


def check(root: Path) -> Findings:
    """Keys, counts of the version that is there, missing images, questions without an answer, images in both published parts."""
    root, checker = Path(root), Checker()
    there = [version for version, files in FILES.items() if any((root / file).is_file() for file in files)]
    if not there:
        expected = " or ".join(" and ".join(repr(file) for file in files) for files in FILES.values())
        checker.findings.add("E-FILE-MISSING", found="neither version of vqarad", expected=expected)
    for version in there:
        _check_version(checker, root, version)
    return checker.findings


def _check_version(checker: Checker, root: Path, version: str) -> None:
    images: dict[str, set[str]] = {}
    num_test = 0
    for file, expected in zip(FILES[version], _RELEASE[version], strict=True):
        entries = checker.attempt(file, read_list, root / file, KEYS)
        if entries is None:
            continue
        paths = checker.attempt(file, _pictures, root, version, entries, file)
        if paths is None:
            continue
        checker.count(file, "questions", len(entries), expected)
        checker.files(file, paths)
        checker.answered(file, entries)
        for entry, path in zip(entries, paths):
            images.setdefault(_published(entry), set()).add(path.name)
            num_test += _published(entry) == "test"
    checker.count(FOLDERS[version], "test questions", num_test, _NUM_TEST)
    used = set().union(*images.values()) if images else set()
    if version == "public":
        num_files = sum(path.is_file() for path in (root / FOLDERS[version]).glob("*.jpg"))
        checker.count(FOLDERS[version], "images", num_files, _NUM_IMAGES)
        checker.count(FOLDERS[version], "images with a question", len(used), _NUM_IMAGES_USED)
    remedy = "as published; the registry's split puts every image on one side"
    checker.disjoint(images, code="W-IMAGE-IN-TWO-SPLITS", remedy=remedy)


def _record(entry: Mapping[str, Any], path: Path, name: str, version: str, size: int) -> Record:
    kinds = sorted(kind for part in text(entry["question_type"]).upper().split(",") if (kind := part.strip()))
    closed = text(entry["answer_type"]).upper() == "CLOSED"
    answer_type = "closed" if closed else "open"
    return Record(
        id=f"vqarad/{version}/{name}",
        patient=f"vqarad/{text(path.stem)}",
        inputs=(Input(path=path, read=image.read, settings={"size": size}),),
        labels={TASK: text(entry["answer"])},
        questions={TASK: text(entry["question"])},
        published_split=_published(entry),
        strata={
            "source": "vqarad",
            "version": version,
            "answer_type": answer_type,
            "question_type": "+".join(kinds),
            "organ": text(entry["image_organ"]).lower(),
            "template": f"{'+'.join(kinds)}/{answer_type}",
        },
    )


def _published(entry: Mapping[str, Any]) -> str:
    return "test" if text(entry["phrase_type"]).lower().startswith("test") else "train"


def _pictures(root: Path, version: str, entries: Sequence[Mapping[str, Any]], file: str) -> list[Path]:
    names = [text(entry["image_name"]) for entry in entries]
    for row, name in enumerate(names, start=1):
        if not plain_name(name) or "/" in name:
            found = "an image_name that is no file's name"
            raise FedkimError(f"{file}, entry {row}", found=found, code="E-VALUE")
    return [root / FOLDERS[version] / name for name in names]


VQARAD = PublicSet(
    name="vqarad",
    contents="VQA-RAD: clinicians' questions and answers about radiological images of head, chest and abdomen",
    citation="Lau et al., A dataset of clinically generated visual questions and answers about radiology images, "
    "Scientific Data 2018",
    tasks=(TASK,),
    read=read,
    check=check,
    versions=tuple(FILES),
)
PUBLIC_SETS["vqarad"] = VQARAD
