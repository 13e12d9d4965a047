"""RSNA Pneumonia Detection Challenge 2018: frontal X-rays of NIH ChestX-ray14, read anew by radiologists (Shih et al., 2019).

    stage_2_train_labels.csv          patientId,x,y,width,height,Target
                                      0004cfab-14fd-4e49-80ba-63a80b6bddd6,,,,,0
                                      00436515-870c-4b36-a041-de91049b9ab4,264.0,152.0,213.0,379.0,1
    stage_2_detailed_class_info.csv   patientId,class
                                      0004cfab-14fd-4e49-80ba-63a80b6bddd6,No Lung Opacity / Not Normal
    stage_2_train_images/<patientId>.dcm
    pneumonia-challenge-dataset-mappings_2018.json   RSNA's own, if you have it: which picture of NIH's an image is
                                                     [{"subset_img_id": "0004cfab-…", "img_id": "00006175_000.png", …}, …]

A ``patientId`` names an image: NIH's patients, whose number begins ``img_id``, recur under several. With the mapping they are
the unit of splitting, without it the image is.

A row is a box, not an image: an image with three boxes has three rows in both tables. Splitting rows puts one picture on both
sides; here it is one record. Classes: Lung Opacity, Normal, and the middle one of pictures that are neither.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedkim.data.findings import Findings
from fedkim.data.public_sets import PUBLIC_SETS, PublicSet, Reading
from fedkim.data.record import Input, Record
from fedkim.data.sources.published import Checker, plain_name, read_list, read_rows, require_files, subfolder, text
from fedkim.errors import FedkimError
from fedkim.modalities import dicom, image

LABELS = "stage_2_train_labels.csv"
CLASSES = "stage_2_detailed_class_info.csv"
IMAGES = "stage_2_train_images"
MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
_NIH_PICTURE = re.compile(r"(\d{8})_\d{3}\.png")
OPACITY, NORMAL, MIDDLE = "Lung Opacity", "Normal", "No Lung Opacity / Not Normal"
NUM_BY_CLASS = {OPACITY: 6_012, NORMAL: 8_851, MIDDLE: 11_821}
NUM_BY_ROWS = {1: 23_286, 2: 3_266, 3: 119, 4: 13}
"""Images by how many rows they have in either table."""
NUM_ROWS, NUM_IMAGES, NUM_BOXES = 30_227, 26_684, 9_555


@dataclass(frozen=True, kw_only=True)
class Film:
    """One image with what both tables say of it."""

    name: str
    """The table's patientId. RSNA gave one to each image: a patient with several images has several (:func:`nih_patients`)."""
    target: str
    kind: str
    num_rows: int


def read(root: Path, reading: Reading) -> Sequence[Record]:
    """One record an image, in the order of the table of labels.

    Raises:
        FedkimError: a table or the mapping can't be used, they contradict each other, or pictures are missing or no DICOM.
    """
    root = _folder(root)
    films = _films(read_rows(root / LABELS, ("patientId", "Target")), read_rows(root / CLASSES, ("patientId", "class")))
    require_files((_picture(root, film.name) for film in films), "rsna")
    patients = nih_patients(root, [film.name for film in films])
    return [_record(root, film, patients[film.name], reading) for film in films]


def answers(film: Film, view: str, labels: str = "fixed") -> dict[str, str]:
    """What a film answers. ``lung_opacity``: the two outer classes alone, under both label rules.

    The published code's mistake isn't in the rule but in splitting rows; it asks nothing else. Ours asks as well
    ``pneumonia_opacity``, the challenge's own and harder Target over all images, and the view.
    """
    found = {OPACITY: {"lung_opacity": "Yes"}, NORMAL: {"lung_opacity": "No"}}.get(film.kind, {})
    if labels == "paper":
        return found
    found = found | {"pneumonia_opacity": "Yes" if film.target == "1" else "No"}
    if view in ("AP", "PA"):
        found |= {"ap_view": "Yes" if view == "AP" else "No", "pa_view": "Yes" if view == "PA" else "No"}
    return found


def nih_patients(root: Path, names: Sequence[str]) -> dict[str, str]:
    """The patient of each image: ``nih-00006175`` by RSNA's mapping, the image itself in a folder without it.

    Raises:
        FedkimError: the mapping can't be read, or lacks an image.
    """
    if not (root / MAPPING).is_file():
        return {name: name for name in names}
    known: dict[str, str] = {}
    for row, entry in enumerate(read_list(root / MAPPING, ("subset_img_id", "img_id")), start=1):
        picture = _NIH_PICTURE.fullmatch(text(entry["img_id"]))
        if not picture:
            what, expected = f"file {root / MAPPING}, entry {row}", "such as 00006175_000.png"
            raise FedkimError(what, found="an img_id of another shape", expected=expected, code="E-VALUE")
        known[text(entry["subset_img_id"])] = f"nih-{picture[1]}"
    if lacking := sum(name not in known for name in names):
        found, remedy = f"{lacking:,} images that it lacks", "copy it again from RSNA, or take it away"
        raise FedkimError(f"file {root / MAPPING}", found=found, remedy=remedy, code="E-CONTRADICTION")
    return {name: known[name] for name in names}


