"""The claims as tables: verdicts, what each compares, and the parts of those over seen and unseen tasks."""

from collections.abc import Sequence

from fedkim.evaluation.seeds import MEASURABLE, MISSING, UNMEASURABLE
from fedkim.experiments.claims import Decided
from fedkim.experiments.scores import Scores
from fedkim.experiments.table import DASH, Table, difference


def claims_table(decided: Sequence[Decided]) -> Table:
    """A row per claim: verdict, difference with interval, Holm's p, the smallest difference that would be found."""
    rows = []
    for one in decided:
        paired, verdict = one.verdict.paired, one.verdict
        figures = [DASH, DASH, DASH, DASH, str(len(one.by_seed))]
        if paired is not None:
            figures = [
                f"{paired.mean:+.2f} [{paired.low:+.2f}, {paired.high:+.2f}]",
                _p(verdict.adjusted_p),
                f"{paired.detectable:.1f}",
                one.two_points or DASH,
                str(paired.num_seeds),
            ]
        source = "ours" if one.claim.ours else "paper"
        certain = f", but {verdict.side}" if verdict.word == UNMEASURABLE and verdict.side else ""
        rows.append([_sentence(one), source, verdict.word + certain, *figures])
    return Table(
        title="Claims",
        note=(
            f"A claim whose smallest detectable difference (80 % power) exceeds {MEASURABLE:.0f} points is not measurable here; where "
            "Holm's p is below 0.05 all the same, the sign that is certain stands beside. Any other claim holds where the paired "
            "difference over seeds lies above 0 with Holm's p below 0.05. "
            f"“{MISSING}”: fewer than two seeds have been run. “{MEASURABLE:.0f} points or more”: what 95 % intervals say of "
            "a difference of that size (widened to exclude where a claim has several, not adjusted over claims); this column was "
            "added after 52 cells had been read and decides nothing."
        ),
        header=[
            "claim",
            "of",
            "verdict",
            "difference, points [95 %]",
            "Holm's p",
            "detectable",
            f"{MEASURABLE:.0f} points or more",
            "seeds",
        ],
        rows=rows,
    )


def claims_compared(decided: Sequence[Decided]) -> Table:
    """What the difference of each claim is, in words."""
    return Table(
        title="What the claims compare",
        note="Positive where the claim is right. Of several differences the least certain is the one that stands above.",
        header=["claim", "difference of"],
        rows=[[one.claim.number, one.claim.measure] for one in decided],
    )


def claims_by_part(scores: Scores, decided: Sequence[Decided]) -> Table:
    """Claims over seen and unseen tasks, one part at a time: of the difference that decided the whole."""
    rows = []
    for one in decided:
        if one.claim.which != "all":
            continue
        parts = [one.claim.differences(scores, which)[one.term] for which in ("seen", "unseen")]
        if any(parts):
            rows.append([_sentence(one), *map(difference, parts)])
    return Table(
        title="Claims over seen and unseen tasks, by part",
        note="The differences above on seen tasks and on unseen classification alone, points [95 % t-interval], without adjustment.",
        header=["claim", "seen", "unseen"],
        rows=rows,
    )


def _p(value: float | None) -> str:
    return DASH if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _sentence(one: Decided) -> str:
    return f"{one.claim.number}. {one.claim.sentence}"
