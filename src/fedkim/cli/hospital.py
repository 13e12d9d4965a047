"""Verbs about a hospital's own data."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from fedkim.errors import FedkimError

if TYPE_CHECKING:
    from fedkim.data.findings import Findings

data = App(name="data", help="Check and import data.")


@data.command
def check(site: Path, /, *, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Say everything that is wrong with a hospital's data, at once. Writes nothing, repeats no patient's value.

    Args:
        site: The hospital's site.toml.
        as_json: Print JSON.
    """
    from fedkim.data import hospital

    findings = hospital.check(site)
    if as_json:
        print(json.dumps([vars(finding) for finding in findings], indent=1, ensure_ascii=False))
    else:
        print_findings(findings)
    if findings.errors:
        raise FedkimError(
            f"data of {site}", found=f"{len(findings.errors)} errors", remedy="see above and docs/data/codes.md"
        )


@data.command
def import_fedmeki(*files: Path, root: Path, out: Path) -> None:
    """Turn the JSON lists of the FEDMEKI benchmark into a table and a site.toml.

    Args:
        files: Lists such as covid_client.json, covid_valid.json, covid_server.json, covid_test.json.
        root: The folder where the lists' paths start.
        out: The folder to write manifest.csv and site.toml to.
    """
    from fedkim.data import hospital

    imported = hospital.import_fedmeki(files, root=root, out=out)
    print_findings(imported.findings)
    for task, counts in sorted(imported.counts.items()):
        print(f"{task}: {', '.join(f'{split} {number}' for split, number in sorted(counts.items()))}")
    print(f"wrote {imported.site_file}")


def print_findings(findings: "Findings") -> None:
    """Errors first; of one code at most a hundred, then how many there are."""
    from fedkim.data.findings import SHOWN

    order = {"E": 0, "W": 1, "I": 2}
    by_code: dict[str, list[str]] = {}
    for finding in findings:
        by_code.setdefault(finding.code, []).append(str(finding))
    for code in sorted(by_code, key=lambda code: (order.get(code[0], 3), code)):
        lines = by_code[code]
        print("\n".join(lines[:SHOWN]), file=sys.stdout)
        if len(lines) > SHOWN:
            print(f"{code}: {len(lines):,} in all, {SHOWN} shown")
