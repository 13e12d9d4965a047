"""NIH ChestX-ray14: frontal chest X-rays with findings mined from their reports (Wang et al., CVPR 2017).

    Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],…
    00000061_012.png,Edema|Effusion|Infiltration|Pleural_Thickening|Pneumonia,12,61,77,M,AP,3056,2544,…

The header has an unquoted comma inside ``OriginalImage[Width,Height]``, so columns are taken by name and never by number
from the right. Free to use; the NIH Clinical Center asks to be credited (https://nihcc.app.box.com/v/ChestXray-NIHCC).
Labels come from text mining, not from reading the picture anew: they are no ground truth.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fedkim.data.decoding import decode
from fedkim.data.record import Input, Record
from fedkim.errors import FedkimError
from fedkim.modalities import image

FOLDER = Path("cxr") / "nih"
TABLE = "Data_Entry_2017_v2020.csv"
NO_FINDING = "No Finding"
COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "View Position")


@dataclass(frozen=True, kw_only=True)
class Film:
    """One row of NIH's table."""

    file: str
    """``00000061_012.png``."""
    patient: str
    """``nih/61``."""
    findings: frozenset[str]
    """As NIH spells them; empty for "No Finding"."""
    view: str
    """``AP`` or ``PA``."""


def read_table(root: Path) -> tuple[Film, ...]:
    """All films of the pack at ``root``, in the table's order.

    Raises:
        FedkimError: the table is missing or unreadable, lacks a column, names a file twice or holds an unknown view.
    """
    path = Path(root) / FOLDER / TABLE
    what = f"table {path}"
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            lacking = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if lacking:
                remedy = "take Data_Entry_2017_v2020.csv as NIH publishes it"
                raise FedkimError(what, found=f"no column {lacking[0]!r}", remedy=remedy)
            films = tuple(_film(row, f"{what}, line {reader.line_num}") for row in reader)
    except FileNotFoundError:
        raise FedkimError(what, found="no such file", remedy="assemble the pack (docs/data/pack.md)") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        found = f"unreadable ({type(error).__name__})"
        raise FedkimError(what, found=found, remedy="copy the table again from its source") from None
    if not films:
        raise FedkimError(what, found="no rows", remedy="copy the table again from its source")
    if len({film.file for film in films}) != len(films):
        raise FedkimError(what, found="an image named twice", expected="one row an image", remedy="drop the copies")
    return films


def image_path(root: Path, film: Film) -> Path:
    """Where the film's picture lies."""
    return Path(root) / FOLDER / "images" / film.file


def read_film(path: Path, *, size: int) -> dict[str, Tensor]:
    """One picture as ``[1, size, size]``, prepared exactly as ``predict`` does."""
    return {"image": image.read_image(path, size)}


def read_images(root: Path, films: Sequence[Film], size: int, workers: int) -> list[Tensor]:
    """The films' pictures, decoded once and from then on mapped from the cache."""
    records = [
        Record(
            id=film.file,
            patient=film.patient,
            inputs=(Input(path=image_path(root, film), read=read_film, settings={"size": size}),),
            labels={},
        )
        for film in films
    ]
    return [inputs["image"] for inputs in decode(records, workers=workers, name="nih")]


def _film(row: dict[str, str], what: str) -> Film:
    if any(not row[column] for column in COLUMNS):
        raise FedkimError(what, found="an empty cell", remedy="copy the table again from its source")
    if row["View Position"] not in ("AP", "PA"):
        raise FedkimError(what, found="an unknown view position", expected="AP or PA")
    file = row["Image Index"]
    if Path(file).name != file:
        raise FedkimError(what, found="an image name with a folder in it", expected="a bare file name")
    return Film(
        file=file,
        patient=f"nih/{row['Patient ID']}",
        findings=frozenset(row["Finding Labels"].split("|")) - {NO_FINDING},
        view=row["View Position"],
    )
