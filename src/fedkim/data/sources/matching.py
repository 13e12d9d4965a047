"""Matched onset windows: cases and controls that can't be told apart by how long they were observed.

In YAIB's tables the series of a stay with sepsis or kidney injury ends soon after its onset, so the length of a series
(or of its padding) gives the label away: AUROC 0.70 and 0.63 from the number of hours alone. Here each case is cut at its
onset and gets the same number of controls that were observed at that very hour and are cut there too, from the same
pool (same split, same hospital source, same cohort). Length then says nothing: its AUROC is exactly one half.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedkim.data.sources.yaib_tables import Course
from fedkim.randomness import seed_for


@dataclass(frozen=True, kw_only=True)
class Window:
    """One stay, cut."""

    stay: str
    until_hour: int
    """The window's 24 hours end just before this hour: the onset of the case."""
    case: bool


def match(
    pools: Sequence[Sequence[str]], courses: Mapping[str, Course], controls: int, seed: int, purpose: str
) -> list[Window]:
    """Each case of a pool with ``controls`` controls of the same pool; a pure function.

    Cases are served from the latest onset to the earliest. The stays observed at a late hour are among those observed
    at an earlier one, so this order serves as many cases as can be served. Controls are drawn by seeded hash, each
    once; a case that finds too few is left out, so that every case weighs the same.

    Args:
        pools: stays that may be matched with each other.
        courses: by stay; stays without one, or whose onset can't be dated, are left out.
        controls: how many for each case.
        seed: of the data set.
        purpose: keeps two matchings apart (``"aki"``).
    """
    windows: list[Window] = []
    for pool in pools:
        known = [stay for stay in sorted(pool) if stay in courses and courses[stay].usable]
        cases = [(courses[stay].onset, stay) for stay in known]
        drawn = [(seed_for(seed, "match", purpose, stay), stay) for stay in known if courses[stay].onset is None]
        waiting = sorted(drawn, key=lambda control: courses[control[1]].last_hour)  # the longest observed at the end
        free: list[tuple[int, str]] = []
        for onset, stay in sorted(((at, name) for at, name in cases if at is not None), key=lambda c: (-c[0], c[1])):
            while waiting and courses[waiting[-1][1]].last_hour >= onset:
                heapq.heappush(free, waiting.pop())
            if len(free) < controls:
                continue
            windows.append(Window(stay=stay, until_hour=onset, case=True))
            for _ in range(controls):
                windows.append(Window(stay=heapq.heappop(free)[1], until_hour=onset, case=False))
    return windows
