"""How long a round waits for its sites, and what it has come to so far."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedkim.engines.flower.roster import Node
from fedkim.state import State

AGAIN = 3.0
"""Seconds, doubled with each failure, before a site is asked again whose worker or connection failed."""
LONGEST_WAIT = 60.0


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """How long a round waits, and for how many."""

    quorum: int = 0
    """Sites whose good answers make a round; 0: all that take part."""
    deadline: float = 3600.0
    """Seconds that a round may take at the sites."""
    grace: float = 300.0
    """Seconds that the others have left once the quorum is there."""
    start: float = 600.0
    """Seconds to wait for the sites to connect before the first round."""
    attempts: int = 3
    """Below the quorum a round is skipped and asked for again; so often in a row, then the run ends."""


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
    good: set[str] = field(default_factory=set)
    out: set[str] = field(default_factory=set)
    """Sites that refused or failed: asking again wouldn't help."""
    questions: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    """Questions that came to nothing because a worker or the connection failed."""
    unreadable: dict[str, int] = field(default_factory=dict)
    """Replies that couldn't be unpacked."""
    why: dict[str, str] = field(default_factory=dict)
    """The last thing that was wrong with a site, as a code."""
    not_before: dict[str, float] = field(default_factory=dict)
    """When a site whose worker or connection failed may be asked again."""

    def later(self, site: str, now: float, *, counted: bool = False) -> None:
        """Ask a site again, but not at once: a worker that reads its data needs a while. Unless ``counted`` the question counts for
        nothing, and the deadline decides.
        """
        self.questions[site] -= not counted
        self.failures[site] = self.failures.get(site, 0) + 1
        self.not_before[site] = now + min(LONGEST_WAIT, AGAIN * 2 ** self.failures[site])

    def begin(self) -> None:
        """Begin an attempt: who failed in the one before may be asked again."""
        self.out = set()
        for counted in (self.questions, self.failures, self.unreadable, self.not_before):
            counted.clear()
