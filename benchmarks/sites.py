"""How a whole run grows with its sites: ``python -m benchmarks sites``.

The smallest recipe with 10, 30 and 50 sites of twelve synthetic patients each, ten rounds, everything as in any run: injection,
commits, curves. Asked: does memory stay where it is once the rounds run, and does a further site cost among fifty what it costs
among ten? A round's time is its CPU time, the least over the rounds after the third: others on the machine add to the rest.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

from benchmarks.measure import Report, Settings, exact

SITES = (10, 30, 50)
PATIENTS, ROUNDS, SETTLED = 12, 10, 3


def run(settings: Settings, report: Report) -> None:
    """Each number of sites in a process of its own."""
    report.title(f"whole runs of {ROUNDS} rounds, {PATIENTS} patients a site")
    seconds: dict[int, float] = {}
    for sites in SITES:
        command = [sys.executable, "-m", "benchmarks.sites", str(sites)]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        later = told["bytes"][SETTLED - 1 :]
        seconds[sites] = min(told["seconds"][SETTLED:])
        report.add(
            exact(
                f"{sites} sites: memory after round {ROUNDS} over round {SETTLED}", later[-1] / later[0], target=1.05
            ),
            exact(f"{sites} sites: CPU seconds a round", seconds[sites]),
        )
    few, more, many = SITES
    early, late = (seconds[more] - seconds[few]) / (more - few), (seconds[many] - seconds[more]) / (many - more)
    report.add(
        exact("CPU milliseconds of a further site, 10 to 30", 1e3 * early),
        exact("of one from 30 to 50, over that", late / early, target=1.25),
    )


def measured(sites: int) -> dict[str, list[float]]:
    """Resident bytes after each round, and its CPU seconds."""
    from fedkim.recipe import load
    from fedkim.run import federate

    recipe = load(
        Path(__file__).parents[1] / "recipes" / "smoke.toml",
        f"data.image_patients={sites * PATIENTS * 10 // 7}",  # seven of ten are private
        "data.signal_patients=0",
        "data.icu_patients=0",
        'tasks.seen=["covid"]',
        'tasks.unseen=["pleural_effusion"]',
        f"federation.sites={sites}",
        f"federation.rounds={ROUNDS}",
        "extraction.width=16",
        "injection.steps_per_round=2",
        "run.workers=1",
        "run.dtype=float32",
    )
    resident, seconds = [], []
    with tempfile.TemporaryDirectory() as folder:
        rounds = federate(recipe, out=Path(folder) / "run")
        for _ in range(ROUNDS):
            began = time.process_time()
            next(rounds)
            seconds.append(time.process_time() - began)
            resident.append(_resident())
        assert isinstance(rounds, Generator)
        rounds.close()
    return {"bytes": resident, "seconds": seconds}


def _resident() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(1024.0 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


if __name__ == "__main__":
    print(json.dumps(measured(int(sys.argv[1]))))
