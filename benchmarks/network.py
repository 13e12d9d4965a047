"""What a network costs: ``python -m benchmarks.network [--sites 5] [--rounds 4]`` runs a federation of processes on loopback with TLS.

The recipe is the smallest, so that what is left is Flower's and ours. Other work on the machine shows in every figure.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from fedkim.store.run_store import RunStore

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from network import Federation
from small_recipe import small


def measure(sites: int, rounds: int, folder: Path) -> list[tuple[str, str]]:
    """Rows of what and how much."""
    recipe = small(f"federation.sites={sites}", f"federation.rounds={rounds}", "evaluation.blind=false")
    with Federation(folder, recipe) as federation:
        coordinator = federation.start()
        federation.wait_for(lambda: coordinator.poll() is not None, 600)
        events = [event for event in federation.events() if event["event"] == "reply"]
        latest = RunStore(folder / "run").latest()
        assert latest is not None, federation.logs()
        history = latest.manifest["history"]
    walls, own, transport, sent, received = [], [], [], [], []
    for entry in history[1:]:  # the first round reads data and connects
        mine = [event for event in events if event["round"] == entry["round"]]
        walls.append(max(event["seconds"] for event in mine))
        own.append(max(event["value"] for event in mine))
        transport.append(statistics.median(event["seconds"] - event["value"] for event in mine))
        sent.append(max(event["sent"] for event in mine))
        received.append(max(event["received"] for event in mine))
    start = process_seconds()
    return [
        ("sites, rounds counted, load of the machine", f"{sites}, {len(walls)}, {os.getloadavg()[0]:.1f}"),
        (
            "a round's exchange, median (range)",
            f"{statistics.median(walls):.1f} s ({min(walls):.1f} to {max(walls):.1f})",
        ),
        ("of it: training, the slowest site's own time", f"{statistics.median(own):.1f} s"),
        ("of it: message, median site", f"{statistics.median(transport):.1f} s"),
        (
            "  processor time of starting one message's process",
            f"{start:.1f} s, for {sites} sites on {os.cpu_count()} cores",
        ),
        ("  Flower looks for work every", "3 s at the site, for replies every 0.5 s there and 0.3 s here"),
        ("bytes to a site, from a site, largest", f"{max(sent):,}, {max(received):,}"),
    ]


def process_seconds() -> float:
    """Processor seconds of importing what a message's process needs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "import flwr.supernode.cli, flwr.supernode.runtime.run_clientapp, fedkim.engines.flower.client_app"
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=4)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fedkim-network-") as folder:
        for what, figure in measure(chosen.sites, chosen.rounds, Path(folder)):
            print(f"{what:<55} {figure}")


if __name__ == "__main__":
    main()
