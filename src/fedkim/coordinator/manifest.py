"""Changing a federation's manifest: a table added or taken out, the rest of the file as its author wrote it."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from fedkim.coordinator.federation_file import load_federation_file
from fedkim.engines.flower.fingerprint import fingerprint
from fedkim.errors import FedkimError, unknown
from fedkim.site.site_file import SITE_NAME
from fedkim.store.files import write_text


def add_site(
    path: Path, *, name: str, key: Path, modalities: Sequence[str], tasks: Sequence[str], max_examples: int
) -> None:
    """Append ``[sites.NAME]``.

    Raises:
        FedkimError: the name is taken or none, the key is no key, or the manifest wouldn't be understood afterwards.
    """
    file = load_federation_file(path)
    if not SITE_NAME.fullmatch(name):
        raise FedkimError("--name", expected="letters, digits, '_', '-' and '.', beginning with a letter")
    if name in file.sites:
        raise FedkimError(f"site {name!r}", found=f"one of that name in {path}", remedy="remove that one first")
    line = key.read_text(encoding="utf-8").strip() if len(str(key)) < 256 and key.is_file() else str(key)
    if any(fingerprint(line) == fingerprint(other.public_key) for other in file.sites.values()):
        raise FedkimError(f"site {name!r}", found="the key of another site", remedy="each site makes its own")
    before = path.read_text(encoding="utf-8")
    table = (
        f'\n[sites."{name}"]\npublic_key = {json.dumps(line)}\nmodalities = {json.dumps(list(modalities))}\n'
        f"tasks = {json.dumps(list(tasks))}\nmax_examples = {max_examples}\n"
    )
    _replace(path, before, before.rstrip("\n") + "\n" + table)


def remove_site(path: Path, *, name: str) -> None:
    """Take ``[sites.NAME]`` out.

    Raises:
        FedkimError: no such site.
    """
    file = load_federation_file(path)
    if name not in file.sites:
        raise unknown("site", name, file.sites)
    before = path.read_text(encoding="utf-8")
    header = rf'^\[sites\.(?:"{re.escape(name)}"|{re.escape(name)})(?:\.[^\]]*)?\][^\n]*\n(?:(?!\[)[^\n]*\n?)*'
    _replace(path, before, re.sub(header, "", before, flags=re.MULTILINE))


def _replace(path: Path, before: str, after: str) -> None:
    write_text(path, after)
    try:
        load_federation_file(path)
    except FedkimError:
        write_text(path, before)
        raise
