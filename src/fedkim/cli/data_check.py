"""``fedkim data check``: what is wrong with a copy of a public set, or with a hospital's own data, before anything is trained on it."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from fedkim.cli.options import AsJson
from fedkim.errors import FedkimError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedkim.data.findings import Findings
    from fedkim.data.public_sets import PublicSet
    from fedkim.data.record import Record


def check(
    what: str,
    root: Path | None = None,
    /,
    *,
    recipe: str = "",
    contents: bool = False,
    roots: Annotated[list[str] | None, Parameter(name="--root")] = None,
    as_json: AsJson = False,
) -> None:
    """Check your copy of a public data set, or a hospital's own data, and tell everything that is wrong at once.

    Nothing is changed. The status is 2 if there is any error.

    Args:
        what: A public set's name, pack for the real-data pack, or the hospital's site.toml.
        root: The folder of the set's copy.
        recipe: For a site.toml with labels of your own tasks: a recipe's file or name, whose plug-ins bring them. The approved recipe
            of [policy] needs no mention.
        contents: Also decode every input and look for the same picture or wave under two patients.
        roots: The folder of another set that this one is about, as NAME=FOLDER: ecgqa asks about the recordings of ptbxl.
        as_json: Print JSON.
    """
    from fedkim.data.findings import Findings

    if what.endswith(".toml"):
        if root is not None:
            raise FedkimError("fedkim data check", found="a folder beside a site.toml", remedy="leave the folder out")
        if roots:
            raise FedkimError("fedkim data check", found="--root beside a site.toml", remedy="leave it out")
        if contents:
            remedy = "leave it out: a hospital's inputs are always decoded"
            raise FedkimError("fedkim data check", found="--contents beside a site.toml", remedy=remedy)
        from fedkim.data.hospital import check as check_hospital
        from fedkim.site.participant import import_approved_plugins

        import_approved_plugins(Path(what))
        if recipe:
            _import_plugins(recipe)
        findings: Findings = check_hospital(Path(what))
        if not findings.errors:
            _check_participation(Path(what), findings)
        name = what
    else:
        if recipe:
            raise FedkimError("fedkim data check", found=f"--recipe beside {what!r}", expected="a site.toml")
        if root is None:
            raise FedkimError("fedkim data check", found=f"{what!r} without a folder", remedy="give the copy's folder")
        findings = _check_set(what, root, contents, _named_roots(roots or []))
        name = f"{what} at {root}"
    _show(findings, name, as_json)
    if findings.errors:
        number = len(findings.errors)
        raise FedkimError(name, found=f"{number} error{'s' if number > 1 else ''}", remedy="mend what is listed above")


def _import_plugins(recipe: str) -> None:
    from fedkim.cli.recipes import find_recipe
    from fedkim.recipe import import_plugins, load

    import_plugins(load(find_recipe(recipe)).run.plugins)


def _check_participation(path: Path, findings: "Findings") -> None:
    """What a federation would refuse of a site file that has a policy."""
    from fedkim.data.hospital import load_site_file
    from fedkim.site.participant import load_participant
    from fedkim.site.shard import require_policy_of

    file = load_site_file(path)
    if not file.policy and not file.coordinator:
        return
    try:
        site = load_participant(path)
        require_policy_of(site, site.recipe())
    except FedkimError as error:
        found = f"{error.what}: {error.found}".removesuffix(": ").replace(f"{path.resolve().parent}/", "")
        findings.add("E-SITE-FEDERATION", file=path.name, found=found, expected=error.expected, remedy=error.remedy)


def _named_roots(given: list[str]) -> dict[str, str]:
    roots = {}
    for pair in given:
        name, equals, folder = pair.partition("=")
        if not (name and equals and folder):
            raise FedkimError("--root", found=repr(pair), expected="NAME=FOLDER, such as ptbxl=/data/ptbxl")
        roots[name] = folder
    return roots


def _check_set(name: str, root: Path, contents: bool, roots: dict[str, str]) -> "Findings":
    from fedkim.data.findings import Findings
    from fedkim.data.leaks import check_ids
    from fedkim.data.public_sets import find_set

    known = find_set(name) if name != "pack" else None
    for folder in (root, *map(Path, roots.values())):
        if not folder.is_dir():
            raise FedkimError(f"folder {folder}", found="no such folder", remedy="check the path")
    for other in roots:
        if other not in (known.needs if known else ()):
            raise FedkimError(f"--root {other}", found=f"a set that {name} isn't about", remedy="leave it out")
    if known is None:
        from fedkim.data.sources import pack_check

        return pack_check.check(root)
    findings = Findings()
    for finding in known.check(root, roots) if known.needs else known.check(root):
        findings.put(finding)
    if findings.errors:
        return findings  # the tables can't be trusted any further
    records = _records(known, root, roots, findings)
    for finding in check_ids([record.patient for record in records]):
        findings.put(finding)
    if contents:
        _check_contents(name, root, records, findings)
    return findings


def _check_contents(name: str, root: Path, records: "list[Record]", findings: "Findings") -> None:
    """Every input decoded and compared with all others; one that can't be read is told and left out."""
    import sys

    from fedkim.data.decoding import decode, read_each
    from fedkim.data.leaks import twins
    from fedkim.progress import progress_on

    readable = list(enumerate(records, start=1))
    with progress_on(sys.stderr) as progress:
        try:
            tensors = decode(records, workers=2, progress=progress, name=name)
        except FedkimError:
            failures = read_each(records, workers=2, progress=progress, name=name)
            _tell_failures(root, failures, findings)
            readable = [pair for pair, failure in zip(readable, failures, strict=True) if failure is None]
            tensors = decode([record for _, record in readable], workers=2, progress=progress, name=name)
    for pair in twins([record for _, record in readable], tensors):
        findings.add(
            "W-CONTENT-TWICE",
            row=readable[pair.second][0],
            field=pair.modality,
            found=f"what record {readable[pair.first][0]} of another patient has ({'the same' if pair.exact else 'a copy'})",
            remedy="nothing to do: the two are split as one patient",
        )


