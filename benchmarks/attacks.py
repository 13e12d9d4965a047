"""One bad site among ten: what each attack does to each rule, behind our gate and in plain Flower.

``python -m benchmarks.attacks`` prints both tables; ``tests/aggregation/test_attacks.py`` holds ours to the bound. The honest
sites all saw the same thing with a little noise: they moved the broadcast by the true step and 0.1 of its size at random. An
outcome is the distance from the true step, over the step's length, so an honest mean is at 0.03 and a model that learned nothing
at 1. Toy numbers: for passed or failed, not for how bad.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from fedkim.aggregation import Algorithm, gate
from fedkim.aggregation.algorithms import fedavg, fedprox
from fedkim.aggregation.clipping import clipped_mean, distance
from fedkim.aggregation.krum import krum, multi_krum
from fedkim.aggregation.robust import median, trimmed_mean
from fedkim.randomness import generator_for
from fedkim.state import State, Update

NAME, WEIGHT, BIAS = "encoder.image", "encoder.image.weight", "encoder.image.bias"
ALLOWED = 2.0
"""Times the honest error that an attack may cause."""

RULES: Mapping[str, Algorithm] = {
    "fedavg": fedavg(),
    "fedprox": fedprox(),
    "median": median(byzantine=2),
    "trimmed-mean": trimmed_mean(trim_share=0.2),
    "krum": krum(byzantine=2),
    "multi-krum": multi_krum(byzantine=2, selected=3),
    "clipped-mean": clipped_mean(byzantine=2),
}
"""What is attacked: FedAvg, FedProx and the robust rules; all would stand two liars of ten."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A round with ten honest sites, one component and a known right answer."""

    round: int
    broadcast: State
    truth: State
    honest: Sequence[Update]
    """The last of them turns bad."""

    @property
    def owned(self) -> dict[str, tuple[str, ...]]:
        """Components by site."""
        return {update.site: (NAME,) for update in self.honest}

    @property
    def declared(self) -> dict[str, dict[str, int]]:
        """Examples that each site registered."""
        return {update.site: dict(update.num_examples) for update in self.honest}

    def error(self, state: Mapping[str, torch.Tensor]) -> float:
        """How far a state is from the truth, over the length of the true step."""
        return distance(self.truth, state) / distance(self.truth, self.broadcast)


Admit = Callable[[Scene, Sequence[Update]], list[Update]]
"""The gate under test: ``(scene, updates as delivered) -> those that may be averaged``."""

Attack = Callable[[Update, State], Update]
"""``(what an honest site would send, the broadcast) -> what the bad one sends``."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one rule under one attack."""

    rule: str
    attack: str
    error: float
    """NaN where the round was aborted."""
    honest: float
    """The same rule's error when all ten are honest."""
    aborted: str = ""
    """The exception that ended the round."""

    @property
    def stood(self) -> bool:
        """Whether the round went on and the error is at most twice the honest one."""
        return not self.aborted and self.error <= ALLOWED * self.honest  # NaN compares as False

    def cell(self) -> str:
        """For a table: the error, or the exception; bold where it didn't stand."""
        text = self.aborted or (f"{self.error:.3f}" if self.error < 1000 else f"{self.error:.1e}")
        return text if self.stood else f"**{text}**"


def scene(*, seed: int = 0, sites: int = 10, noise: float = 0.1) -> Scene:
    """Ten sites, a thousand weights, a step of random direction."""
    generator = generator_for(seed, "attacked scene")

    def drawn() -> dict[str, torch.Tensor]:
        return {WEIGHT: torch.randn(100, 9, generator=generator), BIAS: torch.randn(100, generator=generator)}

    def plus(state: Mapping[str, torch.Tensor], step: Mapping[str, torch.Tensor], scale: float) -> State:
        return State({key: state[key] + scale * step[key] for key in state})

    broadcast = State(drawn())
    truth = plus(broadcast, drawn(), 1.0)
    honest = [
        Update(
            site=f"site-{number:02d}",
            round=7,
            base_digest=broadcast.digest(),
            state=plus(truth, drawn(), noise),
            num_examples={NAME: 9 if number else 8},  # those of nine sum to 80
        )
        for number in range(sites)
    ]
    return Scene(round=7, broadcast=broadcast, truth=truth, honest=honest)


def _filled(value: float) -> Attack:
    return lambda update, broadcast: _with(update, {key: torch.full_like(t, value) for key, t in update.state.items()})


def _with(update: Update, tensors: Mapping[str, torch.Tensor]) -> Update:
    return replace(update, state=update.state.updated(tensors))


def _without(update: Update, key: str) -> Update:
    return replace(update, state=State({name: tensor for name, tensor in update.state.items() if name != key}))


def _flipped(update: Update, broadcast: State, *, times: float) -> Update:
    return _with(
        update, {key: broadcast[key] - times * (tensor - broadcast[key]) for key, tensor in update.state.items()}
    )


def _claims(count: object) -> Attack:
    return lambda update, broadcast: replace(update, num_examples={NAME: count})  # type: ignore[dict-item]


ATTACKS: Mapping[str, Attack] = {
    "NaN": _filled(math.nan),
    "infinity": _filled(math.inf),
    "1e30": _filled(1e30),
    "sign flip ×10": lambda update, broadcast: _flipped(update, broadcast, times=10),
    "shape (1,)": lambda update, broadcast: _with(update, {WEIGHT: torch.tensor([50.0])}),
    "one row more": lambda update, broadcast: _with(update, {WEIGHT: torch.ones(101, 9)}),
    "missing key": lambda update, broadcast: _without(update, BIAS),
    "foreign key": lambda update, broadcast: _with(update, {f"{NAME}.extra": torch.ones(3)}),
    "wrong type": lambda update, broadcast: _with(update, {WEIGHT: update.state[WEIGHT].double()}),
    "count 1e12": _claims(10**12),
    "count -80": _claims(-80),
    "count NaN": _claims(math.nan),
}
"""The twelve, by name."""


