"""Records and samples of a hospital: rows turned into what the rest of the package reads.

Ids are pseudonyms, samples are called after table and row, files stay where they are. Whoever trains gets a
:class:`~fedkim.data.sample.Dataset`; nothing of it goes anywhere.
"""

import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from fedkim.data.decoding import decode
from fedkim.data.findings import LISTED, Findings
from fedkim.data.hospital.ecg_leads import tell_leads
from fedkim.data.hospital.files import confined
from fedkim.data.hospital.inputs import read_ecg_input, read_image_input, read_series_input, sample_files
from fedkim.data.hospital.row import Row
from fedkim.data.hospital.rows import read_rows
from fedkim.data.hospital.site_file import SiteFile, load_site_file
from fedkim.data.hospital.stay_tables import field_of, open_stays, series_layout
from fedkim.data.leaks import find_leaks, twins
from fedkim.data.record import Input, Record
from fedkim.data.sample import HELD_OUT, Dataset
from fedkim.data.split_registry import keyed, register, site_secret
from fedkim.data.splits import check_disjoint
from fedkim.errors import FedkimError
from fedkim.progress import Progress
from fedkim.tasks import TASKS, has_inputs

_log = logging.getLogger(__name__)

KEY_FILE = "pseudonyms.key"
"""Beside the site file: under it patients get their pseudonyms and splits. It never leaves; keep a copy."""
_LOGGED = (
    "W-UNIT",
    "W-ROW-TWICE",
    "W-SERIES-NAME",
    "W-SERIES-ABSENT",
    "W-SERIES-TWICE",
    "W-SERIES-OUTSIDE",
    "W-CONSENT-BOTH",
    "W-ECG-LEADS",
)
"""Training goes on, but nobody shall find out afterwards."""
_READERS: Mapping[str, Callable[..., Mapping[str, Tensor]]] = {
    "image": read_image_input,
    "ecg": read_ecg_input,
    "series": read_series_input,
    "stay": read_series_input,
}


def load_site(
    path: str | Path,
    *,
    image_size: int = 64,
    unseen_tasks: Collection[str] = (),
    split: str = "",
    workers: int = 1,
    progress: Progress | None = None,
) -> Dataset:
    """Everything that a site file declares, decoded.

    Patients with the same content are one person to the splits. Labels of ``unseen_tasks`` stay in development and test alone.

    Args:
        path: the ``site.toml``.
        image_size: side of an image in pixels.
        unseen_tasks: held out.
        split: where no column says it, all rows are in this one (``private`` in a federation, ``test`` for an external
            validation); empty: patients are dealt by the site's key.
        workers: of the decoding.
        progress: told of inputs decoded.

    Raises:
        FedkimError: the site file, a table or a file can't be used; ``fedkim data check`` lists everything at once.
    """
    site = load_site_file(path)
    records = read_records(site, image_size=image_size)
    try:
        tensors = decode(records, workers=workers, progress=progress, name=site.site.name)
    except FedkimError as error:
        files = {str(file) for record in records for given in record.inputs for file in (given.path, *given.companions)}
        if not error.code and not any(file in error.what for file in files):
            raise  # no file's fault: the cache, a worker
        remedy = f"fedkim data check {Path(path).name} says in which row"
        what = f"site {site.site.name}: a file" if "/" in error.what else error.what  # its name may be a patient's
        raise FedkimError(what, found=error.found, expected=error.expected, remedy=remedy, code=error.code) from None
    _check_shapes(records, tensors)
    splits = _splits(records, tensors, site, frozenset(unseen_tasks), split)
    samples = []
    for record, inputs in zip(records, tensors, strict=True):
        here = splits[record.patient]
        labels = {
            task: answer
            for task, answer in record.labels.items()
            if has_inputs(TASKS[task], inputs) and (here in HELD_OUT or task not in unseen_tasks)
        }
        if labels:
            samples.append(record.sample(inputs, split=here, labels=labels))
    check_disjoint(samples)
    return Dataset(samples, name=site.site.name)


def read_records(site: SiteFile, *, image_size: int = 64) -> list[Record]:
    """The records that a site's tables hold, in their order; no file of a patient is opened.

    The site's key is made if there is none yet.

    Raises:
        FedkimError: the tables can't be used, or a path leads out of the data folder.
    """
    if site.data.source != "hospital":
        remedy = "the recipe's own data are dealt by its federation"
        raise FedkimError(f"site {site.site.name}", found="no files of its own", remedy=remedy)
    findings = Findings()
    rows = read_rows(site, findings)
    findings.raise_for_errors(f"site {site.site.name}", LISTED)
    open_stays(rows, site, findings)
    findings.raise_for_errors(f"site {site.site.name}", LISTED)
    secret = _secret(site)
    records = [as_record(row, site, image_size=image_size, secret=secret) for row in rows]
    if not site.data.ecg.leads:
        recordings = [given.path for record in records for given in record.inputs if given.read is read_ecg_input]
        tell_leads(recordings, site.path.name, findings)
    for finding in findings:
        if finding.code in _LOGGED:
            _log.warning("site %s: %s", site.site.name, finding)
    return records