def _tell_failures(root: Path, failures: "Sequence[tuple[Path, FedkimError] | None]", findings: "Findings") -> None:
    from fedkim.data.sources.public import MEND

    told = {(path, error.found): (path, error) for path, error in filter(None, failures)}
    for path, error in told.values():
        if not error.code:  # nothing about a file: a package is missing
            raise error
        file = str(path.relative_to(root)) if path.is_relative_to(root) else path.name
        findings.add(error.code, file=file, found=error.found, expected=error.expected, remedy=MEND)


def _records(known: "PublicSet", root: Path, roots: dict[str, str], findings: "Findings") -> "list[Record]":
    """The records of the first of the set's versions that the copy holds; those before it are told."""
    from fedkim.data.public_sets import Reading

    *others, last = known.versions or ("",)
    for version in others:
        try:
            return list(known.read(root, Reading(version=version, roots=roots)))
        except FedkimError as error:
            findings.add("I-PART", found=f"no version {version!r} that can be read: {error.found}")
    return list(known.read(root, Reading(version=last, roots=roots)))


def _show(findings: "Findings", name: str, as_json: bool) -> None:
    from dataclasses import asdict

    from fedkim.data.findings import SHOWN

    counts = Counter(finding.code for finding in findings)
    if as_json:
        shown: Counter[str] = Counter()
        listed = []
        for finding in findings:
            shown[finding.code] += 1
            if shown[finding.code] <= SHOWN:
                listed.append(asdict(finding))
        print(json.dumps({"checked": name, "counts": dict(counts), "findings": listed}, indent=1))
        return
    for code in sorted(counts, key=lambda code: ("EWI".find(code[0]), code)):
        print(f"{code}: {counts[code]}")
        for finding in [finding for finding in findings if finding.code == code][:SHOWN]:
            print(f"  {str(finding).removeprefix(code).strip()}")
        if counts[code] > SHOWN:
            print(f"  … and {counts[code] - SHOWN} more")
    if not counts:
        print("nothing to say: all as expected")
