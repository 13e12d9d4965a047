"""COVID-19 Radiography Database, version 5 (Chowdhury et al., 2020; Rahman et al., 2021): X-rays collected from many places.

    COVID-19_Radiography_Dataset/
      COVID.metadata.xlsx                    FILE NAME | FORMAT | SIZE      | URL
                                             COVID-1   | PNG    | 256*256   | https://sirm.org/category/…
      COVID/images/COVID-1.png               299 × 299; COVID/masks/ isn't read
      Normal/ Lung_Opacity/ Viral Pneumonia/ likewise

**The answer follows from the source**: nearly all "Normal" pictures are RSNA's (its whole class Normal), no COVID picture is. A model
that tells the sources apart scores like one that sees the disease, and RSNA's pictures are in two data sets under two names.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fedkim.data.findings import Findings
from fedkim.data.public_sets import PUBLIC_SETS, PublicSet, Reading
from fedkim.data.record import Input, Record
from fedkim.data.sources.published import Checker, files_with, subfolder, text
from fedkim.errors import FedkimError, install_extra
from fedkim.modalities import image

NUM_BY_CLASS = {"COVID": 3_616, "Normal": 10_192, "Lung_Opacity": 6_012, "Viral Pneumonia": 1_345}
ANSWERS = {"COVID": "Yes", "Normal": "No"}
"""Classes that answer ``covid``; the other two answer nothing, as in the published code."""
COLUMNS = ("FILE NAME", "URL")
SOURCES = {
    "rsna-pneumonia-detection-challenge": "rsna",
    "chest-xray-pneumonia": "kaggle-children",
    "bimcv": "bimcv",
    "sirm.org": "sirm",
    "eurorad": "eurorad",
    "covid-19-image-repository": "hannover",
    "covid-chestxray-dataset": "cohen",
    "covid-cxnet": "covid-cxnet",
}
"""Natural site by what stands in a picture's URL; the host's name where nothing of this does."""


def read(root: Path, reading: Reading) -> Sequence[Record]:
    """One record a picture of the classes COVID and Normal. No patient is named: each picture counts as one.

    Raises:
        FedkimError: no folder of a class, or a spreadsheet that can't be used.
    """
    root, records = _folder(root), []
    for kind, answer in ANSWERS.items():
        paths = files_with(_images(root, kind), ".png")
        if not paths:
            found, expected = f"no PNG file of class {kind}", f"{kind}/images/*.png"
            raise FedkimError(f"folder {root}", found=found, expected=expected, code="E-FILE-MISSING")
        sources = _sources(root, kind)
        for path in paths:
            name = path.stem
            source = sources.get(name.casefold(), "")
            records.append(
                Record(
                    id=f"covid/{text(name)}",
                    patient=f"covid/{text(name)}",
                    inputs=(Input(path=path, read=image.read, settings={"size": reading.image_size}),),
                    labels={"covid": answer},
                    site=source,
                    strata={"source": f"covid/{source}" if source else "covid", "class": kind},
                )
            )
    return records


def source_of(url: str) -> str:
    """The natural site that a URL of the spreadsheet stands for; empty for an empty one."""
    for part, name in SOURCES.items():
        if part in url.casefold():
            return name
    return (urlsplit(url if "//" in url else f"//{url}").hostname or "").removeprefix("www.")


def check(root: Path) -> Findings:
    """Folders, counts, spreadsheets that don't fit the folders, and how far the source gives the answer away."""
    root, checker = _folder(root), Checker()
    by_source: dict[str, set[str]] = {}
    for kind, expected in NUM_BY_CLASS.items():
        names, table = [path.stem for path in files_with(_images(root, kind), ".png")], f"{kind}.metadata.xlsx"
        if not names and kind in ANSWERS:
            checker.findings.add("E-FILE-MISSING", file=f"{kind}/images", found="no PNG file")
            continue
        checker.count(f"{kind}/images", "pictures", len(names), expected)
        checker.unique(f"{kind}/images", "name, letters' case aside", [name.casefold() for name in names])
        sources = checker.attempt(table, _sources, root, kind)
        if sources is None or kind not in ANSWERS:
            continue
        if siteless := sum(not sources.get(name.casefold()) for name in names):
            found = f"{siteless:,} of {len(names):,} pictures without a source, which have no natural site"
            checker.findings.add("W-SITE", file=table, field="URL", found=found)
        for name in names:
            by_source.setdefault(sources.get(name.casefold(), ""), set()).add(kind)
    telling = [source for source, kinds in by_source.items() if len(kinds) == 1]
    if telling:
        found = f"{len(telling)} of {len(by_source)} sources with pictures of one class alone"
        remedy = "report scores by source, and never accuracy alone"
        checker.findings.add("W-SHORTCUT", found=found, expected="both classes from each source", remedy=remedy)
    return checker.findings


def _sources(root: Path, kind: str) -> dict[str, str]:
    """Natural site by file name in lower case (the spreadsheet says NORMAL-1 of Normal-1.png); {} without a spreadsheet."""
    path = root / f"{kind}.metadata.xlsx"
    if not path.is_file():
        return {}
    rows = _rows(path)
    names = [text(cell) for cell in next(rows, ())]
    for column in COLUMNS:
        if column not in names:
            raise FedkimError(f"table {path}", found=f"no column {column!r}", code="E-COLUMN")
    name, url = (names.index(column) for column in COLUMNS)
    return {text(row[name]).casefold(): source_of(text(row[url])) for row in rows if row[name] is not None}


def _rows(path: Path) -> Iterator[tuple[Any, ...]]:
    try:
        from openpyxl import load_workbook
    except ImportError:
        remedy = install_extra("tables")
        raise FedkimError(f"table {path}", found="no package openpyxl", remedy=remedy) from None
    try:
        book = load_workbook(path, read_only=True, data_only=True)
        rows = list(book.worksheets[0].iter_rows(values_only=True))
        book.close()
    except Exception as error:  # a zip of XML: its readers raise what they like
        found, remedy = f"unreadable ({type(error).__name__})", "copy the file again from its source"
        raise FedkimError(f"table {path}", found=found, remedy=remedy, code="E-TABLE") from None
    width = max(map(len, rows), default=0)
    return iter([(*row, *(None,) * (width - len(row))) for row in rows])


def _folder(root: Path) -> Path:
    return subfolder(Path(root), "COVID-19_Radiography_Dataset")


def _images(root: Path, kind: str) -> Path:
    return subfolder(root / kind, "images")


COVID = PublicSet(
    name="covid",
    contents="COVID-19 Radiography Database: chest X-rays collected from public sources; the normal ones are mostly RSNA's",
    citation="Chowdhury et al., Can AI Help in Screening Viral and COVID-19 Pneumonia?, IEEE Access 2020; Rahman et al., "
    "Exploring the Effect of Image Enhancement Techniques on COVID-19 Detection, Computers in Biology and Medicine 2021",
    tasks=("covid",),
    read=read,
    check=check,
)
PUBLIC_SETS["covid"] = COVID
