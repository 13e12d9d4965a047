"""CheXpert: chest X-rays of Stanford with findings mined from reports; 234 read by radiologists (Irvin et al., AAAI 2019).

    CheXpert-v1.0[-small]/{train,valid}.csv
        Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,…,Support Devices
        CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP,0.0,1.0,…,0.0

As AIMI delivers it, the pictures of ``train`` lie in folders beside that of the tables, without a folder ``train``:

    chexpertchestxrays-u20210408/CheXpert-v1.0 batch 1 (validate & csv)/{train.csv,valid.csv,valid/…}
    chexpertchestxrays-u20210408/CheXpert-v1.0 batch {2 (train 1),3 (train 2),4 (train 3)}/patient00001/study1/…

A finding is 1, 0, −1 (the report is uncertain) or empty (not mentioned) in ``train``; ``valid`` has 1 and 0 alone. Versions:

- ``valid``: the 234 pictures of ``valid`` alone, as in the paper, where CheXpert is evaluated on and never trained on.
- ``train-best``, ``train-ignore``, ``train-zeros``, ``train-ones``: ``train`` as well. An uncertain finding answers nothing
  (ignore), No (zeros), Yes (ones), or Yes for atelectasis and edema and No for the rest (best, after Irvin et al.).
  A finding that isn't mentioned answers nothing, unless the report says "No Finding".
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fedkim.data.findings import Findings
from fedkim.data.public_sets import PUBLIC_SETS, PublicSet, Reading
from fedkim.data.record import Input, Record
from fedkim.data.sources.published import Checker, plain_name, read_rows, require_files, subfolder
from fedkim.errors import FedkimError, unknown
from fedkim.modalities import image

FINDINGS = {
    "enlarged_cardiomediastinum": "Enlarged Cardiomediastinum",
    "atelectasis": "Atelectasis",
    "pleural_effusion": "Pleural Effusion",
    "cardiomegaly": "Cardiomegaly",
    "consolidation": "Consolidation",
    "edema": "Edema",
}
"""Column by task."""
PAPER_COLUMNS = {
    "enlarged_cardiomediastinum": "Enlarged Cardiomediastinum",
    "atelectasis": "Atelectasis",
    "pleural_effusion": "Atelectasis",
}
"""Of the published code, which asked about an effusion and looked up the atelectasis."""
NO_FINDING = "No Finding"
COLUMNS = (
    "Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", NO_FINDING, "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity",
    "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion",
    "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
POLICIES = ("best", "ignore", "zeros", "ones")
_ONES = frozenset({"atelectasis", "edema"})
_VALUES = {"1": "1", "1.0": "1", "0": "0", "0.0": "0", "-1": "-1", "-1.0": "-1", "": ""}
_RELEASE = {"train": (223_414, 64_540), "valid": (234, 200)}
"""Images and patients."""
_DELIVERED = "chexpertchestxrays-u20210408"
_TABLES, _BATCHES = "CheXpert-v1.0 batch 1 (validate & csv)", "CheXpert-v1.0 batch * (train *)"
_LATERAL, _POSITIVE = 32, {"Enlarged Cardiomediastinum": 109, "Atelectasis": 80}
"""Of valid."""


def read(root: Path, reading: Reading) -> Sequence[Record]:
    """One record a picture; ``valid`` after ``train``, whose name stands in ``published_split``.

    Raises:
        FedkimError: an unknown version, a table that can't be used, or missing pictures.
    """
    root, version = _folder(root), reading.version or "valid"
    if version not in CHEXPERT.versions:
        raise unknown("version of chexpert", version, CHEXPERT.versions)
    policy = version.removeprefix("train-")
    records = []
    for split in ("valid",) if version == "valid" else ("train", "valid"):
        rows = read_rows(root / f"{split}.csv", ("Path", "Frontal/Lateral", "AP/PA", NO_FINDING, *FINDINGS.values()))
        paths = _pictures(root, rows, split)
        if split == "train" and not _any_there(paths):
            remedy = "unpack the batches train 1 to 3 beside that of the tables, or ask the version valid"
            raise FedkimError("pictures of chexpert's train.csv", found="none", remedy=remedy, code="E-FILE-MISSING")
        require_files(paths, f"chexpert's {split}.csv")
        for number, (row, path) in enumerate(zip(rows, paths), start=1):
            try:
                labels = answers(row, split, labels=reading.labels, policy=policy)
            except FedkimError as error:
                what = f"table {root / split}.csv, row {number}"
                raise FedkimError(what, found=error.found, expected=error.expected, code=error.code) from None
            records.append(_record(row, path, split, labels, reading.image_size, version))
    return records


def answers(row: Mapping[str, str], split: str, *, labels: str = "fixed", policy: str = "best") -> dict[str, str]:
    """What a row answers, by task. ``paper``: column == 1, whatever else stands there, and the effusion's wrong column.

    Raises:
        FedkimError: a value that CheXpert doesn't have, or an uncertain or empty one in ``valid``.
    """
    values = {column: _VALUES.get(row[column]) for column in (NO_FINDING, *FINDINGS.values())}
    for column, value in values.items():
        if value is None or (split == "valid" and value not in ("0", "1")):
            expected = "1 or 0" if split == "valid" else "1, 0, -1 or nothing"
            raise FedkimError("a row", found=f"something else in {column!r}", expected=expected, code="E-VALUE")
    if labels == "paper":
        return {task: "Yes" if values[column] == "1" else "No" for task, column in PAPER_COLUMNS.items()}
    found: dict[str, str] = {}
    for task, column in FINDINGS.items():
        value = values[column]
        if value == "" and values[NO_FINDING] == "1":
            value = "0"
        if value == "-1":
            value = {"ignore": "", "zeros": "0", "ones": "1", "best": "1" if task in _ONES else "0"}[policy]
        if value:
            found[task] = "Yes" if value == "1" else "No"
    return found


def check(root: Path) -> Findings:
    """Headers, counts, values, missing pictures, repeated rows, patients in both parts. ``train`` or its pictures may be absent."""
    root, checker = _folder(root), Checker()
    patients: dict[str, set[str]] = {}
    for split, (num_images, num_patients) in _RELEASE.items():
        file = f"{split}.csv"
        if split == "train" and not (root / file).is_file():
            checker.findings.add("I-PART", file=file, found="not there", remedy="only versions train-… need it")
            continue
        rows = checker.attempt(file, read_rows, root / file, COLUMNS)
        if rows is None:
            continue
        allowed = ("1", "1.0", "0", "0.0") if split == "valid" else tuple(_VALUES)
        for column in COLUMNS[5:]:
            checker.values(file, column, (row[column] for row in rows), allowed)
        paths = checker.attempt(file, _pictures, root, rows, split)
        if paths is None:
            continue
        if split == "train" and not _any_there(paths):
            checker.findings.add(
                "I-PART", file=file, found="none of its pictures", remedy="only versions train-… need them"
            )
        else:
            checker.files(file, paths)
        checker.unique(file, "Path", [row["Path"] for row in rows])
        patients[file] = {_patient(path) for path in paths}
        checker.count(file, "rows", len(rows), num_images)
        checker.count(file, "patients", len(patients[file]), num_patients)
        if split == "valid":
            checker.count(file, "lateral", sum(row["Frontal/Lateral"] == "Lateral" for row in rows), _LATERAL)
            for column, expected in _POSITIVE.items():
                checker.count(file, f"{column} positive", sum(_is_one(row[column]) for row in rows), expected)
    remedy = "use CheXpert's own tables: its parts share no patient"
    checker.disjoint(patients, code="E-PATIENT-IN-TWO-SPLITS", remedy=remedy)
    return checker.findings


def _record(row: Mapping[str, str], path: Path, split: str, labels: dict[str, str], size: int, version: str) -> Record:
    frontal = row["Frontal/Lateral"] == "Frontal"
    view = (row["AP/PA"] or "frontal") if frontal else "lateral"
    return Record(
        id=f"chexpert/{split}/{_patient(path)}/{path.parent.name}/{path.stem}",
        patient=f"chexpert/{_patient(path)}",
        inputs=(Input(path=path, read=image.read, settings={"size": size}),),
        labels=labels,
        site=view,
        published_split=split,
        strata={"source": "chexpert", "view": view, "version": version},
    )


def _pictures(root: Path, rows: Sequence[Mapping[str, str]], split: str) -> list[Path]:
    """The table's paths without their first folder, whose name depends on the release; or a patient's folder in its batch."""
    paths = []
    batch_of = _batches(root) if split == "train" else {}
    for number, row in enumerate(rows, start=1):
        parts = Path(row["Path"]).parts
        if not plain_name(row["Path"]) or len(parts) != 5 or parts[1] != split:
            what, found = f"table {split}.csv, row {number}", "a Path of another shape"
            expected = f"CheXpert-v1.0/{split}/patient…/study…/view….jpg"
            raise FedkimError(what, found=found, expected=expected, code="E-VALUE")
        batch = batch_of.get(parts[2])
        paths.append(batch.joinpath(*parts[2:]) if batch else root.joinpath(*parts[1:]))
    return paths


def _batches(root: Path) -> dict[str, Path]:
    """The delivered folder of each training patient; empty where they lie in ``train``."""
    if root.resolve().name != _TABLES or (root / "train").is_dir():
        return {}
    return {
        patient.name: batch for batch in sorted(root.resolve().parent.glob(_BATCHES)) for patient in batch.iterdir()
    }


def _any_there(paths: Sequence[Path]) -> bool:
    return any(path.is_file() for path in paths)


def _patient(path: Path) -> str:
    return path.parent.parent.name


def _is_one(value: str) -> bool:
    return _VALUES.get(value) == "1"


def _folder(root: Path) -> Path:
    """Where the tables are."""
    return subfolder(subfolder(Path(root), "CheXpert-v1.0", "CheXpert-v1.0-small", _DELIVERED), _TABLES)


CHEXPERT = PublicSet(
    name="chexpert",
    contents="CheXpert: chest X-rays of Stanford Hospital; by default its validation set alone, read by radiologists",
    citation="Irvin et al., CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert Comparison, AAAI 2019",
    tasks=tuple(FINDINGS),
    read=read,
    check=check,
    versions=("valid", *(f"train-{policy}" for policy in POLICIES)),
)
PUBLIC_SETS["chexpert"] = CHEXPERT
