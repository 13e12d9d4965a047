"""How long a coordinator waits for its sites."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """How long a round waits, and for how many."""

    quorum: int = 0
    """Sites whose answers, in due form, make a round; the gate looks at them afterwards. 0: all that take part."""
    deadline: float = 3600.0
    """Seconds that a round may take at the sites."""
    grace: float = 300.0
    """Seconds that the others have left once the quorum is there."""
    start_wait: float = 600.0
    """Seconds to wait for the sites to connect before the first round."""
    attempts: int = 3
    """A round below the quorum is asked for again, so often in a row; then the run ends."""
