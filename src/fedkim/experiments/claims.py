"""The claims: nine of the paper's and three of ours, each as one difference per seed whose sign decides.

Every difference is in points, positive where the claim is right, and paired: both sides are of the same seed, so of the
same patients, split and sites. ``evaluation.seeds`` turns them into verdicts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fedkim.evaluation.seeds import Verdict, verdicts
from fedkim.experiments.scores import Scores, common

LORA, MATCHED = "fedplug-lora", "fedplug-lora-matched"
SHARE = 0.95
"""Of what bringing all data together gains over staying alone: FEDKIM should reach so much."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One sentence and the difference that decides it."""

    number: str
    sentence: str
    measure: str
    """What the difference is, in words."""
    differences: Callable[[Scores], dict[int, float]]
    """By seed; a seed without all cells it needs is left out."""
    ours: bool = False


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A claim with its verdict."""

    claim: Claim
    by_seed: Mapping[int, float]
    verdict: Verdict


def decide(scores: Scores) -> list[Decided]:
    """All claims, Holm-adjusted together over those that have at least two seeds."""
    differences = {claim.number: claim.differences(scores) for claim in CLAIMS}
    found = verdicts({number: list(values.values()) if values else None for number, values in differences.items()})
    return [Decided(claim=claim, by_seed=differences[claim.number], verdict=found[claim.number]) for claim in CLAIMS]


def _minus(first: Mapping[int, float], *others: Mapping[int, float]) -> dict[int, float]:
    """First less the largest of the others, seed by seed."""
    return {seed: first[seed] - max(other[seed] for other in others) for seed in common(first, *others)}


def _against(which: str, first: str, *others: str) -> Callable[[Scores], dict[int, float]]:
    return lambda scores: _minus(scores.by_seed(first, which), *(scores.by_seed(other, which) for other in others))


def _below(which: str, last: str, *others: str) -> Callable[[Scores], dict[int, float]]:
    """The smallest of the others less ``last``."""

    def below(scores: Scores) -> dict[int, float]:
        low = scores.by_seed(last, which)
        columns = [scores.by_seed(other, which) for other in others]
        return {seed: min(column[seed] for column in columns) - low[seed] for seed in common(low, *columns)}

    return below


def _base_fails(scores: Scores) -> dict[int, float]:
    gains = {seed: cells[0].over_majority("base") for seed, cells in scores.group("fedkim").items()}
    return {seed: -gain for seed, gain in gains.items() if gain is not None}


def _more_on_generation(scores: Scores) -> dict[int, float]:
    text = _against("generation", "fedkim", MATCHED)(scores)
    closed = _against("unseen", "fedkim", MATCHED)(scores)
    return {seed: text[seed] - closed[seed] for seed in common(text, closed)}


def _backbones(method: str) -> Callable[[Scores], dict[int, float]]:
    return lambda scores: _minus(
        scores.by_seed(method, "all", backbone="fedprox"), scores.by_seed(method, "all", backbone="fedavg")
    )


def _sites_gain(scores: Scores) -> dict[int, float]:
    after = scores.by_seed("fedkim", "seen", row="small_after")
    return _minus(after, scores.by_seed("fedkim", "seen", row="small_before"))


def _share_of_centralised(scores: Scores) -> dict[int, float]:
    fedkim, together, alone = (scores.by_seed(name, "seen") for name in ("fedkim", "centralised", "local-only"))
    return {
        seed: (fedkim[seed] - alone[seed]) - SHARE * (together[seed] - alone[seed])
        for seed in common(fedkim, together, alone)
    }


CLAIMS: tuple[Claim, ...] = (
    Claim(
        number="1",
        sentence="The language model alone fails on unseen tasks",
        measure="majority − base model: accuracy and exact match on unseen tasks",
        differences=_base_fails,
    ),
    Claim(
        number="2",
        sentence="FedPlug is the worst",
        measure="weakest of both FedPlug_L and FEDKIM − FedPlug: AUROC, seen and unseen",
        differences=_below("all", "fedplug", LORA, MATCHED, "fedkim"),
    ),
    Claim(
        number="3",
        sentence="FEDKIM beats FedPlug_L on unseen classification",
        measure="FEDKIM − FedPlug_L (P·r): AUROC, unseen",
        differences=_against("unseen", "fedkim", MATCHED),
    ),
    Claim(
        number="4",
        sentence="… and more so on generation",
        measure="that difference in exact match − that difference in AUROC",
        differences=_more_on_generation,
    ),
    Claim(
        number="5",
        sentence="FEDKIM beats both on seen tasks",
        measure="FEDKIM − best of FedPlug and both FedPlug_L: AUROC, seen",
        differences=_against("seen", "fedkim", "fedplug", LORA, MATCHED),
    ),
    Claim(
        number="6a",
        sentence="FedProx beats FedAvg under FEDKIM",
        measure="FedProx − FedAvg: AUROC, seen and unseen",
        differences=_backbones("fedkim"),
    ),
    Claim(
        number="6b",
        sentence="FedProx beats FedAvg under FedPlug_L",
        measure="FedProx − FedAvg: AUROC, seen and unseen",
        differences=_backbones(MATCHED),
    ),
    Claim(
        number="7",
        sentence="Without the sites (FEDKIM_pub) the loss is largest",
        measure="weaker description ablation − FEDKIM_pub: AUROC, seen and unseen",
        differences=_below("all", "fedkim-pub", "without-task", "without-modality"),
    ),
    Claim(
        number="8",
        sentence="Without the task description it is worse",
        measure="FEDKIM − w/o task description: AUROC, seen and unseen",
        differences=_against("all", "fedkim", "without-task"),
    ),
    Claim(
        number="9",
        sentence="Without the modality description it is worse",
        measure="FEDKIM − w/o modality description: AUROC, seen and unseen",
        differences=_against("all", "fedkim", "without-modality"),
    ),
    Claim(
        number="10",
        sentence="Routing beats the uniform route",
        measure="FEDKIM − uniform: AUROC, seen and unseen",
        differences=_against("all", "fedkim", "uniform"),
        ours=True,
    ),
    Claim(
        number="11",
        sentence="The sites gain from the language model",
        measure="small models after − before the last injection: AUROC, seen",
        differences=_sites_gain,
        ours=True,
    ),
    Claim(
        number="12",
        sentence="FEDKIM reaches 95 % of what centralising gains",
        measure="(FEDKIM − local-only) − 0.95 · (centralised − local-only): AUROC, seen",
        differences=_share_of_centralised,
        ours=True,
    ),
)
