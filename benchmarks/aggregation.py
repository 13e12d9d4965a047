"""What aggregating costs: the mean beside Flower's, every robust rule, their memory, and the harness around a round.

``python -m benchmarks aggregation``; wants the extra ``flower``. Times are CPU seconds, by turns; memory is the largest that the
process held above what it held before. *Spooled* updates are mapped from files. Flower's function makes a new array of each
site's weights, which takes two or three times as long where the system has to find the pages: its ratio swings by that.
"""

import ctypes
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.attacks import Reply, flower_aggregate
from benchmarks.measure import Report, Settings, exact, ratio, take_turns
from fedkim.aggregation import ROBUST, Algorithm, Spool, fedavg, gate
from fedkim.state import State, Update

SITES, MEAN, ROBUST_SIZE = 10, 6_553_600, 2_000_000
"""Ten sites; 25 MiB of float32 for the mean, two million parameters for the rules."""
NAME = "encoder.image"
_MMAP_THRESHOLD = -3  # of glibc's mallopt


def run(settings: Settings, report: Report) -> None:
    """The parts ``mean``, ``rules``, ``guard``, ``harness`` and ``memory``."""
    logging.getLogger("flwr").setLevel(logging.WARNING)
    for part in (mean, rules, guard, harness, memory):  # memory changes how memory is got, which costs time
        if settings.wants(part.__name__):
            part(settings, report)


def mean(settings: Settings, report: Report) -> None:
    """Ten sites of 25 MiB, ours from memory and from disk, Flower's function and Flower's strategy."""
    from flwr.server.strategy.aggregate import aggregate
    from flwr.serverapp.strategy import FedAvg

    report.title("weighted mean of 10 × 25 MiB")
    before, updates = made(SITES, MEAN)
    arrays = [([t.numpy() for t in u.state.values()], u.num_examples[NAME]) for u in updates]
    replies = [Reply(update, NAME) for update in updates]
    with tempfile.TemporaryDirectory() as folder:
        arriving = Spool(Path(folder)).through(updates)
        spooled = [update for update in arriving if isinstance(update, Update)]
        seconds = take_turns(
            {
                "ours": lambda: _aggregate(fedavg(), before, updates),
                "ours, spooled": lambda: _aggregate(fedavg(), before, spooled),
                "Flower's aggregate": lambda: aggregate(arrays),
                "Flower's FedAvg": lambda: flower_aggregate(FedAvg(), [reply.again() for reply in replies]),
            },
            device="cpu",
            rounds=settings.rounds,
        )
    report.remember("mean", seconds)
    theirs = seconds["Flower's aggregate"]
    report.add(
        ratio("Flower's aggregate / ours", theirs, seconds["ours"], target=3.0, at_least=True),
        ratio("Flower's aggregate / ours, spooled", theirs, seconds["ours, spooled"], target=3.0, at_least=True),
        ratio("Flower's FedAvg (with its decoding) / ours", seconds["Flower's FedAvg"], seconds["ours"]),
    )


def rules(settings: Settings, report: Report) -> None:
    """Ten sites of two million parameters: each robust rule over the mean, and Flower's over ours."""
    from flwr.serverapp.strategy import FedMedian, FedTrimmedAvg, Krum, MultiKrum

    report.title("robust rules at 10 × 2,000,000 parameters")
    before, updates = made(SITES, ROBUST_SIZE)
    replies = [Reply(update, NAME) for update in updates]
    peers = {
        "median": FedMedian(),
        "trimmed-mean": FedTrimmedAvg(beta=0.2),
        "krum": Krum(num_malicious_nodes=2),
        "multi-krum": MultiKrum(num_malicious_nodes=2, num_nodes_to_select=6),
    }

    def ours(algorithm: Algorithm) -> Callable[[], object]:
        return lambda: _aggregate(algorithm, before, updates)

    def theirs(strategy: object) -> Callable[[], object]:
        return lambda: flower_aggregate(strategy, [reply.again() for reply in replies])

    variants = {"fedavg": ours(fedavg())} | {name: ours(algorithm) for name, algorithm in _rules().items()}
    variants |= {f"Flower {name}": theirs(strategy) for name, strategy in peers.items()}
    seconds = take_turns(variants, device="cpu", rounds=settings.rounds, warm_up=1)
    report.remember("rules", seconds)
    report.add(*(ratio(f"{name} / mean", seconds[name], seconds["fedavg"]) for name in _rules()))
    report.add(*(ratio(f"Flower's {name} / ours", seconds[f"Flower {name}"], seconds[name]) for name in peers))


