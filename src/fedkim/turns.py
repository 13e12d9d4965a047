"""Taking turns in fixed shares: which queue is next, at a site's batches and at the server's."""

from collections.abc import Iterator, Sequence


def turns_by_share(shares: Sequence[float]) -> Iterator[int]:
    """Endless queue numbers in proportion to ``shares``, spread evenly: always the queue that is owed most."""
    owed = [0.0] * len(shares)
    while True:
        owed = [debt + share / sum(shares) for debt, share in zip(owed, shares)]
        turn = max(range(len(owed)), key=lambda queue: owed[queue])
        owed[turn] -= 1
        yield turn
