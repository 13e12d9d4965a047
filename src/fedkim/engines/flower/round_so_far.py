"""What a round over the network has come to so far: who answered, who failed, and who may be asked again when."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedkim.aggregation import Rejection
from fedkim.engines.flower.roster import Node
from fedkim.state import State

AGAIN = 3.0
"""Seconds, doubled with each further failure, before a site is asked again whose worker or connection failed."""
LONGEST_WAIT = 60.0
MOST_QUESTIONS = 5
"""So often a site is asked in one attempt at a round: when its process came back, or lacked a component."""
MOST_UNREADABLE = 3
"""Replies of a site that Flower couldn't unpack, in one attempt at a round: no transport fails so often at one site alone."""
_REASONS = {
    "E-ABSENT": "no answer in time",
    "E-WORKER": "its worker isn't running",
    "E-QUESTIONS": "asked too often",
    "E-TRANSPORT": "the connection to the SuperLink failed",
    "E-PUSH": "Flower doesn't take the question",
}


@dataclass
class Asked:
    """A question under way."""

    site: str
    node: Node
    nonce: str
    began: float
    sent: int


@dataclass
class RoundSoFar:
    """What one round has come to so far."""

    number: int
    slices: Mapping[str, State]
    contributors: Mapping[str, int] = field(default_factory=dict)
    """By component, how many sites at least give it if the round comes about, whoever is asked included."""
    good: set[str] = field(default_factory=set)
    out: set[str] = field(default_factory=set)
    """Sites that refused or failed: asking again wouldn't help."""
    questions: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    """Questions that came to nothing because a worker or the connection failed."""
    unreadable: dict[str, int] = field(default_factory=dict)
    """Replies that couldn't be unpacked."""
    why: dict[str, str] = field(default_factory=dict)
    """What was wrong with a site's last answer, as a code."""
    not_before: dict[str, float] = field(default_factory=dict)
    """When a site whose worker or connection failed may be asked again."""

    def leave_out(self, site: str, code: str) -> None:
        """Ask a site no more in this attempt."""
        self.out.add(site)
        self.why[site] = code

    def count_question(self, site: str) -> bool:
        """Count one more; False, and the site is left out, if it has had too many. What it answered before counts no more."""
        before = self.why.pop(site, "")
        self.questions[site] = self.questions.get(site, 0) + 1
        if self.questions[site] > MOST_QUESTIONS:
            self.leave_out(site, before or "E-QUESTIONS")
        return site not in self.out

    def count_unreadable(self, site: str) -> None:
        """Count a reply that couldn't be unpacked; after some the site is left out."""
        self.why[site] = "E-MESSAGE"
        self.unreadable[site] = self.unreadable.get(site, 0) + 1
        if self.unreadable[site] >= MOST_UNREADABLE:
            self.leave_out(site, "E-MESSAGE")

    def later(self, site: str, now: float, *, counted: bool = False, code: str = "") -> None:
        """Ask a site again, but not at once: a worker that reads its data needs a while. Unless ``counted`` the question counts for
        nothing, and the deadline decides. ``code`` says what was wrong, should nothing better come.
        """
        if code:
            self.why[site] = code
        self.questions[site] -= not counted
        self.failures[site] = self.failures.get(site, 0) + 1
        doubled = min(self.failures[site] - 1, 10)  # in days a site fails more often than a float can be doubled
        self.not_before[site] = now + min(LONGEST_WAIT, AGAIN * 2**doubled)

    def rejections(self) -> list[Rejection]:
        """The sites without a good answer, and why."""
        codes = {site: self.why.get(site, "E-ABSENT") for site in sorted(set(self.slices) - self.good)}
        return [
            Rejection(site=site, code=code, reason=_REASONS.get(code, "refused, or not an answer"))
            for site, code in codes.items()
        ]

    def begin(self) -> None:
        """Begin an attempt: who failed in the one before may be asked again."""
        self.out = set()
        for noted in (self.questions, self.failures, self.unreadable, self.why, self.not_before):
            noted.clear()
