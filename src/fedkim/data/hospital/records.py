"""Records and samples of a hospital: rows turned into what the rest of the package reads.

Ids are pseudonyms, samples are called after table and row, files stay where they are. Whoever trains gets a
:class:`~fedkim.data.sample.Dataset`; nothing of it goes anywhere.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from fedkim.data.findings import Findings
from fedkim.data.hospital.files import confined
from fedkim.data.hospital.inputs import layout_of, read_ecg_input, read_image_input, read_series_input
from fedkim.data.hospital.pseudonyms import pseudonym, site_key
from fedkim.data.hospital.rows import Row, read_rows
from fedkim.data.hospital.site_file import SiteFile, load_site_file
from fedkim.data.hospital.stays import Layout
from fedkim.data.record import Input, Record
from fedkim.data.sample import Dataset, Sample
from fedkim.data.splits import assign_splits, check_disjoint
from fedkim.errors import FedkimError
from fedkim.tasks import TASKS

_READERS: Mapping[str, Callable[..., Mapping[str, Tensor]]] = {
    "image": read_image_input,
    "ecg": read_ecg_input,
    "series": read_series_input,
    "stay": read_series_input,
}


def load_site(
    path: str | Path, *, image_size: int = 64, seed: int = 0, unseen_tasks: Iterable[str] = (), split: str = ""
) -> Dataset:
    """Everything that a site file declares, decoded.

    Args:
        path: the ``site.toml``.
        image_size: side of an image in pixels.
        seed: of the rule that deals patients to splits where no column does.
        unseen_tasks: held out: their labels serve development and test alone.
        split: where no column says it, all rows are in this one instead (``private`` in a federation, ``test`` for an
            external validation).

    Raises:
        FedkimError: the site file, a table or a file can't be used; ``fedkim data check`` lists everything at once.
    """
    site = load_site_file(path)
    records = read_records(site, image_size=image_size, create_key=True)
    splits = _splits(records, seed=seed, unseen_tasks=frozenset(unseen_tasks), split=split)
    samples = [_decoded(record, splits[record.patient]) for record in records]
    check_disjoint(samples)
    _check_shapes(samples)
    return Dataset(samples, name=site.site.name)


def read_records(site: SiteFile, *, image_size: int = 64, create_key: bool = False) -> list[Record]:
    """The records that a site's tables hold, in their order; no file of a patient is opened.

    Raises:
        FedkimError: the tables can't be used, or a path leads out of the data folder.
    """
    findings = Findings()
    rows = read_rows(site, findings)
    findings.raise_for_errors(f"site {site.site.name}")
    if site.data.source != "files":
        remedy = "the recipe's own data are dealt by its federation"
        raise FedkimError(f"site {site.site.name}", found="no files of its own", remedy=remedy)
    key = site_key(site.path.parent, create=create_key)
    return [as_record(row, site, image_size=image_size, key=key) for row in rows]


def as_record(row: Row, site: SiteFile, *, image_size: int, key: bytes) -> Record:
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
        id=f"{site.site.name}/{Path(row.table).stem}-{row.number}",
        patient=f"{site.site.name}/{pseudonym(key, row.patient)}",
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
        name += ".hea"
    path = confined(site.folder, name)
    settings: dict[str, Any]
    if role == "image":
        settings = {"size": image_size} | ({"frames": data.image.frames} if data.image.frames != "refuse" else {})
    elif role == "ecg":
        settings = {"sampling_rate": data.ecg.sampling_rate, "unit": data.ecg.unit, "start": data.ecg.start}
    else:
        layout = asdict(series_layout(site, shared=shared))
        settings = {"stay": row.files[role] if shared else "", "until_hour": data.series.until_hour, "layout": layout}
    companions = tuple(path.parent.glob(f"{path.stem}.dat")) if path.suffix == ".hea" else ()
    return Input(path=path, read=_READERS[role], settings=settings, companions=companions)


def series_layout(site: SiteFile, *, shared: bool) -> Layout:
    """How the site's hourly tables are laid out."""
    data, series = site.data, site.data.series
    return layout_of(
        {
            "form": series.form,
            "stay": series.stay if shared else "",
            "hour": series.hour,
            "concept": series.concept,
            "value": series.value,
            "columns": sorted(series.columns.items()),
            "units": sorted(series.units.items()),
            "sentinels": series.sentinels,
            "missing": data.missing,
            "encoding": data.encoding,
            "delimiter": data.delimiter,
            "decimal": data.decimal,
        }
    )


def field_of(role: str, site: SiteFile) -> str:
    """The header of a role's column."""
    return str(getattr(site.data.columns, role))


def _splits(records: Sequence[Record], *, seed: int, unseen_tasks: frozenset[str], split: str) -> dict[str, str]:
    """Split by patient: the column's, or ``split``, or the registry's rule."""
    declared = {record.patient: record.published_split for record in records if record.published_split}
    if declared:
        return declared
    if split:
        return {record.patient: split for record in records}
    tasks: dict[str, set[str]] = {}
    for record in records:
        tasks.setdefault(record.patient, set()).update(record.labels)
    return assign_splits(tasks, seed=seed, unseen_tasks=unseen_tasks)


def _decoded(record: Record, split: str) -> Sample:
    tensors: dict[str, Tensor] = {}
    for item in record.inputs:
        try:
            tensors |= item.read(item.path, **item.settings)
        except FedkimError as error:
            raise FedkimError(
                f"sample {record.id}: {error.what}", found=error.found, expected=error.expected,
                remedy=error.remedy or "fedkim data check lists them all", code=error.code,
            ) from None  # fmt: skip
    usable = {
        task: answer
        for task, answer in record.labels.items()
        if all(modality == "text" or modality in tensors for modality in TASKS[task].modalities)
    }
    return Sample(
        id=record.id, patient=record.patient, site=record.site, split=split, inputs=tensors, labels=usable,
        questions=record.questions,
    )  # fmt: skip


def _check_shapes(samples: Sequence[Sample]) -> None:
    shapes: dict[str, tuple[int, ...]] = {}
    for sample in samples:
        for modality, tensor in sample.inputs.items():
            shape = tuple(tensor.shape)
            if shapes.setdefault(modality, shape) != shape:
                raise FedkimError(
                    f"sample {sample.id}: {modality}", found=f"shape {shape}", expected=f"{shapes[modality]}, as the others",
                    remedy="give all ECGs the same leads", code="E-ECG-LEADS",
                )  # fmt: skip
