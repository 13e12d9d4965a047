"""The claims: ten of the paper's and four of ours, each as one difference per seed whose sign decides.

Every difference is in points, positive where the claim is right, and paired: both sides are of the same seed, so of the
same patients, split and sites. ``evaluation.seeds`` turns them into verdicts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fedkim.evaluation.seeds import LEVEL, MEASURABLE, Verdict, paired_seeds, t_statistic, verdicts
from fedkim.experiments.methods import LORA, MATCHED
from fedkim.experiments.scores import Scores, common, less

SHARE = 0.95
"""Of what bringing all data together gains over staying alone: FEDKIM should reach so much."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One sentence and the differences that decide it."""

    number: str
    sentence: str
    measure: str
    """What the differences are, in words."""
    terms: Callable[[Scores, str], list[dict[int, float]]]
    """Differences by seed on a summary's tasks, which must all lie above 0; a seed without all cells it needs is left out."""
    which: str
    """The summary it is about: ``seen``, ``unseen`` or ``all``, the mean of these two."""
    ours: bool = False
    margin: bool = False
    """Whether one of its differences is a margin over a share, of which two points mean nothing."""

    def differences(self, scores: Scores, which: str = "") -> list[dict[int, float]]:
        """All of its differences by seed, on the seeds that all have; ``which`` asks for one part of the claim."""
        terms = self.terms(scores, which or self.which)
        seeds = common(*terms)
        return [{seed: one[seed] for seed in seeds} for one in terms]


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A claim with its verdict."""

    claim: Claim
    term: int
    """Which of the claim's differences is the least certain one."""
    by_seed: Mapping[int, float]
    """That difference."""
    verdict: Verdict
    two_points: str
    """Whether all of its differences are two points or more: ``certain``, ``possible`` or ``excluded``; empty below two seeds,
    and where it isn't a plain difference of methods."""


def decide(scores: Scores) -> list[Decided]:
    """All claims, Holm-adjusted together over those that have at least two seeds."""
    terms = {claim.number: claim.differences(scores) for claim in CLAIMS}
    chosen = {number: _least_certain(columns) for number, columns in terms.items()}
    by_seed = {number: columns[chosen[number]] for number, columns in terms.items()}
    words = verdicts(
        {number: list(values.values()) or None for number, values in by_seed.items()},
        joint={number for number, columns in terms.items() if len(columns) > 1},
    )
    return [
        Decided(
            claim=claim,
            term=chosen[claim.number],
            by_seed=by_seed[claim.number],
            verdict=words[claim.number],
            two_points="" if claim.margin else _two_points(terms[claim.number]),
        )
        for claim in CLAIMS
    ]


def _least_certain(columns: Sequence[Mapping[int, float]]) -> int:
    """Of differences that must all lie above 0 the place of the one with the smallest t.

    All lie above 0 where this one does (an intersection–union test, without correction for their number). The difference to
    the best of several, seed by seed, would carry the best one's luck.
    """
    certain = [t_statistic(list(column.values())) for column in columns]
    return certain.index(min(certain))


def _two_points(columns: Sequence[Mapping[int, float]]) -> str:
    """Excluded where one of them is below, each interval widened for their number; certain where all are above."""
    level = LEVEL / len(columns)
    wide = [paired_seeds(list(column.values()), level=level) for column in columns]
    plain = [paired_seeds(list(column.values())) for column in columns]
    if not all(plain):
        return ""
    if any(one is not None and one.high < MEASURABLE for one in wide):
        return "excluded"
    return "certain" if all(one is not None and one.low >= MEASURABLE for one in plain) else "possible"


def _over(first: str, *others: str) -> Callable[[Scores, str], list[dict[int, float]]]:
    return lambda scores, which: [less(scores.by_seed(first, which), scores.by_seed(other, which)) for other in others]


def _below(last: str, *others: str) -> Callable[[Scores, str], list[dict[int, float]]]:
    return lambda scores, which: [less(scores.by_seed(other, which), scores.by_seed(last, which)) for other in others]


def _base_fails(scores: Scores, which: str) -> list[dict[int, float]]:
    gains = {seed: cells[0].over_majority("base") for seed, cells in scores.group("fedkim").items()}
    return [{seed: -gain for seed, gain in gains.items() if gain is not None}]


def _more_on_generation(scores: Scores, which: str) -> list[dict[int, float]]:
    """A gain in text that is above 0 and above the gain in classification: losing less isn't gaining more."""
    text, closed = (_over("fedkim", LORA, MATCHED)(scores, part) for part in ("generation", which))
    return [*text, *(less(gain, other) for gain, other in zip(text, closed))]


def _backbones(method: str) -> Callable[[Scores, str], list[dict[int, float]]]:
    return lambda scores, which: [
        less(*(scores.by_seed(method, which, backbone=backbone) for backbone in ("fedprox", "fedavg")))
    ]


def _sites_gain(scores: Scores, which: str) -> list[dict[int, float]]:
    return [less(*(scores.by_seed("fedkim", which, row=row) for row in ("small_after", "small_before")))]


