"""SLAKE 1.0: questions about CT, MRI and X-ray images, in English and Chinese (Liu et al., ISBI 2021).

    train.json validate.json test.json     (validation.json in some copies)
    imgs/xmlab1/source.jpg            beside it mask.png, detection.json, question.json, which aren't read

    {"img_id": 1, "img_name": "xmlab1/source.jpg", "question": "What modality is used to take this image?", "answer": "MRI",
     "q_lang": "en", "location": "Abdomen", "modality": "MRI", "answer_type": "OPEN", "base_type": "vqa", "content_type": "Modality",
     "triple": ["vhead", "_", "_"], "qid": 0}

Half of the questions are Chinese (``q_lang``): the default reads the English ones. The published parts share no image. No patient is
named: an image counts as one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedkim.data.findings import Findings
from fedkim.data.public_sets import PUBLIC_SETS, PublicSet, Reading
from fedkim.data.record import Input, Record
from fedkim.data.sources.published import Checker, answered, plain_name, read_list, require_files, subfolder, text
from fedkim.errors import FedkimError, unknown
from fedkim.modalities import image

TASK = "slake"
PARTS = ("train", "validate", "test")
LANGUAGES = ("en", "zh")
KEYS = ("img_name", "question", "answer", "q_lang", "location", "modality", "answer_type", "base_type", "content_type")
_NUM_ENGLISH = {"train": 4_919, "validate": 1_053, "test": 1_061}
_NUM_QUESTIONS, _NUM_IMAGES, _NUM_TEST = 14_028, 642, 2_094


def read(root: Path, reading: Reading) -> Sequence[Record]:
    """One record a question in the language asked for that has an answer; questions about one image share its file.

    Label rule ``paper`` takes every language, as the published code did.

    Raises:
        FedkimError: an unknown language, a file that can't be used, or missing images.
    """
    if reading.language not in (*LANGUAGES, "all"):
        raise unknown("language of slake", reading.language, (*LANGUAGES, "all"))
    root, records = _folder(root), []
    wanted = LANGUAGES if reading.labels == "paper" or reading.language == "all" else (reading.language,)
    for part in PARTS:
        file = _file(root, part)
        entries = read_list(root / file, KEYS)
        paths = _pictures(root, entries, file)
        require_files(paths, f"slake's {file}")
        for row, (entry, path) in enumerate(zip(entries, paths), start=1):
            if text(entry["q_lang"]).lower() in wanted and answered(entry):
                records.append(_record(entry, path, part, row, reading.image_size))
    return records


def check(root: Path) -> Findings:
    """Keys, counts, languages, missing images, questions without an answer, images in two published parts."""
    root, checker = _folder(root), Checker()
    images: dict[str, set[str]] = {}
    num = 0
    for part in PARTS:
        file = _file(root, part)
        entries = checker.attempt(file, read_list, root / file, KEYS)
        if entries is None:
            continue
        paths = checker.attempt(file, _pictures, root, entries, file)
        if paths is None:
            continue
        num += len(entries)
        images[file] = {str(path) for path in paths}
        languages = [text(entry["q_lang"]).lower() for entry in entries]
        checker.values(file, "q_lang", languages, LANGUAGES)
        checker.answered(file, entries)
        checker.count(file, "English questions", languages.count("en"), _NUM_ENGLISH[part])
        if part == "test":
            checker.count(file, "questions in all languages", len(entries), _NUM_TEST)
        checker.files(file, paths)
    checker.count("", "questions in all parts and languages", num, _NUM_QUESTIONS)
    used = set().union(*images.values()) if images else set()
    checker.count("imgs", "images with a question", len(used), _NUM_IMAGES)
    checker.disjoint(images, code="W-IMAGE-IN-TWO-SPLITS", remedy="the registry's split puts every image on one side")
    return checker.findings


def _record(entry: Mapping[str, Any], path: Path, part: str, row: int, size: int) -> Record:
    closed = text(entry["answer_type"]).upper() == "CLOSED"
    answer_type, content = "closed" if closed else "open", text(entry["content_type"]).lower()
    language = text(entry["q_lang"]).lower()
    return Record(
        id=f"slake/{part}-{row}",
        patient=f"slake/{text(path.parent.name)}",
        inputs=(Input(path=path, read=image.read, settings={"size": size}),),
        labels={TASK: text(entry["answer"])},
        questions={TASK: text(entry["question"])},
        published_split=part,
        strata={
            "source": "slake",
            "language": language,
            "answer_type": answer_type,
            "content_type": content,
            "base_type": text(entry["base_type"]).lower(),
            "organ": text(entry["location"]).lower(),
            "image_modality": text(entry["modality"]).lower(),
            "template": f"{content}/{answer_type}" + ("" if language == "en" else f"/{language}"),
        },
    )


def _pictures(root: Path, entries: Sequence[Mapping[str, Any]], file: str) -> list[Path]:
    names = [text(entry["img_name"]) for entry in entries]
    for row, name in enumerate(names, start=1):
        if not plain_name(name) or len(Path(name).parts) != 2:
            found, expected = "an img_name of another shape", "such as xmlab1/source.jpg"
            raise FedkimError(f"{file}, entry {row}", found=found, expected=expected, code="E-VALUE")
    return [root / "imgs" / name for name in names]


def _file(root: Path, part: str) -> str:
    other = "validation.json"
    return other if part == "validate" and (root / other).is_file() else f"{part}.json"


def _folder(root: Path) -> Path:
    return subfolder(Path(root), "Slake1.0", "SLAKE")


SLAKE = PublicSet(
    name="slake",
    contents="SLAKE: questions and answers about CT, MRI and X-ray images",
    citation="Liu et al., SLAKE: A Semantically-Labeled Knowledge-Enhanced Dataset for Medical Visual Question Answering, "
    "ISBI 2021",
    tasks=(TASK,),
    read=read,
    check=check,
)
PUBLIC_SETS["slake"] = SLAKE
