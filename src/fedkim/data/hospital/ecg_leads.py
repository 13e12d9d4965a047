"""Recordings of a single lead, of which only all together show that they aren't of one."""

from collections.abc import Iterable
from pathlib import Path

from fedkim.data.findings import Findings
from fedkim.errors import FedkimError
from fedkim.modalities.signal_files import lead_names


def tell_leads(paths: Iterable[Path], file: str, findings: Findings) -> None:
    """Note recordings of one lead each that call it differently: to a model they are the same input.

    Args:
        paths: of the recordings, where no leads are declared.
        file: the site file's name.
        findings: gets ``W-ECG-LEADS``; what can't be read is told by whoever reads the wave.
    """
    names: set[str] = set()
    for path in paths:
        try:
            leads = lead_names(path)
        except FedkimError:
            continue
        names |= {leads[0].lower()} if len(leads) == 1 else set()
    if len(names) > 1:
        found = f"recordings of one lead each, by {len(names)} different names"
        remedy = "keep those of one lead, or declare data.ecg.leads; to a model they are one"
        findings.add("W-ECG-LEADS", file=file, field="data.ecg.leads", found=found, remedy=remedy)