def check(root: Path) -> Findings:
    """Headers, counts, contradictions between the tables, the mapping, missing pictures, and every picture's header."""
    root, checker = _folder(root), Checker()
    labels = checker.attempt(LABELS, read_rows, root / LABELS, ("patientId", "x", "y", "width", "height", "Target"))
    classes = checker.attempt(CLASSES, read_rows, root / CLASSES, ("patientId", "class"))
    if labels is None or classes is None:
        return checker.findings
    checker.values(LABELS, "Target", (row["Target"] for row in labels), ("0", "1"))
    checker.values(CLASSES, "class", (row["class"] for row in classes), tuple(NUM_BY_CLASS))
    checker.count(LABELS, "rows", len(labels), NUM_ROWS)
    checker.count(CLASSES, "rows", len(classes), NUM_ROWS)
    checker.count(LABELS, "rows with a box", sum(row["Target"] == "1" for row in labels), NUM_BOXES)
    films = checker.attempt(CLASSES, _films, labels, classes)
    if films is None:
        return checker.findings
    checker.count(LABELS, "images", len(films), NUM_IMAGES)
    for number, expected in NUM_BY_ROWS.items():
        checker.count(LABELS, f"images of {number} rows", sum(film.num_rows == number for film in films), expected)
    for kind, expected in NUM_BY_CLASS.items():
        checker.count(CLASSES, f"images of class {kind}", sum(film.kind == kind for film in films), expected)
    if not (root / MAPPING).is_file():
        checker.findings.add(
            "W-NO-PATIENT",
            file=LABELS,
            field="patientId",
            found="images without a patient: two images of one patient can end in two splits",
            remedy=f"put RSNA's {MAPPING} beside the tables (docs/data/rsna.md)",
        )
    checker.attempt(MAPPING, nih_patients, root, [film.name for film in films])
    checker.files(LABELS, (_picture(root, film.name) for film in films))
    _check_headers(checker, [path for film in films if (path := _picture(root, film.name)).is_file()])
    return checker.findings


def _films(labels: Iterable[dict[str, str]], classes: Iterable[dict[str, str]]) -> list[Film]:
    targets, kinds = _one_each(labels, "Target", LABELS), _one_each(classes, "class", CLASSES)
    num_rows = Counter(row["patientId"] for row in labels)
    if targets.keys() != kinds.keys():
        found = f"{len(targets.keys() ^ kinds.keys()):,} images in one of {LABELS} and {CLASSES} alone"
        raise FedkimError("the tables of rsna", found=found, expected="the same images in both", code="E-CONTRADICTION")
    wrong = sum((targets[name] == "1") != (kind == OPACITY) for name, kind in kinds.items())
    if wrong:
        found = f"{wrong:,} images whose Target and class contradict each other"
        expected = f"Target 1 where the class is {OPACITY!r}"
        raise FedkimError("the tables of rsna", found=found, expected=expected, code="E-CONTRADICTION")
    return [Film(name=name, target=targets[name], kind=kinds[name], num_rows=num_rows[name]) for name in targets]


def _one_each(rows: Iterable[dict[str, str]], column: str, file: str) -> dict[str, str]:
    """The value of each image, which its rows must agree on."""
    values: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        if not plain_name(row["patientId"]) or "/" in row["patientId"]:
            found = "a patientId that is no file's name"
            raise FedkimError(f"table {file}, row {number}", found=found, code="E-VALUE")
        if values.setdefault(row["patientId"], row[column]) != row[column]:
            found = f"another {column} than an earlier row of the same image"
            raise FedkimError(f"table {file}, row {number}", found=found, code="E-CONTRADICTION")
    return values


def _record(root: Path, film: Film, patient: str, reading: Reading) -> Record:
    path = _picture(root, film.name)
    view = dicom.header(path, "ViewPosition")["ViewPosition"].strip().upper()
    view = view if view in ("AP", "PA") else ""
    return Record(
        id=f"rsna/{film.name}",
        patient=f"rsna/{patient}",
        inputs=(Input(path=path, read=image.read, settings={"size": reading.image_size}),),
        labels=answers(film, view, reading.labels),
        site=view,
        strata={"source": "rsna", "class": film.kind, "view": view, "rows": str(film.num_rows)},
    )


def _check_headers(checker: Checker, paths: Sequence[Path]) -> None:
    """Every picture's header, not its pixels: how many are inverted, unreadable or without a view."""
    num_inverted = num_viewless = 0
    damaged: list[FedkimError] = []
    for path in paths:
        try:
            told = dicom.header(path, "ViewPosition", "PhotometricInterpretation")
        except FedkimError as error:
            if error.code != "E-DCM-UNREADABLE":
                raise
            damaged.append(error)
            continue
        num_inverted += told["PhotometricInterpretation"] == "MONOCHROME1"
        num_viewless += told["ViewPosition"].strip().upper() not in ("AP", "PA")
    if damaged:
        found = f"{len(damaged):,} of {len(paths):,} that are no DICOM"
        checker.findings.add("E-DCM-UNREADABLE", file=IMAGES, found=found, remedy="copy them again from their source")
    if num_inverted:
        found = f"{num_inverted:,} pictures in MONOCHROME1, which are inverted when read"
        checker.findings.add(dicom.INVERTED, file=IMAGES, found=found)
    if num_viewless:
        found = f"{num_viewless:,} pictures without a view, which have no natural site"
        checker.findings.add("W-SITE", file=IMAGES, field="ViewPosition", found=found, expected="AP or PA")


def _folder(root: Path) -> Path:
    return subfolder(Path(root), "rsna-pneumonia-detection-challenge")


def _picture(root: Path, name: str) -> Path:
    return root / IMAGES / f"{name}.dcm"


RSNA = PublicSet(
    name="rsna",
    contents="RSNA Pneumonia Detection Challenge 2018: frontal chest X-rays of NIH ChestX-ray14 with radiologists' labels",
    citation="Shih et al., Augmenting the National Institutes of Health Chest Radiograph Dataset with Expert Annotations of "
    "Possible Pneumonia, Radiology: Artificial Intelligence 2019; Wang et al., ChestX-ray8, CVPR 2017",
    tasks=("lung_opacity", "pneumonia_opacity", "ap_view", "pa_view"),
    read=read,
    check=check,
)
PUBLIC_SETS["rsna"] = RSNA
