"""The claims: ten of the paper's and four of ours, each as one difference per seed whose sign decides.

Every difference is in points, positive where the claim is right, and paired: both sides are of the same seed, so of the
same patients, split and sites. ``evaluation.seeds`` turns them into verdicts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fedkim.evaluation.seeds import Verdict, t_statistic, verdicts
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


def _minus(first: Mapping[int, float], second: Mapping[int, float]) -> dict[int, float]:
    return {seed: first[seed] - second[seed] for seed in common(first, second)}


def _least_certain(differences: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Of differences that must all lie above 0 the one with the smallest t, on the seeds that all have.

    All lie above 0 where this one does (an intersection–union test, without correction for their number). The difference to
    the best of several, seed by seed, would carry the best one's luck.
    """
    seeds = common(*differences)
    columns = [{seed: one[seed] for seed in seeds} for one in differences]
    return min(columns, key=lambda column: t_statistic(list(column.values())))


def _against(which: str, first: str, *others: str) -> Callable[[Scores], dict[int, float]]:
    return lambda scores: _least_certain(
        [_minus(scores.by_seed(first, which), scores.by_seed(other, which)) for other in others]
    )


def _below(which: str, last: str, *others: str) -> Callable[[Scores], dict[int, float]]:
    return lambda scores: _least_certain(
        [_minus(scores.by_seed(other, which), scores.by_seed(last, which)) for other in others]
    )


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


def _sites_gain_over_the_run(scores: Scores) -> dict[int, float]:
    """FEDKIM+ leaves the encoders alone, so its small models are a plain federation's: comparable at the same tokens."""
    tokens: list[dict[int, object]] = [
        {seed: cells[0].settings.get("extraction", {}).get("tokens") for seed, cells in groups.items()}
        for groups in (scores.group("fedkim"), scores.group("fedkim-plus"))
    ]
    found = _minus(*(scores.by_seed(name, "seen", row="small_before") for name in ("fedkim", "fedkim-plus")))
    return {seed: value for seed, value in found.items() if tokens[0][seed] == tokens[1][seed]}


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
        measure=(
            "majority − base model: accuracy and exact match on unseen tasks. Asked without a patient the base gives everybody one "
            "answer, so on a yes/no task it can't pass the majority"
        ),
        differences=_base_fails,
    ),
    Claim(
        number="2",
        sentence="FedPlug is the worst",
        measure="FedPlug_L (r), FedPlug_L (P·r), FEDKIM, each − FedPlug; the least certain: AUROC, seen and unseen",
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
        measure="FEDKIM − each of FedPlug and both FedPlug_L; the least certain: AUROC, seen",
        differences=_against("seen", "fedkim", "fedplug", LORA, MATCHED),
    ),
    Claim(
        number="6a",
        sentence="FedProx beats FedAvg under FEDKIM",
        measure="FedProx with the matrix's μ − FedAvg: AUROC, seen and unseen",
        differences=_backbones("fedkim"),
    ),
    Claim(
        number="6b",
        sentence="FedProx beats FedAvg under FedPlug_L",
        measure="FedProx with the matrix's μ − FedAvg: AUROC, seen and unseen",
        differences=_backbones(MATCHED),
    ),
    Claim(
        number="7",
        sentence="Without the sites (FEDKIM_pub) the loss is largest",
        measure="each description ablation − FEDKIM_pub; the least certain: AUROC, seen and unseen",
        differences=_below("all", "fedkim-pub", "without-task", "without-modality"),
    ),
    Claim(
        number="8",
        sentence="Without the task description it is worse",
        measure="FEDKIM − w/o task description, both with FEDKIM's choice of settings: AUROC, seen and unseen",
        differences=_against("all", "fedkim", "without-task"),
    ),
    Claim(
        number="9",
        sentence="Without the modality description it is worse",
        measure="FEDKIM − w/o modality description, both with FEDKIM's choice of settings: AUROC, seen and unseen",
        differences=_against("all", "fedkim", "without-modality"),
    ),
    Claim(
        number="10",
        sentence="Routing beats the uniform route",
        measure="FEDKIM − uniform, both with FEDKIM's choice of settings: AUROC, seen and unseen",
        differences=_against("all", "fedkim", "uniform"),
        ours=True,
    ),
    Claim(
        number="11a",
        sentence="The sites gain from the language model in a round",
        measure="small models after − before the last injection, with decoders that haven't followed the encoders: AUROC, seen",
        differences=_sites_gain,
        ours=True,
    ),
    Claim(
        number="11b",
        sentence="… and over the whole run",
        measure="small models of FEDKIM − of FEDKIM+, which leaves the encoders alone, at equal tokens: AUROC, seen",
        differences=_sites_gain_over_the_run,
        ours=True,
    ),
    Claim(
        number="12",
        sentence="FEDKIM reaches 95 % of what centralising gains",
        measure=(
            "(FEDKIM − local-only) − 0.95 · (centralised − local-only): AUROC, seen. Centralised takes as many steps a round as all "
            "sites together"
        ),
        differences=_share_of_centralised,
        ours=True,
    ),
)