def as_record(row: Row, site: SiteFile, *, image_size: int, secret: bytes) -> Record:
    """One row as a record, its id and file names left behind.

    Raises:
        FedkimError: a path leads out of the data folder or nowhere.
    """
    inputs = []
    for role in row.files:
        try:
            inputs.append(input_of(role, row, site, image_size=image_size))
        except FedkimError as error:
            place = f"{row.table}, row {row.number}, field {field_of(role, site)!r}"
            raise FedkimError(
                place, found=error.found, expected=error.expected, remedy=error.remedy, code=error.code
            ) from None
    return Record(
        id=f"{site.site.name}/{row.table}:{row.number}",
        patient=f"{site.site.name}/{keyed(secret, 'patient', row.patient).hex()[:16]}",
        inputs=tuple(inputs),
        labels=row.labels,
        questions=row.questions,
        site=row.site or site.site.name,
        published_split=row.split,
    )


def input_of(role: str, row: Row, site: SiteFile, *, image_size: int) -> Input:
    """What one cell of a row points to.

    Raises:
        FedkimError: a path out of the data folder, or a file that isn't there.
    """
    data = site.data
    shared = role == "stay"
    name = data.series.file if shared else row.files[role]
    if role == "ecg" and not name.lower().endswith((".csv", ".hea")):
        if Path(name).suffix and not (site.files / f"{name}.hea").exists() and confined(site.files, name).is_file():
            expected, remedy = "a WFDB record (its .hea) or a .csv", "name the record without .dat, or convert the file"
            raise FedkimError(
                "an ECG", found="a file of another kind", expected=expected, remedy=remedy, code="E-ECG-FORMAT"
            )
        name += ".hea"
    path = confined(site.files, name)
    settings: dict[str, Any]
    if role == "image":
        settings = {"size": image_size} | ({"frames": data.image.frames} if data.image.frames != "refuse" else {})
    elif role == "ecg":
        settings = {"sampling_rate": data.ecg.sampling_rate, "unit": data.ecg.unit, "start": data.ecg.start}
        settings |= {"leads": list(data.ecg.leads), "missing": data.ecg.missing}
    else:
        layout = asdict(series_layout(site, shared=shared))
        settings = {"stay": row.files[role] if shared else "", "until_hour": data.series.until_hour, "layout": layout}
    companions = sample_files(path) if path.suffix == ".hea" else ()
    return Input(path=path, read=_READERS[role], settings=settings, companions=companions)


def _splits(
    records: Sequence[Record],
    tensors: Sequence[Mapping[str, Tensor]],
    site: SiteFile,
    unseen_tasks: frozenset[str],
    split: str,
) -> dict[str, str]:
    """Split by patient: the column's, or ``split``, or the keyed rule."""
    if all(record.published_split for record in records):
        leaks = find_leaks(records, twins(records, tensors), [record.published_split for record in records])
        leaks.raise_for_errors(f"site {site.site.name}", LISTED)
        return {record.patient: record.published_split for record in records}
    if split:
        return {record.patient: split for record in records}
    secret = _secret(site)
    same = twins(records, tensors)
    return dict(register(records, seed=0, unseen_tasks=unseen_tasks, same=same, secret=secret).splits)


def _secret(site: SiteFile) -> bytes:
    path = site.path.parent / KEY_FILE
    former = path.with_name(
        "site.key"
    )  # its name until 0.1; a PEM of that name is a federation's key, and another matter
    if not path.exists() and former.is_file() and re.fullmatch(rb"[0-9a-f]{64}\s*", former.read_bytes()[:100]):
        raise FedkimError(
            f"key of the pseudonyms {path}",
            found=f"none, and one beside it under its former name {former.name}",
            remedy=f"mv {former} {path}: with a new key patients would change their splits",
        )
    return site_secret(path)


def _check_shapes(records: Sequence[Record], tensors: Sequence[Mapping[str, Tensor]]) -> None:
    shapes: dict[str, tuple[int, ...]] = {}
    for record, inputs in zip(records, tensors, strict=True):
        for modality, tensor in inputs.items():
            shape = tuple(tensor.shape)
            if shapes.setdefault(modality, shape) != shape:
                raise FedkimError(
                    f"sample {record.id}: {modality}", found=f"shape {shape}", expected=f"{shapes[modality]}, as the others",
                    remedy="give all ECGs the same leads", code="E-ECG-LEADS",
                )  # fmt: skip
