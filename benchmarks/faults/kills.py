"""Processes that die: at any moment, at every named place, and by request."""

import os
import random
import select
import signal
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.faults.subject import FAILED, Subject, child, everything, spread
from fedkim.failpoints import POINTS


def anywhere(subject: Subject, *, runs: int, kills: int, jobs: int, seed: int = 0) -> dict[str, int]:
    """Kill -9 at uniformly drawn moments, about ``kills`` times a run, and resume until the run ends.

    Returns:
        Runs that ended in the unbroken run's bits, kills between the first and the last commit, kills inside an injection.
    """
    seconds = _unbroken_seconds(subject)

    def judge(number: int) -> dict[str, Any]:
        moments = random.Random(f"{seed}-{number}")
        verdict = {"identical": False, "kills": 0, "between": 0, "inside": 0}
        failed = False
        with TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            commits = 0
            for _ in range(kills):
                told = _killed_after(subject, run, moments.uniform(0, seconds * 1.1 * (1 - commits / _rounds(subject))))
                failed |= FAILED.encode() in told
                commits += told.count(b"C")
                if len(told) >= 64 and told[-64:].isalnum() and told.endswith(subject.digest.encode()):
                    break  # it was done before the kill
                verdict["kills"] += 1
                verdict["between"] += 0 < commits < _rounds(subject)
                verdict["inside"] += told.count(b"I") > told.count(b"i")
            verdict["identical"] = subject.whole(run) and not failed
        return verdict

    verdicts = spread(range(runs), judge, jobs)
    return {key: sum(verdict[key] for verdict in verdicts) for key in ("identical", "kills", "between", "inside")}


def everywhere(subject: Subject, *, rounds: list[int], jobs: int, points: tuple[str, ...] = POINTS) -> dict[str, int]:
    """Kill -9 at every fail-point of every round, then resume; a point that is never reached counts as a failure."""

    def judge(case: tuple[str, int]) -> dict[str, bool]:
        point, number = case
        with TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            if point.startswith("resume."):  # reached by a process that finds rounds
                _killed_at(subject, run, f"prune.begin@{number}")
            died = _killed_at(subject, run, f"{point}@{_times(subject, point, number)}")
            return {"died": died, "identical": died and subject.whole(run)}

    cases = [(point, number) for point in points for number in rounds if _is_reached(subject, point, number)]
    verdicts = spread(cases, judge, jobs)
    return {"tried": len(cases), "identical": sum(verdict["identical"] for verdict in verdicts)}


def terminated(*, arguments: list[str], unbroken: str, runs: int, seconds: float, jobs: int) -> dict[str, Any]:
    """SIGTERM at a random moment to the command itself: within ten seconds it ends with 143, and resumes to the same bits."""

    def command(folder: Path) -> Any:
        def work(pipe: int) -> None:
            from fedkim.cli.app import main

            os.dup2(pipe, 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os.write(pipe, b"S")
            os._exit(main([*arguments, "--out", str(folder)]))

        return work

    def judge(number: int) -> dict[str, Any]:
        moments = random.Random(f"term-{number}")
        with TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            reading, writing = os.pipe()
            process = os.fork()
            if process == 0:
                os.close(reading)
                command(run)(writing)
            os.close(writing)
            os.read(reading, 1)
            time.sleep(moments.uniform(0.05, seconds))
            began = time.monotonic()
            os.kill(process, signal.SIGTERM)
            everything(reading)
            os.close(reading)
            status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            took = time.monotonic() - began
            with child(command(run)) as (_, pipe):
                told = everything(pipe).decode(errors="replace")
            return {"status": status, "seconds": took, "identical": unbroken in told}

    verdicts = spread(range(runs), judge, jobs)
    good = [v for v in verdicts if v["status"] in (0, 143) and v["seconds"] <= 10 and v["identical"]]
    return {
        "tried": runs,
        "stopped": sum(v["status"] == 143 for v in verdicts),
        "survived": len(good),
        "slowest": max(v["seconds"] for v in verdicts),
    }


def _rounds(subject: Subject) -> int:
    return subject.recipe.federation.rounds


def _unbroken_seconds(subject: Subject) -> float:
    with TemporaryDirectory() as folder:
        began = time.monotonic()
        subject.finish(Path(folder) / "run")
        return time.monotonic() - began


def _killed_after(subject: Subject, run: Path, seconds: float) -> bytes:
    """Start or resume the run, kill it after so many seconds; what it told until then."""
    with child(lambda pipe: subject.run(run, pipe)) as (process, pipe):
        until, told = time.monotonic() + seconds, b""
        while (left := until - time.monotonic()) > 0:
            if select.select([pipe], [], [], left)[0]:
                part = os.read(pipe, 65536)
                if not part:
                    break
                told += part
        os.kill(process, signal.SIGKILL)
        return told + everything(pipe)


def _killed_at(subject: Subject, run: Path, failpoint: str) -> bool:
    """Run until the fail-point; whether the process died of it."""
    with child(lambda pipe: subject.run(run, pipe), failpoint) as (_, pipe):
        told = everything(pipe)
    return not told.endswith(subject.digest.encode()) and FAILED.encode() not in told


def _times(subject: Subject, point: str, number: int) -> int:
    """How often a run passes a point until some moment of round ``number``, another moment in every round."""
    if point.startswith("resume."):
        return 1
    if point.startswith("halfway.") or point == "injection.step":
        steps = (
            subject.recipe.injection.steps_per_round
        )  # the round is kept before the first step and after all but the last
        return (number - 1) * steps + 1 + number % steps
    if point == "exchange.update":
        sites = subject.recipe.federation.sites
        return (number - 1) * sites + 1 + number % sites
    return number


def _is_reached(subject: Subject, point: str, number: int) -> bool:
    """Whether a run passes a point that often: old rounds are dropped, and rounds resumed, only where there are some."""
    from fedkim.store.rounds import KEEP

    rounds = _rounds(subject)
    if point == "prune.unlinked":
        return number <= rounds - KEEP
    return number < rounds if point.startswith("resume.") else number <= rounds
