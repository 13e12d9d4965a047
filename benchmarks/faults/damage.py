"""Files that aren't what was written: the newest round damaged, or every one."""

import json
import random
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.faults.subject import Subject, child, everything, spread
from fedkim.errors import FedkimError
from fedkim.store.run_store import RunStore

KINDS = ("flipped bit", "cut short", "emptied", "garbage", "deleted")


def newest(subject: Subject, *, tries: int, jobs: int, seed: int = 0) -> dict[str, int]:
    """Damage a file of the newest round (or of the one in progress): it must be noticed, and the run end in the same bits."""

    def judge(number: int) -> dict[str, bool]:
        draw = random.Random(f"{seed}-{number}")
        with TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            shutil.copytree(stopped, run)
            files = sorted(
                [
                    *run.glob(f"rounds/round-{done:04d}.*"),
                    *run.glob("rounds/halfway-*.json"),
                    *run.glob("rounds/halfway-*.safetensors"),
                ]
            )
            kind = KINDS[number % len(KINDS)]
            harmed = files[(number // len(KINDS)) % len(files)]
            harm(harmed, kind, draw)
            identical = subject.whole(run)
            events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
            noticed = any(event["event"] == "damaged-round" for event in events)
            # a manifest that isn't there is no round, and no damage
            return {"noticed": noticed or (kind == "deleted" and harmed.suffix == ".json"), "identical": identical}

    with TemporaryDirectory() as folder:
        stopped = Path(folder) / "run"
        done = _stop_half_way(subject, stopped)
        verdicts = spread(range(tries), judge, jobs)
    return {key: sum(verdict[key] for verdict in verdicts) for key in ("noticed", "identical")}


def all_of_them(subject: Subject, *, tries: int, seed: int = 0) -> int:
    """Damage every stored round: resuming must refuse and delete nothing. How often it did."""
    refused = 0
    with TemporaryDirectory() as folder:
        stopped = Path(folder) / "run"
        _stop_half_way(subject, stopped)
        for number in range(tries):
            draw = random.Random(f"all-{seed}-{number}")
            run = Path(folder) / f"run-{number}"
            shutil.copytree(stopped, run)
            for path in sorted(run.glob("rounds/round-*.json" if number % 2 else "rounds/round-*.safetensors")):
                harm(path, KINDS[number % 4], draw)
            before = {path: path.read_bytes() for path in run.glob("rounds/*")}
            try:
                with RunStore.open(run, subject.recipe) as store:
                    store.latest()
            except FedkimError as error:
                after = {path: path.read_bytes() for path in run.glob("rounds/*")}
                refused += "stored rounds damaged" in str(error) and before == after
    return refused


def harm(path: Path, kind: str, draw: random.Random) -> None:
    """Damage one file."""
    data = bytearray(path.read_bytes())
    if kind == "flipped bit":
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif kind == "cut short":
        del data[draw.randrange(len(data)) :]
    elif kind == "emptied":
        data.clear()
    elif kind == "garbage":
        data[:] = draw.randbytes(len(data))
    if kind == "deleted":
        path.unlink()
    else:
        path.write_bytes(bytes(data))


def _stop_half_way(subject: Subject, run: Path) -> int:
    """A run killed within the injection of its last round; gives the last committed one."""
    steps, rounds = subject.recipe.injection.steps_per_round, subject.recipe.federation.rounds
    with child(lambda pipe: subject.run(run, pipe), f"injection.step@{rounds * steps}") as (_, pipe):
        everything(pipe)
    (done, *_) = reversed(RunStore(run).committed_rounds())
    return done
