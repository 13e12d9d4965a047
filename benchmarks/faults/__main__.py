"""``python -m benchmarks.faults``: break things on purpose and print what survived, each figure beside its target.

``--quick`` is the small version that continuous integration runs.
"""

import argparse
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import attacks
from benchmarks.faults import damage, disk, kills, names
from benchmarks.faults.subject import ROOT, Subject, child, everything, load_subject
from benchmarks.measure import environment


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of the table."""

    fault: str
    target: str
    tried: int
    survived: int
    note: str = ""


def main(arguments: list[str] | None = None) -> int:
    """Run the faults and print the table; 1 if anything didn't survive."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of it")
    parser.add_argument("--only", action="append", default=[], help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", default="", help="write the figures to this file too")
    options = parser.parse_args(arguments)
    if unknown := set(options.only) - set(FAULTS):
        parser.error(f"no fault called {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    logging.disable(logging.WARNING)  # each damage is told as it is found; here the table tells
    began = time.monotonic()
    lines: list[Line] = []
    for name in options.only or FAULTS:
        start = time.monotonic()
        found = FAULTS[name](options.quick, options.jobs)
        lines += found
        for line in found:
            print(f"{line.fault}: {line.survived} of {line.tried}, {time.monotonic() - start:.0f} s", flush=True)
    _show(lines, time.monotonic() - began)
    if options.json:
        record = {
            "environment": environment("cpu"),
            "quick": options.quick,
            "minutes": round((time.monotonic() - began) / 60, 1),
            "lines": [asdict(line) for line in lines],
        }
        Path(options.json).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0 if all(line.survived == line.tried for line in lines) else 1


def markdown(record: Mapping[str, Any]) -> str:
    """The table of docs/reliability.md."""
    rows = [
        f"| {line['fault']} | {line['target']} | {line['survived']} of {line['tried']} | {line['note']} |"
        for line in record["lines"]
    ]
    return "\n".join(["| fault | target | survived | |", "|---|---|---|---|", *rows]) + "\n"


def _killed(quick: bool, jobs: int) -> list[Line]:
    subject = load_subject(rounds=4 if quick else 10, steps=3)
    runs = 5 if quick else 50
    told = kills.anywhere(subject, runs=runs, kills=3, jobs=jobs)
    note = f"{told['kills']} kills, {told['between']} between the first and the last commit, {told['inside']} in an injection"
    return [Line(fault="kill -9 at any moment", target="50/50", tried=runs, survived=told["identical"], note=note)]


def _fail_points(quick: bool, jobs: int) -> list[Line]:
    rounds = 2 if quick else 5
    told = kills.everywhere(load_subject(rounds=rounds, steps=3), rounds=list(range(1, rounds + 1)), jobs=jobs)
    return [
        Line(
            fault="kill -9 at every fail-point of every round",
            target="120/120",
            tried=told["tried"],
            survived=told["identical"],
        )
    ]


def _stopped(quick: bool, jobs: int) -> list[Line]:
    arguments = ["run", str(ROOT / "recipes" / "smoke.toml"), "--set", "run.workers=1"]

    def whole(pipe: int) -> None:
        import os

        from fedkim.cli.app import main as command

        os.dup2(pipe, 1)
        with TemporaryDirectory() as folder:
            command([*arguments, "--out", f"{folder}/run"])

    began = time.monotonic()
    with child(whole) as (_, pipe):
        told = everything(pipe).decode(errors="replace")
    digest = told.split("digest of the weights ")[1][:64]
    runs = 3 if quick else 20
    found = kills.terminated(
        arguments=arguments, unbroken=digest, runs=runs, seconds=(time.monotonic() - began) * 0.8, jobs=jobs
    )
    note = f"{found['stopped']} stopped in mid-run with status 143, the slowest within {found['slowest']:.1f} s"
    return [
        Line(fault="SIGTERM to the command", target="20/20 in 10 s", tried=runs, survived=found["survived"], note=note)
    ]


def _damaged(quick: bool, jobs: int) -> list[Line]:
    subject = _small(quick)
    tries = 20 if quick else 200
    told = damage.newest(subject, tries=tries, jobs=jobs)
    every = 4 if quick else 20
    refused = damage.all_of_them(subject, tries=every)
    return [
        Line(fault="damaged newest round: noticed", target="200/200", tried=tries, survived=told["noticed"]),
        Line(fault="damaged newest round: same end", target="200/200", tried=tries, survived=told["identical"]),
        Line(fault="every round damaged: refused, nothing deleted", target="20/20", tried=every, survived=refused),
    ]


def _full(quick: bool, jobs: int) -> list[Line]:
    tries = 6 if quick else 30
    return [
        Line(fault="disk full", target="30/30", tried=tries, survived=disk.full(_small(quick), tries=tries, jobs=jobs))
    ]


def _unflushed(quick: bool, jobs: int) -> list[Line]:
    replays = 10 if quick else 100
    survived = disk.unflushed(_small(quick), replays=replays, jobs=jobs)
    return [Line(fault="loss of power: unflushed writes dropped", target="100/100", tried=replays, survived=survived)]


def _names(quick: bool, jobs: int) -> list[Line]:
    tried = len(names.NAMES)
    return [Line(fault="names that want to be paths", target="200/200", tried=tried, survived=names.confined())]


def _poisoned(quick: bool, jobs: int) -> list[Line]:
    """Twelve attacks on six rules behind the gate, and on plain Flower in the same run."""
    ours = attacks.matrix(rules={name: attacks.RULES[name] for name in RULES})
    theirs = [outcome for outcome in attacks.flower_matrix() if outcome.rule in ("FedAvg", "FedMedian")]
    fell = sum(not outcome.stood for outcome in theirs)
    note = (
        f"plain Flower FedAvg and FedMedian, same attacks: {fell} of {len(theirs)} changed the model or ended the round"
    )
    stood = sum(outcome.stood for outcome in ours)
    return [Line(fault="bad updates: 12 attacks × 6 rules", target="72/72", tried=len(ours), survived=stood, note=note)]


RULES = ("fedavg", "fedprox", "median", "trimmed-mean", "krum", "multi-krum")

FAULTS: dict[str, Callable[[bool, int], list[Line]]] = {
    "kill": _killed,
    "fail-points": _fail_points,
    "sigterm": _stopped,
    "damage": _damaged,
    "full": _full,
    "unflushed": _unflushed,
    "names": _names,
    "attacks": _poisoned,
}


def _small(quick: bool) -> Subject:
    return load_subject(rounds=3 if quick else 4, steps=3)


def _show(lines: list[Line], seconds: float) -> None:
    table = Table(title=f"Faults, {seconds / 60:.1f} minutes")
    for column in ("fault", "target", "tried", "survived", "note"):
        table.add_column(column, justify="right" if column in ("tried", "survived") else "left")
    for line in lines:
        table.add_row(line.fault, line.target, str(line.tried), str(line.survived), line.note)
    Console(width=160).print(table)


if __name__ == "__main__":
    raise SystemExit(main())