def _sites_gain_over_the_run(scores: Scores, which: str) -> list[dict[int, float]]:
    """With encoders that the server leaves alone the small models are a plain federation's, of the same settings."""
    return [less(*(scores.by_seed(name, which, row="small_before") for name in ("fedkim", "frozen-encoders")))]


def _share_of_centralised(scores: Scores, which: str) -> list[dict[int, float]]:
    """A share of what centralising gains means something only where it gains."""
    fedkim, together, alone = (scores.by_seed(name, which) for name in ("fedkim", "centralised", "local-only"))
    share = {
        seed: (fedkim[seed] - alone[seed]) - SHARE * (together[seed] - alone[seed])
        for seed in common(fedkim, together, alone)
    }
    return [share, less(together, alone)]


CLAIMS: tuple[Claim, ...] = (
    Claim(
        number="1",
        sentence="The language model alone fails on unseen tasks",
        measure=(
            "majority − base model: accuracy and exact match on unseen tasks. Asked without a patient the base gives everybody one "
            "answer, so on a yes/no task it can't pass the majority"
        ),
        terms=_base_fails,
        which="unseen",
    ),
    Claim(
        number="2",
        sentence="FedPlug is the worst",
        measure="FedPlug_L (r), FedPlug_L (P·r), FEDKIM, each − FedPlug; the least certain: AUROC, seen and unseen",
        terms=_below("fedplug", LORA, MATCHED, "fedkim"),
        which="all",
    ),
    Claim(
        number="3",
        sentence="FEDKIM beats FedPlug_L on unseen classification",
        measure="FEDKIM − each FedPlug_L; the less certain: AUROC, unseen",
        terms=_over("fedkim", LORA, MATCHED),
        which="unseen",
    ),
    Claim(
        number="4",
        sentence="… and more so on generation",
        measure="FEDKIM − each FedPlug_L in exact match, as it is and − that difference in AUROC; the least certain",
        terms=_more_on_generation,
        which="unseen",
    ),
    Claim(
        number="5",
        sentence="FEDKIM beats both on seen tasks",
        measure="FEDKIM − each of FedPlug and both FedPlug_L; the least certain: AUROC, seen",
        terms=_over("fedkim", "fedplug", LORA, MATCHED),
        which="seen",
    ),
    Claim(
        number="6a",
        sentence="FedProx beats FedAvg under FEDKIM",
        measure="FedProx with the matrix's μ − FedAvg: AUROC, seen and unseen",
        terms=_backbones("fedkim"),
        which="all",
    ),
    Claim(
        number="6b",
        sentence="FedProx beats FedAvg under FedPlug_L",
        measure="FedProx with the matrix's μ − FedAvg: AUROC, seen and unseen",
        terms=_backbones(MATCHED),
        which="all",
    ),
    Claim(
        number="7",
        sentence="Without the sites (FEDKIM_pub) the loss is largest",
        measure="FEDKIM and each description ablation − FEDKIM_pub; the least certain: AUROC, seen and unseen",
        terms=_below("fedkim-pub", "fedkim", "without-task", "without-modality"),
        which="all",
    ),
    Claim(
        number="8",
        sentence="Without the task description it is worse",
        measure="FEDKIM − w/o task description, both with FEDKIM's choice of settings: AUROC, seen and unseen",
        terms=_over("fedkim", "without-task"),
        which="all",
    ),
    Claim(
        number="9",
        sentence="Without the modality description it is worse",
        measure="FEDKIM − w/o modality description, both with FEDKIM's choice of settings: AUROC, seen and unseen",
        terms=_over("fedkim", "without-modality"),
        which="all",
    ),
    Claim(
        number="10",
        sentence="Routing beats the uniform route",
        measure="FEDKIM − uniform, both with FEDKIM's choice of settings: AUROC, seen and unseen",
        terms=_over("fedkim", "uniform"),
        which="all",
        ours=True,
    ),
    Claim(
        number="11a",
        sentence="The sites gain from the language model in a round",
        measure=(
            "small models after − before the last injection, whose rates have nearly decayed to 0, with decoders that haven't followed "
            "the encoders: AUROC, seen"
        ),
        terms=_sites_gain,
        which="seen",
        ours=True,
    ),
    Claim(
        number="11b",
        sentence="… and over the whole run",
        measure="small models of FEDKIM − of FEDKIM whose encoders the server leaves alone, both with FEDKIM's choice of settings: AUROC, seen",
        terms=_sites_gain_over_the_run,
        which="seen",
        ours=True,
    ),
    Claim(
        number="12",
        sentence="FEDKIM reaches 95 % of what centralising gains",
        measure=(
            "(FEDKIM − local-only) − 0.95 · (centralised − local-only), and centralised − local-only; the less certain: AUROC, seen. "
            "Centralised takes as many steps a round as all sites together"
        ),
        terms=_share_of_centralised,
        which="seen",
        ours=True,
        margin=True,
    ),
)
