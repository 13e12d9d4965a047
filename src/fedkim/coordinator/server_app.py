"""What Flower starts at the coordinator: the same loop as in one process, with Flower's Grid as the engine.

Between two rounds no message is under way and the sites only look for work, so injection may take as long as it takes.
"""

import os
import secrets
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedkim.aggregation import Rejection
from fedkim.coordinator.federation_file import FederationFile, load_federation_file, require_sites
from fedkim.coordinator.standing import MANIFEST, write_standing
from fedkim.engines.flower.exchange import FlowerExchange
from fedkim.engines.flower.roster import Registered
from fedkim.errors import FedkimError
from fedkim.federation import Exchange
from fedkim.progress import Plain
from fedkim.state import State, Update
from fedkim.store.events import Events
from fedkim.store.files import write_text
from fedkim.store.lock import lock_holder
from fedkim.store.run_folder import RunFolder

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation to its end, or to a reason."""
    file = load_federation_file(os.environ[MANIFEST])
    ended = threading.Event()
    _end_with(file.state / "coordinator.lock", ended)
    with open(file.state / "progress.log", "a", encoding="utf-8") as log:
        try:
            result = run(file, grid, Plain(log))
        except FedkimError as raised:
            error = _networked(raised)
            write_standing(file.state, "failed", reason=str(error), round=_round(file))
            print(f"fedkim: error: {error}", file=sys.stderr)
        except Exception as error:
            write_standing(file.state, "failed", reason=_unforeseen(error), round=_round(file))
            raise
        else:
            write_standing(file.state, "finished", round=_round(file), digest=result["train_info"]["digest"])
        finally:
            ended.set()


def run(file: FederationFile, grid: Grid, progress: Plain) -> dict[str, Any]:
    """Run the rounds, score. The sites are waited for when the first of them is asked: a round whose updates were kept
    goes on without them, and a finished run needs nobody.

    Raises:
        FedkimError: too few sites, at the start or round after round.
    """
    from fedkim.run.network import Network
    from fedkim.run.pipeline import run_recipe

    require_sites(file)
    write_standing(file.state, "running", round=_round(file))
    name = run_name(file)
    events = Events(file.state / "network.jsonl")
    events.mend()
    exchange = FlowerExchange(
        grid,
        {
            name: Registered(name=name, public_key=file.sites[name].public_key, declared=declared)
            for name, declared in file.declared().items()
        },
        run=name,
        recipe=file.recipe.digest(),
        waiting=file.network,
        uploads=file.network.uploads,
        participation=file.recipe.federation.participation,
        seed=file.recipe.run.seed,
        tell=events.append,
    )
    return run_recipe(
        file.run_recipe,
        out=file.out,
        progress=progress,
        network=Network(declared=file.declared(), exchange=_once_connected(exchange, file, progress)),
    )


def _once_connected(exchange: FlowerExchange, file: FederationFile, progress: Plain) -> Exchange:
    connected = False

    def asked(round: int, state: State) -> Iterable[Update | Rejection]:
        nonlocal connected
        if not connected:
            write_standing(file.state, "waiting", round=_round(file))
            here = exchange.wait_for_sites()
            progress.line(f"{len(here)} of {len(file.sites)} sites connected: {', '.join(here)}")
            write_standing(file.state, "running", round=_round(file))
            connected = True
        return exchange(round, state)

    return asked


_REMEDIES = {
    "(--out)": "([recipe] out of the manifest)",
    "with --out": "with [recipe] out of the manifest",
    "with --force": "in another folder ([recipe] out of the manifest)",
    "--force begins anew": "another [recipe] out of the manifest begins anew",
}


def _networked(error: FedkimError) -> FedkimError:
    """The error with a remedy that a coordinator has: its command knows neither --out nor --force."""
    remedy = error.remedy
    for theirs, ours in _REMEDIES.items():
        remedy = remedy.replace(theirs, ours)
    return error.with_remedy(remedy)


def _unforeseen(error: Exception) -> str:
    """An error that nobody thought of, in a line: the system's with its file, any other by its type alone."""
    told = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        told = ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    return f"an error of the program: {told}; see superlink.log; the same command resumes"


def run_name(file: FederationFile) -> str:
    """The run's name to the sites, which count its rounds: made once for a run's folder, kept beside it.

    With another name other events begin: those of the run before are kept as ``network-NAME.jsonl``.
    """
    path = file.state / "run-name"
    if not path.exists() or not (file.out / "recipe.json").is_file():
        events = file.state / "network.jsonl"
        if path.exists() and events.exists():
            events.rename(file.state / f"network-{path.read_text(encoding='utf-8').strip()}.jsonl")
        write_text(path, f"{file.recipe.run.name[:32]}-{secrets.token_hex(8)}")
    return path.read_text(encoding="utf-8").strip()


def _round(file: FederationFile) -> int:
    return RunFolder(file.out).newest_round()


def _end_with(lock: Path, ended: threading.Event) -> None:
    """End this process when the coordinator that started it is gone: the next one must find the run's folder free.

    Unless the loop has ``ended`` by itself; what the standing says may be the coordinator's own last word, or the next one's.
    """
    holder = lock_holder(lock)

    def watch() -> None:
        while lock_holder(lock) == holder is not None:
            time.sleep(0.5)
        if not ended.is_set():
            os._exit(75)

    threading.Thread(target=watch, daemon=True).start()
