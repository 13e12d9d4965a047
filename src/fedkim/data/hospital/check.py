"""The check of a hospital's data: every problem of the site file, its tables and its files, in one pass.

It opens what it must read, writes nothing and repeats no cell, id or file name of a patient.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from fedkim.data.findings import Findings
from fedkim.data.hospital.ecg_leads import tell_leads
from fedkim.data.hospital.records import input_of
from fedkim.data.hospital.row import Row
from fedkim.data.hospital.rows import read_rows
from fedkim.data.hospital.site_file import SiteFile, read_site_file
from fedkim.data.hospital.stay_tables import field_of, open_stays
from fedkim.data.hospital.words import counted
from fedkim.data.leaks import find_leaks, twins
from fedkim.data.record import Record
from fedkim.errors import FedkimError
from fedkim.modalities import dicom
from fedkim.modalities.concepts import CONCEPTS


def check(path: str | Path) -> Findings:
    """All findings about the data that the ``site.toml`` at ``path`` declares; none with ``E-`` means: it can be used.

    Tables first; files are opened once the tables are in order, since before that nobody knows which they are.
    """
    findings = Findings()
    site = read_site_file(Path(path), findings)
    if site is None or site.data.source != "hospital":
        return findings
    rows = read_rows(site, findings)
    if not findings.errors:
        check_files(rows, site, findings)
    if not findings.errors:
        _summary(rows, site, findings)
    return findings


def check_files(rows: Sequence[Row], site: SiteFile, findings: Findings) -> None:
    """Read every file of every row as training would."""
    tensors: list[dict[str, Tensor]] = []
    recordings: list[Path] = []
    inverted = 0
    unread = open_stays(rows, site, findings)
    for row in rows:
        tensors.append({})
        for role in row.files:
            name, column = row.table, field_of(role, site)
            if (role, row.files[role]) in unread or (role == "stay" and ("stay", "") in unread):
                continue  # told already
            try:
                item = input_of(role, row, site, image_size=64)
                tensors[-1] |= item.read(item.path, **item.settings)
                recordings += [item.path] if role == "ecg" else []
                inverted += role == "image" and _is_inverted(item.path)
            except FedkimError as error:
                findings.add(
                    error.code, file=name, row=row.number, field=column, found=error.found, expected=error.expected,
                    remedy=error.remedy,
                )  # fmt: skip
    _tell_inverted(inverted, site, findings)
    if not site.data.ecg.leads:
        tell_leads(recordings, site.path.name, findings)
    if not findings.errors:
        _check_twins(rows, tensors, site, findings)
        _tell_unmeasured(tensors, site, findings)
        _tell_flat(tensors, site, findings)
    shapes = {tuple(inputs["signal"].shape) for inputs in tensors if "signal" in inputs}
    if len(shapes) > 1:
        found = f"ECGs with {' and '.join(str(shape[0]) for shape in sorted(shapes))} leads"
        findings.add(
            "E-ECG-LEADS", file=site.path.name, found=found, expected="one number", remedy="give all the same leads"
        )


def _tell_inverted(inverted: int, site: SiteFile, findings: Findings) -> None:
    if inverted:
        found = f"{counted(inverted, 'DICOM file')} with white for nothing (MONOCHROME1)"
        findings.add("I-DCM-INVERTED", file=site.path.name, found=found, remedy="turned, so that dense is bright")


def _tell_unmeasured(tensors: Sequence[dict[str, Tensor]], site: SiteFile, findings: Findings) -> None:
    """Groups of measurements that no stay has: they are zeros to a model, and count as inputs all the same."""
    for modality in CONCEPTS:
        given = [inputs[modality] for inputs in tensors if modality in inputs]
        if given and not any(tensor.any() for tensor in given):
            found, remedy = f"nothing measured in the {modality} of any stay", "their hours are zeros"
            findings.add("I-SERIES-EMPTY", file=site.path.name, field="data.series", found=found, remedy=remedy)


def _tell_flat(tensors: Sequence[dict[str, Tensor]], site: SiteFile, findings: Findings) -> None:
    """Leads without any signal, which are zeros to a model."""
    flat = [(int((~ecg.any(1)).sum()), len(ecg)) for inputs in tensors if (ecg := inputs.get("signal")) is not None]
    affected = [pair for pair in flat if pair[0]]
    if affected:
        lines = "flat leads" if site.data.ecg.missing == "refuse" else "flat or missing leads"
        found = f"{counted(len(affected), 'ECG')} with {lines}, up to {max(affected)[0]} of {max(affected)[1]}"
        remedy = "they are zeros to a model; look whether an electrode was off or the export left them out"
        findings.add("W-ECG-FLAT", file=site.path.name, field=field_of("ecg", site), found=found, remedy=remedy)


def _is_inverted(path: Path) -> bool:
    with open(path, "rb") as file:
        if not dicom.is_dicom(file.read(132)):
            return False
    return dicom.header(path, "PhotometricInterpretation")["PhotometricInterpretation"].strip() == "MONOCHROME1"


def _check_twins(rows: Sequence[Row], tensors: Sequence[dict[str, Tensor]], site: SiteFile, findings: Findings) -> None:
    """The same content under two patients: merged by the split registry, forbidden where the splits are declared."""
    records = [
        Record(id=f"site/{place}", patient=row.patient, inputs=(), labels=row.labels) for place, row in enumerate(rows)
    ]
    same = twins(records, tensors)
    if not same:
        return
    declared = any(row.split for row in rows)
    leaks = find_leaks(records, same, [row.split for row in rows]) if declared else Findings()
    for code, number in sorted(Counter(finding.code for finding in leaks).items()):
        found = f"{counted(number, 'pair')} of rows with the same content in two splits"
        findings.add(code, file=site.path.name, found=found, expected="each in one", remedy="they may be one patient's")
    found = f"{counted(len(same), 'pair')} of rows of two patients with the same content"
    remedy = "they are kept in one split; look whether they are one patient's"
    findings.add("W-CONTENT-TWICE", file=site.path.name, found=found, remedy=remedy)


def _summary(rows: Sequence[Row], site: SiteFile, findings: Findings) -> None:
    patients = len({row.patient for row in rows})
    labels = Counter(task for row in rows for task in row.labels)
    told = ", ".join(f"{task} {number}" for task, number in sorted(labels.items()))
    findings.add("I-SITE", file=site.path.name, found=f"{len(rows)} rows of {patients} patients; labels: {told}")