def admit(scene: Scene, updates: Sequence[Update]) -> list[Update]:
    """Our gate, with a site's registered count as its largest and five times the round's median step as the farthest.

    The one place here that knows the gate's signature.
    """
    accepted, _ = gate(updates, round=scene.round, state=scene.broadcast, owned=scene.owned, declared=scene.declared)
    return accepted


def open_door(scene: Scene, updates: Sequence[Update]) -> list[Update]:
    """No gate at all: what the rules are worth by themselves."""
    return list(updates)


def matrix(admit: Admit = admit, rules: Mapping[str, Algorithm] = RULES, *, seed: int = 0) -> list[Outcome]:
    """Every attack on every rule behind a gate."""

    def aggregate(rule: Algorithm) -> Callable[[Scene, Sequence[Update]], Mapping[str, torch.Tensor]]:
        return lambda scene, updates: rule.aggregate(scene.broadcast, admit(scene, updates), State())[0]

    return _outcomes(scene(seed=seed), {name: aggregate(rule) for name, rule in rules.items()})


def flower_matrix(*, seed: int = 0) -> list[Outcome]:
    """The same attacks on Flower's own strategies, as they come; needs the extra ``flower``."""
    from flwr.serverapp.strategy import FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum

    strategies = {
        "FedAvg": FedAvg(),
        "FedMedian": FedMedian(),
        "FedTrimmedAvg": FedTrimmedAvg(beta=0.2),
        "Krum": Krum(num_malicious_nodes=2),
        "MultiKrum": MultiKrum(num_malicious_nodes=2, num_nodes_to_select=3),
    }

    def aggregate(strategy: FedAvg) -> Callable[[Scene, Sequence[Update]], Mapping[str, torch.Tensor]]:
        return lambda scene, updates: flower_aggregate(strategy, [Reply(update, NAME) for update in updates])

    return _outcomes(scene(seed=seed), {name: aggregate(strategy) for name, strategy in strategies.items()})


def flower_aggregate(strategy: object, replies: Sequence["Reply"]) -> dict[str, torch.Tensor]:
    """What a Flower strategy makes of replies."""
    logging.getLogger("flwr").setLevel(logging.WARNING)  # it tells of every reply
    with np.errstate(all="ignore"):
        arrays, _ = strategy.aggregate_train(1, replies)  # type: ignore[attr-defined]
    return {key: torch.from_numpy(array.numpy().copy()) for key, array in arrays.items()}


class Reply:
    """An update with the one component ``name`` as Flower's strategies read it; a real message wants a running SuperLink."""

    def __init__(self, update: Update, name: str):
        from flwr.app import Array, RecordDict

        self.arrays = {key: Array(tensor.numpy()) for key, tensor in update.state.items()}
        self.count = update.num_examples[name]
        self.content: RecordDict = self.again().content

    def again(self) -> "Reply":
        """The same reply afresh: some strategies take the arrays out of what they are given."""
        from flwr.app import ArrayRecord, MetricRecord, RecordDict

        other = object.__new__(Reply)
        other.arrays, other.count = self.arrays, self.count
        metrics = MetricRecord({"num-examples": self.count})
        other.content = RecordDict({"arrays": ArrayRecord(self.arrays), "metrics": metrics})
        return other

    def has_error(self) -> bool:
        return False


Aggregated = Callable[[Scene, Sequence[Update]], Mapping[str, torch.Tensor]]


def _outcomes(scene: Scene, systems: Mapping[str, Aggregated]) -> list[Outcome]:
    outcomes = []
    for rule, aggregate in systems.items():
        honest = scene.error(aggregate(scene, scene.honest))
        for name, attack in ATTACKS.items():
            *others, last = scene.honest
            aborted, error = "", math.nan
            try:
                error = scene.error(aggregate(scene, [*others, attack(last, scene.broadcast)]))
            except Exception as problem:  # an attack that ends the round is an outcome
                aborted = type(problem).__name__
            outcomes.append(Outcome(rule=rule, attack=name, error=error, honest=honest, aborted=aborted))
    return outcomes


def table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table, attacks down, rules across; bold is what an attack did."""
    honest = {outcome.rule: outcome.honest for outcome in outcomes}
    rules, rows = list(honest), {"none": [f"{error:.3f}" for error in honest.values()]}
    for attack in ATTACKS:
        rows[attack] = [outcome.cell() for outcome in outcomes if outcome.attack == attack]
    lines = [f"| attack | {' | '.join(rules)} |", f"|---|{'---|' * len(rules)}"]
    return "\n".join(lines + [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()])


def main() -> None:
    """Print what stands and what falls."""
    for title, outcomes in (
        ("fedkim, behind the gate", matrix()),
        ("fedkim's rules without the gate", matrix(open_door)),
    ):
        print(f"\n{title}: {sum(outcome.stood for outcome in outcomes)} of {len(outcomes)} stood\n\n{table(outcomes)}")
    outcomes = flower_matrix()
    print(f"\nFlower's strategies: {sum(o.stood for o in outcomes)} of {len(outcomes)} stood\n\n{table(outcomes)}")


if __name__ == "__main__":
    main()
