"""Changing a federation's manifest: a table added or taken out, the rest of the file as its author wrote it."""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedkim.coordinator.federation_file import federation_file_from, load_federation_file
from fedkim.data.site_names import SITE_NAME
from fedkim.engines.flower.fingerprint import fingerprint
from fedkim.errors import FedkimError, unknown
from fedkim.store.files import write_text
from fedkim.toml_files import parse_toml


def add_site(
    path: Path, *, name: str, key: str, modalities: Sequence[str], tasks: Sequence[str], max_examples: int
) -> None:
    """Append ``[sites.NAME]``; ``key`` is a public key's line, or the file it stands in.

    Raises:
        FedkimError: the name is taken or none, the key is no key, or the manifest wouldn't be understood afterwards.
    """
    file = load_federation_file(path)
    if not SITE_NAME.fullmatch(name):
        raise FedkimError("--name", expected="letters, digits, '_', '-' and '.', beginning with a letter")
    if name in file.sites:
        raise FedkimError(f"site {name!r}", found=f"one of that name in {path}", remedy="remove that one first")
    line = key.strip() if key.startswith("ecdsa-") else _line(Path(key))
    if any(fingerprint(line) == fingerprint(other.public_key) for other in file.sites.values()):
        raise FedkimError(f"site {name!r}", found="the key of another site", remedy="each site makes its own")
    before = path.read_text(encoding="utf-8")
    table = (
        f'\n[sites."{name}"]\npublic_key = {json.dumps(line)}\nmodalities = {json.dumps(list(modalities))}\n'
        f"tasks = {json.dumps(list(tasks))}\nmax_examples = {max_examples}\n"
    )
    _replace(path, before.rstrip("\n") + "\n" + table, sites={*file.sites, name})


def remove_site(path: Path, *, name: str) -> None:
    """Take ``[sites.NAME]`` out.

    Raises:
        FedkimError: no such site.
    """
    file = load_federation_file(path)
    if name not in file.sites:
        raise unknown("site", name, file.sites)
    _replace(path, _without(path.read_text(encoding="utf-8"), name), sites=set(file.sites) - {name})


def _without(text: str, name: str) -> str:
    """The text without the tables of a site; what is written about the next one stays."""
    lines = text.splitlines(keepends=True)
    headers = [number for number, line in enumerate(lines) if line.lstrip().startswith("[")]
    kept = list(lines)
    for start, end in zip(headers, [*headers[1:], len(lines)]):
        if name not in _table(lines[start]).get("sites", {}):
            continue
        while not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#"):
            end -= 1
        kept[start:end] = [""] * (end - start)
    return "".join(kept)


def _table(header: str) -> dict[str, Any]:
    try:
        return tomllib.loads(header)
    except tomllib.TOMLDecodeError:
        return {}  # a line of a list


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FedkimError(
            f"--key {path}", found=type(error).__name__, expected="a public key's file, or its line"
        ) from None


def _replace(path: Path, text: str, *, sites: set[str]) -> None:
    """Write the changed file, a link's target too, unless it wouldn't be understood or would hold other sites than these."""
    tables = parse_toml(text.removeprefix("\ufeff"), f"federation file {path}")
    if set(federation_file_from(tables, path).sites) != sites:
        raise FedkimError(
            f"{path}: [sites]",
            found="tables written in another way than [sites.NAME], each on a line of its own",
            remedy="change the file by hand",
        )
    write_text(path.resolve(), text)
