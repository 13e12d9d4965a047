"""Whole runs against their goals: ``python -m benchmarks.runs [demo] [real-pack]``; the demo by default.

Each runs once, in a process of its own, from empty caches (so that converting the language model and drawing or decoding
the data count) into a folder that is thrown away. ``real-pack`` is one fold on both cores and wants ``FEDKIM_DATA_PACK``.
Seconds depend on the machine, so this is no test; the goals are those of two cores.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure, Report, Settings, environment, exact

COMMANDS = {
    "demo": ("demo",),
    "real-pack": (
        "run",
        "real-pack",
        "--set",
        "evaluation.reveal_test=false",
    ),  # its test is looked at elsewhere, and counted
}
MINUTES = {"demo": 5.0, "real-pack": 12.0}


def main() -> None:
    """Run what the command line names and print each figure beside its goal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runs", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(COMMANDS)}")
    parser.add_argument("--json", default="", help="write the figures to this file too")
    parser.add_argument("--set", action="append", default=[], help="change a key of the recipe")
    arguments = parser.parse_args()
    names = arguments.names or ["demo"]
    if unknown := set(names) - set(COMMANDS):
        parser.error(f"no run called {', '.join(sorted(unknown))}; there are {', '.join(COMMANDS)}")
    report = Report(Settings())
    print("  ".join(f"{name} {value}" for name, value in environment("cpu").items()))
    for name in names:
        measure(name, arguments.set, report)
    report.summary()
    if arguments.json:
        report.write(arguments.json)


def measure(name: str, overrides: list[str], report: Report) -> None:
    """One run: its minutes, its largest resident memory, its sizes, and which seen tasks it learned."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "fedkim", *COMMANDS[name], "--out", str(out)]
        for override in overrides:
            command += ["--set", override]
        began = time.perf_counter()
        subprocess.run(command, check=True, env={**os.environ, "FEDKIM_CACHE": str(Path(folder) / "cache")})
        minutes = (time.perf_counter() - began) / 60
        gibibytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        result = json.loads((out / "result.json").read_bytes())
    report.title(f"{name}: {result['run_info']['method']}, {result['run_info']['environment']['dtype']}")
    report.add(
        exact("minutes from empty caches", minutes, target=MINUTES[name]),
        exact("largest resident memory of a process so far, GiB", gibibytes, target=4.0),
        *(_sizes(result) if name == "demo" else ()),
    )
    for task, entry in result["metrics"].items():
        primary = entry["rows"]["injected"]["primary"]
        if entry["seen"]:
            low = primary["low"]
            note = " no interval: too few patients" if low is None else f" AUROC {primary['value']:.2f}"
            target = None if low is None else 0.5
            report.add(exact(f"{task}: AUROC's lower bound", low or 0.0, target=target, at_least=True, note=note))


def _sizes(result: dict[str, Any]) -> list[Figure]:
    rounds = result["train_info"]["rounds"]
    rows = min(len(entry["injection"]["loss"]) for entry in rounds) * _batch_size(result)
    fewest = min(entry["rows"]["injected"]["primary"]["n"] for entry in result["metrics"].values())
    return [
        exact("tasks", len(result["metrics"]), target=12, at_least=True),
        exact("sites", len(result["meta_info"]["sites"]), target=5, at_least=True),
        exact("rounds", len(rounds), target=5, at_least=True),
        exact("public samples a round", rows, target=240, at_least=True),
        exact("test patients of the smallest task", fewest, target=100, at_least=True),
    ]


def _batch_size(result: dict[str, Any]) -> int:
    return int(tomllib.loads(result["run_info"]["config"])["injection"]["batch_size"])


if __name__ == "__main__":
    main()
