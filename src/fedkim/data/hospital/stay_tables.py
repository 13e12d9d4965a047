"""The hourly tables of a site, all together: only then their units show, and each is told about once."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from fedkim.data.findings import Finding, Findings
from fedkim.data.hospital.files import confined
from fedkim.data.hospital.inputs import layout_of
from fedkim.data.hospital.layout import Layout
from fedkim.data.hospital.row import Row
from fedkim.data.hospital.site_file import SiteFile
from fedkim.data.hospital.stays import read_stays
from fedkim.data.hospital.words import counted
from fedkim.errors import FedkimError
from fedkim.modalities.series import HOURS
from fedkim.modalities.units import BY_NAME, suspicion


def open_stays(rows: Sequence[Row], site: SiteFile, findings: Findings) -> set[tuple[str, str]]:
    """Read every hourly table of the rows and note what is wrong with them.

    Returns:
        Those that can't be used, as role and cell (``("stay", "")``: the shared table), so that they aren't told again.
    """
    values: dict[str, list[np.ndarray]] = {}
    spans: list[np.ndarray] = []
    unread: set[tuple[str, str]] = set()
    present: set[str] = set()
    nearly: dict[str, str] = {}
    places: dict[tuple[str, str], tuple[str, int | None, str]] = {}
    if site.data.series.file:
        places["stay", ""] = (site.path.name, None, "data.series.file")
    for row in rows:
        if "series" in row.files:
            places.setdefault(("series", row.files["series"]), (row.table, row.number, field_of("series", site)))
    for (role, cell), (file, number, column) in places.items():
        shared = role == "stay"
        name = site.data.series.file if shared else cell
        try:
            path = confined(site.files, name)
        except FedkimError as error:
            unread.add((role, cell))
            findings.add(
                error.code, file=file, row=number, field=column, found=error.found, expected=error.expected,
                remedy=error.remedy,
            )  # fmt: skip
            continue
        stays = read_stays(path, series_layout(site, shared=shared), name if shared else "a table of a stay")
        for finding in stays.findings:
            _pass_on(finding, findings, None if shared else (file, number, column))
        if stays.findings.errors:
            unread.add((role, cell))
        present |= stays.present
        nearly |= stays.nearly
        for measured in stays.by_stay.values():
            for concept, (_, numbers) in measured.items():
                values.setdefault(concept, []).append(numbers)
            spans += [np.unique(np.concatenate([hours for hours, _ in measured.values()]))] if measured else []
    for name, meant in sorted(nearly.items()):
        found = "nearly a measurement's name (capitals, or a number behind it); it isn't read"
        remedy = f"did you mean {meant!r}? Rename it, or name it in data.series.columns"
        findings.add("W-SERIES-NAME", file=site.path.name, field=name, found=found, remedy=remedy)
    if places and not unread:
        _tell_absent(present, site, findings)
        _tell_outside(spans, site, findings)
    _check_scale({concept: np.concatenate(parts) for concept, parts in values.items()}, site.path.name, findings)
    return unread


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
            "unit": series.unit,
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


def _tell_absent(present: Collection[str], site: SiteFile, findings: Findings) -> None:
    """Measurements that the site file declares and no table has: a column that is called otherwise, or rows that aren't there."""
    series = site.data.series
    for concept in sorted({*series.columns, *series.units} - {*present}):
        key = "columns" if concept in series.columns else "units"
        kind = "row" if series.form == "long" else "column"
        # a list of units may serve several hospitals; who names a column says that it is there
        code = "E-SERIES-COLUMN" if kind == "column" and key == "columns" else "W-SERIES-ABSENT"
        found = f"no {kind} of the name {series.columns.get(concept, concept)!r} in any hourly table"
        remedy = f"name yours in data.series.columns.{concept}, or take it out"
        findings.add(code, file=site.path.name, field=f"data.series.{key}.{concept}", found=found, remedy=remedy)


def _tell_outside(spans: Sequence[np.ndarray], site: SiteFile, findings: Findings) -> None:
    """Measurements before the admission, and stays so thin that their hours may be minutes or seconds; ``spans``: each stay's own hours."""
    series = site.data.series
    before = sum(int((hours < 0).sum()) for hours in spans)
    if before:
        found, remedy = (
            f"{counted(before, 'hour')} before 0, over all stays",
            "they aren't read: hours count from the admission",
        )
        findings.add("W-SERIES-OUTSIDE", file=site.path.name, field=series.hour, found=found, remedy=remedy)
    several = [hours for hours in spans if len(hours) > 1]
    first, end = series.until_hour - HOURS, series.until_hour
    thin = sum(int(((hours >= first) & (hours < end)).sum()) < 2 for hours in several)
    if several and 2 * thin > len(several):
        found = f"fewer than two measured hours among the {HOURS} that are read, in {counted(thin, 'stay')} of {len(several)}"
        remedy = "look whether the column holds minutes or seconds"
        findings.add("W-SERIES-OUTSIDE", file=site.path.name, field=series.hour, found=found, remedy=remedy)


def _pass_on(finding: Finding, findings: Findings, place: tuple[str, int | None, str] | None) -> None:
    """A table's finding; of a row's own file at the row, since the file's name may be a patient's."""
    file, number, column = place or (finding.file, finding.row, finding.field)
    inside = [f"its column {finding.field!r}"] if finding.field else []
    inside += [f"its row {finding.row}"] if finding.row is not None else []
    found = f"{finding.found} ({', '.join(inside)})" if place and inside else finding.found
    findings.add(
        finding.code, file=file, row=number, field=column, found=found, expected=finding.expected, remedy=finding.remedy
    )


def _check_scale(values: Mapping[str, np.ndarray], name: str, findings: Findings) -> None:
    """Compare the values of all stays, plausible or not, with what adults in intensive care have: another unit shows in their middle."""
    for concept, numbers in sorted(values.items()):
        doubt = suspicion(BY_NAME[concept], numbers)
        if doubt is not None:
            code, found = doubt
            remedy = f"correct data.series.units.{concept}"
            findings.add(code, file=name, field=concept, found=found, expected=BY_NAME[concept].unit, remedy=remedy)
