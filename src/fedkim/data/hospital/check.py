"""The check of a hospital's data: every problem of the site file, its tables and its files, in one pass.

It opens what it must read, writes nothing and repeats no cell, id or file name of a patient.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedkim.data.findings import Findings
from fedkim.data.hospital.files import confined
from fedkim.data.hospital.records import field_of, input_of, series_layout
from fedkim.data.hospital.rows import Row, read_rows
from fedkim.data.hospital.site_file import SiteFile, read_site_file
from fedkim.data.hospital.stays import Stays, check_scale, read_stays
from fedkim.errors import FedkimError


def check(path: str | Path) -> Findings:
    """All findings about the data that the ``site.toml`` at ``path`` declares; none with ``E-`` means: it can be used.

    Tables first; files are opened once the tables are in order, since before that nobody knows which they are.
    """
    findings = Findings()
    site = read_site_file(Path(path), findings)
    if site is None or site.data.source != "files":
        return findings
    rows = read_rows(site, findings)
    if not findings.errors:
        check_files(rows, site, findings)
    if not findings.errors:
        _summary(rows, site, findings)
    return findings


def check_files(rows: Sequence[Row], site: SiteFile, findings: Findings) -> None:
    """Read every file of every row as training would."""
    seen: Counter[tuple[str, tuple[int, ...]]] = Counter()
    stays: dict[str, Stays] = {}
    unread = _without_table(site, findings)
    for row in rows:
        for role in [role for role in row.files if role not in unread]:
            name, column = row.table, field_of(role, site)
            try:
                item = input_of(role, row, site, image_size=64)
                if role in ("series", "stay"):
                    _gather(stays, item.path, site, role, row, column, findings)
                    if stays[str(item.path)].findings.errors:
                        continue  # told once for the table
                tensors = item.read(item.path, **item.settings)
                seen.update((modality, tuple(tensor.shape)) for modality, tensor in tensors.items())
            except FedkimError as error:
                findings.add(
                    error.code, file=name, row=row.number, field=column, found=error.found, expected=error.expected,
                    remedy=error.remedy,
                )  # fmt: skip
    check_scale(_medians(stays), site.path.name, findings)
    shapes = {shape for modality, shape in seen if modality == "signal"}
    if len(shapes) > 1:
        found = f"ECGs with {' and '.join(str(shape[0]) for shape in sorted(shapes))} leads"
        findings.add(
            "E-ECG-LEADS", file=site.path.name, found=found, expected="one number", remedy="give all the same leads"
        )


def _without_table(site: SiteFile, findings: Findings) -> set[str]:
    """The roles that can't be read because their shared table isn't there: told once, not for every row."""
    if not site.data.series.file:
        return set()
    try:
        confined(site.folder, site.data.series.file)
    except FedkimError as error:
        findings.add(
            error.code, file=site.path.name, field="data.series.file", found=error.found, expected=error.expected,
            remedy=error.remedy,
        )  # fmt: skip
        return {"stay"}
    return set()


def _gather(
    stays: dict[str, Stays], path: Path, site: SiteFile, role: str, row: Row, column: str, findings: Findings
) -> None:
    """Read a table of stays the first time it is met, and pass on what is wrong with it."""
    if str(path) in stays:
        return
    shared = role == "stay"
    name = site.data.series.file if shared else "a table of a stay"
    stays[str(path)] = read_stays(path, series_layout(site, shared=shared), name)
    for finding in stays[str(path)].findings:
        place = {"file": finding.file, "row": finding.row, "field": finding.field}
        if not shared:  # the file's name may be a patient's: say where it is named
            place = {"file": row.table, "row": row.number, "field": column}
        found = finding.found if shared or not finding.field else f"{finding.found} (in its column {finding.field!r})"
        findings.add(finding.code, found=found, expected=finding.expected, remedy=finding.remedy, **place)  # type: ignore[arg-type]


def _medians(stays: dict[str, Stays]) -> dict[str, float]:
    values: dict[str, list[np.ndarray]] = {}
    for table in stays.values():
        for measured in table.by_stay.values():
            for concept, (_, numbers) in measured.items():
                values.setdefault(concept, []).append(numbers)
    return {concept: float(np.median(np.concatenate(parts))) for concept, parts in values.items()}


def _summary(rows: Sequence[Row], site: SiteFile, findings: Findings) -> None:
    patients = len({row.patient for row in rows})
    labels = Counter(task for row in rows for task in row.labels)
    told = ", ".join(f"{task} {number}" for task, number in sorted(labels.items()))
    findings.add("I-SITE", file=site.path.name, found=f"{len(rows)} rows of {patients} patients; labels: {told}")
