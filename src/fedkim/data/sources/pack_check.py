"""Is a copy of the real-data pack the one that the recipes and results speak of? Counts of every part, and no patient on two sides."""

from collections.abc import Callable
from pathlib import Path

from fedkim.data.findings import Findings
from fedkim.data.sources import folds, mitbih, nih, pack, pack_questions, pack_stays, pubmedqa, yaib
from fedkim.errors import FedkimError

COUNTS = {
    "films": 1000,
    "patients with a film": 682,
    "ECG records": 9,
    "windows of an ECG record": 180,
    "ECG questions": 10_000,
    "articles": 1000,
}
"""What the parts hold (docs/data/pack.md); the stays' counts are YAIB's own (:mod:`fedkim.data.sources.yaib_check`)."""


def check(root: Path) -> Findings:
    """Everything about a copy that isn't as it should be.

    Args:
        root: the pack's folder.
    """
    findings = Findings()
    parts: dict[str, Callable[[Path, Findings], None]] = {
        str(nih.FOLDER): _films,
        str(mitbih.FOLDER): _records,
        str(pack_questions.FOLDER): _questions,
        str(pubmedqa.FOLDER): _articles,
    }
    for folder, part in parts.items():
        try:
            part(root, findings)
        except FedkimError as error:
            found = ", ".join(part for part in (error.what, error.found) if part)
            expected = error.expected or "a part that can be read"
            findings.add("E-PACK-PART", file=folder, found=found, expected=expected, remedy=error.remedy)
    for finding in yaib.check(root / pack_stays.FOLDER):
        findings.put(finding)
    if not findings.errors:
        _folds(root, findings)
    return findings


def _films(root: Path, findings: Findings) -> None:
    films = nih.read_table(root)
    _count(findings, str(nih.FOLDER), "films", len(films))
    _count(findings, str(nih.FOLDER), "patients with a film", len({film.patient for film in films}))
    missing = [film for film in films if not nih.image_path(root, film).is_file()]
    if missing:
        remedy = "copy them again (docs/data/pack.md)"
        findings.add(
            "E-PACK-FILES", file=str(nih.FOLDER), found=f"{len(missing)} films without their file", remedy=remedy
        )


def _records(root: Path, findings: Findings) -> None:
    folder = Path(root) / mitbih.FOLDER
    names = sorted(path.stem for path in folder.glob("*.hea"))
    _count(findings, str(mitbih.FOLDER), "ECG records", len(names))
    for name in names:
        _count(
            findings, f"{mitbih.FOLDER}/{name}.dat", "windows of an ECG record", len(mitbih.read(root, name).windows)
        )


def _questions(root: Path, findings: Findings) -> None:
    _count(findings, str(pack_questions.FOLDER), "ECG questions", len(pack_questions.read(root)))


def _articles(root: Path, findings: Findings) -> None:
    _count(findings, str(pubmedqa.FOLDER), "articles", len(pubmedqa.load(root)))


def _folds(root: Path, findings: Findings) -> None:
    """Each fold loads, which refuses a patient in two splits, and has a patient in each of them."""
    for fold in range(folds.NUM_FOLDS):
        dataset = pack.load(pack.PackSettings(root=root, fold=fold))
        counts = {split: len(dataset.split(split)) for split in ("private", "public", "development", "test")}
        findings.add("I-PACK-FOLD", found=f"fold {fold}: " + ", ".join(f"{n:,} {split}" for split, n in counts.items()))


def _count(findings: Findings, file: str, what: str, number: int) -> None:
    if number != COUNTS[what]:
        findings.add("W-COUNT", file=file, found=f"{number:,} {what}", expected=f"{COUNTS[what]:,}")
