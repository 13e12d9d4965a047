"""VQA-RAD: questions that clinicians asked about radiological images, with their answers (Lau et al., Scientific Data 2018).

Two versions are around, and their scores can't be compared:

    public   VQA_RAD Dataset Public.json         2,248 questions; VQA_RAD Image Folder/synpic54610.jpg
    mevf     trainset.json testset.json          3,064 + 451 questions, of Nguyen et al. (MEVF, MICCAI 2019); images/synpic54610.jpg
                                                 (the questions of the first and their wordings anew, each as an entry)

    {"qid": 1, "phrase_type": "freeform", "image_name": "synpic54610.jpg", "image_organ": "CHEST", "question": "Is the …?",
     "question_type": "PRES", "answer": "No", "answer_type": "CLOSED", …}

``answer`` may be a number, ``answer_type`` ends in a blank here and there. The published test is every question whose
``phrase_type`` begins with ``test_``; MEVF took that beginning off and put the test into a file of its own. Its images are also in the
training part. No patient is named: an image counts as one, and a split by patient is disjoint in images.
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
TEST_FILE = "testset.json"
_RELEASE = {"public": (2_248,), "mevf": (3_064, 451)}
_NUM_TEST, _NUM_IMAGES, _NUM_IMAGES_USED = 451, 315, 314


def read(root: Path, reading: Reading) -> Sequence[Record]:
    """One record a question that has an answer; questions about one image share its file.

    A question that stands there twice, word for word, of one image and with one answer, is asked once; under the label rule ``paper``
    as often as it stands there.

    Raises:
        FedkimError: an unknown version or one that isn't in the folder, a file that can't be used, or missing images.
    """
    root, version = Path(root), reading.version or "public"
    if version not in FILES:
        raise unknown("version of vqarad", version, FILES)
    other = next(name for name in FILES if name != version)
    there = _there(root)
    if other in there and version not in there:
        remedy = f'[data] versions = {{ vqarad = "{other}" }}, and results get that name'
        found = f"the files of version {other} of vqarad alone"
        raise FedkimError(f"folder {root}", found=found, expected=version, remedy=remedy)
    if not there:
        raise _neither(root)
    records = []
    for file in FILES[version]:
        entries = read_list(root / file, KEYS)
        paths = _pictures(root, version, entries, file)
        require_files(paths, f"vqarad's {file}")
        again = _again(entries, file) if reading.labels != "paper" else set()
        for row, (entry, path) in enumerate(zip(entries, paths), start=1):
            if answered(entry) and row not in again:
                name = f"{Path(file).stem}-{row}"
                records.append(_record(entry, path, name, version, _published(entry, file), reading.image_size))
    return records


def check(root: Path) -> Findings:
    """Keys, counts of the version that is there, missing images, questions without an answer or twice, images in both published parts."""
    root, checker = Path(root), Checker()
    there = _there(root)
    if not there:
        checker.findings.add_error(_neither(root), file=str(root), code="E-FILE-MISSING")
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
        if again := _again(entries, file):
            found = f"{len(again):,} questions that an earlier entry asks of the same image, with the same answer; this row's the first"
            checker.findings.add("I-QUESTION-TWICE", file=file, row=min(again), found=found, remedy="asked once")
        for entry, path in zip(entries, paths):
            images.setdefault(_published(entry, file), set()).add(path.name)
            num_test += _published(entry, file) == "test"
    used = set().union(*images.values()) if images else set()
    if version == "public":
        checker.count(FILES[version][0], "test questions", num_test, _NUM_TEST)
        num_files = sum(path.is_file() for path in (root / FOLDERS[version]).glob("*.jpg"))
        checker.count(FOLDERS[version], "images", num_files, _NUM_IMAGES)
        checker.count(FOLDERS[version], "images with a question", len(used), _NUM_IMAGES_USED)
    remedy = "as published; the registry's split puts every image on one side"
    checker.disjoint(images, code="W-IMAGE-IN-TWO-SPLITS", remedy=remedy)


def _record(entry: Mapping[str, Any], path: Path, name: str, version: str, published: str, size: int) -> Record:
    kinds = sorted(kind for part in text(entry["question_type"]).upper().split(",") if (kind := part.strip()))
    closed = text(entry["answer_type"]).upper() == "CLOSED"
    answer_type = "closed" if closed else "open"
    return Record(
        id=f"vqarad/{version}/{name}",
        patient=f"vqarad/{text(path.stem)}",
        inputs=(Input(path=path, read=image.read, settings={"size": size}),),
        labels={TASK: text(entry["answer"])},
        questions={TASK: text(entry["question"])},
        published_split=published,
        strata={
            "source": "vqarad",
            "version": version,
            "answer_type": answer_type,
            "question_type": "+".join(kinds),
            "organ": text(entry["image_organ"]).lower(),
            "template": f"{'+'.join(kinds)}/{answer_type}",
        },
    )


def _published(entry: Mapping[str, Any], file: str) -> str:
    test = file == TEST_FILE or text(entry["phrase_type"]).lower().startswith("test_")
    return "test" if test else "train"


def _again(entries: Sequence[Mapping[str, Any]], file: str) -> set[int]:
    """Rows whose question, image, answer and published part are an earlier one's."""
    seen: set[tuple[str, ...]] = set()
    rows = set()
    for row, entry in enumerate(entries, start=1):
        asked = (_published(entry, file), *(text(entry[key]) for key in ("image_name", "question", "answer")))
        if asked in seen:
            rows.add(row)
        seen.add(asked)
    return rows


def _there(root: Path) -> list[str]:
    """The versions of which any file is there."""
    return [version for version, files in FILES.items() if any((root / file).is_file() for file in files)]


def _neither(root: Path) -> FedkimError:
    expected = " or ".join(" and ".join(repr(file) for file in files) for files in FILES.values())
    found, remedy = "neither version of vqarad", "take one of them (docs/data/vqarad.md)"
    if any(path for folder in (root, root / "data") for path in folder.glob("*.parquet")):
        found = "parquet files, such as Hugging Face's copy, which name no image and no kind of question"
    return FedkimError(f"folder {root}", found=found, expected=expected, remedy=remedy, code="E-FILE-MISSING")


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
