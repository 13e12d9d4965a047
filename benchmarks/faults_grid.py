"""Faults over a grid in this process: lost, replayed, doubled and foreign updates, with a clock that moves only by waiting."""

import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict
from unittest import mock

from fedkim.aggregation import Rejection, gate
from fedkim.engines.flower import exchange as module
from fedkim.engines.flower.exchange import FlowerExchange
from fedkim.engines.flower.messages import Reply, reply_from, to_header
from fedkim.engines.flower.roster import Registered
from fedkim.engines.flower.waiting import Waiting
from fedkim.engines.flower.wire import component_digests
from fedkim.site.keys import make_site_keys
from fedkim.state import State, Update

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import torch

from flower_grid import Answer, Clock, Grid

if TYPE_CHECKING:  # run as a program, that module is __main__ with a Row of its own, so it hands Row in
    from benchmarks.faults_network import Row

DEADLINE, GRACE = 60.0, 5.0
SLICE = State({"encoder.image.w": torch.ones(64), "decoder.covid.w": torch.ones(8)})


class Fault(TypedDict, total=False):
    """What is wrong with a site."""

    lost: bool
    """It never answers."""
    change: Callable[[dict[str, Any], bytes], Answer]
    """What becomes of its answer's header and body."""


class Site:
    """A site that trains nothing: it adds a little to what it got."""

    def __init__(self, name: str, fault: Fault | None = None):
        self.name, self.fault = name, fault
        self.kept: dict[tuple[str, str], State] = {}  # by component and digest

    def __call__(self, header: dict[str, Any], body: bytes) -> Answer | None:
        if self.fault and self.fault.get("lost"):
            return None
        got = State.from_bytes(body) if body else State()
        for part, digest in component_digests(got).items():
            self.kept[part, digest] = got.slice([part])
        base = State({k: t for item in header["components"].items() for k, t in self.kept[item].items()})
        trained = State({key: tensor + 0.01 for key, tensor in base.items()})
        held = {part: tuple(d for p, d in self.kept if p == part)[-1:] for part in header["components"]}
        reply = Reply(
            run=header["run"],
            round=header["round"],
            site=self.name,
            nonce=header["nonce"],
            status="ok",
            base=header["base"],
            num_examples=dict.fromkeys(base.components(), 10),
            metrics={"loss": 0.5, "seconds": 0.0},
            held=held,
        )
        answer = to_header(reply_from(to_header(reply))), trained.to_bytes()
        return self.fault["change"](*answer) if self.fault and "change" in self.fault else answer


def federation(
    folder: Path, number: int, quorum: int, faults: Mapping[str, Fault] | None = None
) -> tuple[FlowerExchange, Grid, list[dict[str, Any]], dict[str, Site]]:
    """``(exchange, grid, events, sites)`` of so many sites."""
    grid = Grid()
    events: list[dict[str, Any]] = []
    sites: dict[str, Site] = {}
    registered: dict[str, Registered] = {}
    for index in range(1, number + 1):
        name = f"site-{index}"
        key = make_site_keys(folder / f"{name}.key")
        sites[name] = Site(name, (faults or {}).get(name))
        registered[name] = Registered(name=name, public_key=key, declared={"encoder.image": 99, "decoder.covid": 99})
        grid.connect(index, key, sites[name])
    exchange = FlowerExchange(
        grid,
        registered,
        run="run",
        recipe="recipe",
        waiting=Waiting(quorum=quorum, deadline=DEADLINE, grace=GRACE, attempts=3),
        tell=lambda event, **fields: events.append({"event": event, **fields}),
    )
    return exchange, grid, events, sites


def grid_rows(row: "type[Row]") -> Iterator["Row"]:
    """The table's rows of this kind."""
    import tempfile

    for rows in (lost, replayed, foreign):
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(module, "time", Clock()):
            yield rows(row, Path(folder))


def updates(answers: Iterable[Update | Rejection]) -> list[Update]:
    """What a round was given; who gave nothing comes as a rejection and is left out."""
    return [answer for answer in answers if isinstance(answer, Update)]


def lost(row: "type[Row]", folder: Path) -> "Row":
    """Half the sites lost in each of thirty rounds."""
    draw, number = random.Random(0), 10
    exchange, _, events, sites = federation(folder, number, quorum=4)
    longest, taken = 0.0, 0
    for round in range(1, 31):
        gone = draw.sample(sorted(sites), number // 2)
        for name, site in sites.items():
            site.fault = {"lost": name in gone}
        began = module.time.monotonic()  # the grid's clock
        taken += len(updates(exchange(round, SLICE)))
        longest = max(longest, module.time.monotonic() - began)
    told = sum(event["event"] == "absent" for event in events)
    ok = taken == 150 and told == 150 and longest <= DEADLINE + 5
    outcome = f"30 rounds finished, {taken} updates, {told} absences told, slowest round {longest:.0f} s of {DEADLINE:.0f} (grid)"
    return row(fault="half of ten sites lost in each of 30 rounds", times=150, outcome=outcome, ok=ok)


def replayed(row: "type[Row]", folder: Path) -> "Row":
    """Old answers, doubled answers, answers of another run or site."""
    old: list[Answer] = []

    def replay(header: dict[str, Any], body: bytes) -> Answer:
        old.append((header, body))
        return old[0] if len(old) > 1 else (header, body)

    exchange, _, events, _ = federation(folder, 3, 2, {"site-2": {"change": replay}})
    list(exchange(1, SLICE))
    accepted = sum(update.site == "site-2" for round in range(2, 502) for update in updates(exchange(round, SLICE)))
    rejected = sum(event["event"] == "rejected" for event in events)
    outcome = f"{accepted} taken, {rejected} told as rejected; every round finished (grid)"
    return row(fault="replayed update", times=500, outcome=outcome, ok=accepted == 0 and rejected == 500)


def foreign(row: "type[Row]", folder: Path) -> "Row":
    """A site that sends a component that isn't its own, or too many examples; and a second update through the gate."""

    def change(header: dict[str, Any], body: bytes) -> Answer:
        more = State.from_bytes(body).updated({"decoder.mortality.w": torch.ones(4)})
        return header, more.to_bytes()

    exchange, _, events, _ = federation(folder, 3, 2, {"site-2": {"change": change}})
    taken = list(exchange(1, SLICE))
    owned = {f"site-{index}": ("encoder.image", "decoder.covid") for index in (1, 2, 3)}
    accepted, _ = gate([*taken, *taken], round=1, state=SLICE, owned=owned)
    ok = [update.site for update in accepted] == ["site-1", "site-3"]
    reasons = [event["reason"] for event in events if event["event"] == "rejected"]
    outcome = f"left out ({', '.join(reasons)}), the others averaged, doubled ones counted once (grid)"
    return row(fault="another's component; doubled updates", times=3, outcome=outcome, ok=ok and len(reasons) == 1)