def memory(settings: Settings, report: Report) -> None:
    """The largest memory above the updates themselves, in sizes of one update; one is the result."""
    report.title("memory above the updates, in updates of one site (2,000,000 parameters)")
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 1 << 16)  # each tensor a mapping of its own: what is let go is gone
    for sites in (10, 40):
        before, updates = made(sites, ROBUST_SIZE)
        size = before.num_bytes
        for name, algorithm in {"fedavg": fedavg(), **_rules()}.items():
            with _largest_memory() as largest:
                kept = _aggregate(algorithm, before, updates)
            del kept
            report.add(exact(f"{name}, {sites} sites", largest[0] / size, target=3.0))


def harness(settings: Settings, report: Report) -> None:
    """What an in-process round of 5 sites × 25 MiB spends outside of training: slices, gate, mean."""
    report.title("the harness of a round: 5 sites × 25 MiB")
    before, updates = made(5, MEAN)
    owned = {update.site: (NAME,) for update in updates}

    def around() -> None:
        slices = [before.slice(components) for components in owned.values()]
        accepted, _ = gate(updates, round=1, state=before, owned=owned)
        assert len(accepted) == len(slices) == 5
        _aggregate(fedavg(), before, accepted)

    seconds = take_turns(
        {
            "harness": around,
            "gate": lambda: gate(updates, round=1, state=before, owned=owned),
            "mean": lambda: _aggregate(fedavg(), before, updates),
            "digest": before.digest,
        },
        device="cpu",
        rounds=settings.rounds,
    )
    report.remember("harness", seconds)
    report.add(ratio("seconds", seconds["harness"], [1.0] * settings.rounds, target=0.15))


def guard(settings: Settings, report: Report) -> None:
    """The gate and the digests of ten sites of about two million parameters, over what their training takes."""
    from fedkim.engines import InProcess
    from fedkim.federation import Contribution
    from fedkim.recipe import from_dict
    from fedkim.run.world import build_world

    report.title(
        "gate and digests beside a round of 10 sites × 2 million parameters (synthetic patients, one local epoch)"
    )
    recipe = from_dict({"federation": {"sites": 10}, "extraction": {"width": 224}, "run": {"workers": 1}})
    world = build_world(recipe)
    engine = InProcess(
        world.sites,
        owned=world.owned,
        tasks=world.seen,
        settings=recipe.extraction,
        penalty=None,
        participation=1.0,
        workers=1,
        seed=0,
    )
    kept: list[Update] = []

    def sites() -> None:
        kept[:] = [update for update in engine(1, world.initial) if isinstance(update, Update)]

    def guarded() -> None:
        fresh = [replace(update, state=State(dict(update.state))) for update in kept]  # a digest is computed once
        accepted, _ = gate(fresh, round=1, state=world.initial, owned=world.owned, declared=world.declared)
        assert len(accepted) == 10
        for update in accepted:
            Contribution.of(update)

    seconds = take_turns({"sites": sites, "guard": guarded}, device="cpu", rounds=max(3, settings.rounds // 5))
    report.remember("guard", seconds)
    size = sum(tensor.numel() for tensor in kept[0].state.values())
    report.add(
        ratio("gate and digests / the sites' part of a round", seconds["guard"], seconds["sites"], target=0.05),
        exact("parameters of a site", size / 1e6, note=" million"),
    )


def made(sites: int, size: int) -> tuple[State, list[Update]]:
    """A broadcast and updates of ``size`` parameters in eight tensors of one component."""
    generator = torch.Generator().manual_seed(0)
    keys = [f"{NAME}.{number}.weight" for number in range(8)]
    before = State({key: torch.randn(size // 8, generator=generator) for key in keys})
    digest = before.digest()

    def moved() -> State:
        return State(
            {key: value + 0.01 * torch.randn(value.shape, generator=generator) for key, value in before.items()}
        )

    updates = [
        Update(site=f"site-{n:02d}", round=1, base_digest=digest, state=moved(), num_examples={NAME: 50 + n})
        for n in range(sites)
    ]
    return before, updates


def _rules() -> Mapping[str, Algorithm]:
    return {name: maker(byzantine=2 if name != "trimmed-mean" else 1) for name, maker in ROBUST.items()}


def _aggregate(algorithm: Algorithm, before: State, updates: Sequence[Update]) -> State:
    return algorithm.aggregate(before, updates, State())[0]


@contextmanager
def _largest_memory() -> Iterator[list[int]]:
    """Bytes of the largest resident memory above the start."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the mark of the largest begins anew
    start, largest = _mark(), [0]
    yield largest
    largest[0] = _mark() - start


def _mark() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
