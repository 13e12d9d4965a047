"""The federation's loop: one communication round after the other, read from top to bottom.

::

                private batch                                  public batch
                     |                                              |
    extraction   encoder(m) -> decoder(t) -> loss       injection   encoder(m) -> g(m) -> LLM + M3OE -> answer loss
                     |                                              |
                 Update -> gate -> mean per component -> State ---> State with tuned encoders -> next broadcast
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedkim.aggregation import Algorithm, Limits, Memory, Rejection, aggregate, gate
from fedkim.errors import FedkimError
from fedkim.failpoints import reach
from fedkim.state import State, Update

Exchange = Callable[[int, State], Iterable[Update | Rejection]]
"""What an engine supplies: ``(round, state) -> updates``; each site gets and sends only the components it owns. A site that
failed, or that withholds an update which its own gate refuses, comes as a Rejection."""

Inject = Callable[[int, "Gathered"], tuple[State, Mapping[str, object]]]
"""``(round, what was gathered) -> (aggregated state with tuned encoders, what to report)``."""

Commit = Callable[["Round"], None]
"""Makes a round durable; what it committed is never lost."""

Recall = Callable[[int], "Gathered | None"]
"""What an earlier process had gathered of a round before it died; None: the sites are asked."""

Keep = Callable[[int, "Gathered"], None]
"""Makes what was gathered durable, so that the sites needn't train again if the injection is cut off."""


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """What is remembered of an accepted update once it is averaged: everything but its tensors."""

    site: str
    digest: str
    """Of the tensors."""
    components: tuple[str, ...]
    num_bytes: int
    num_examples: Mapping[str, int]
    metrics: Mapping[str, float]

    @classmethod
    def of(cls, update: Update) -> "Contribution":
        """The record of one update."""
        return cls(
            site=update.site,
            digest=update.state.digest(),
            components=update.state.components(),
            num_bytes=update.state.num_bytes,
            num_examples={name: update.num_examples[name] for name in update.state.components()},
            metrics=dict(update.metrics),
        )


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """The first half of a round: what the sites gave, and what it came to."""

    contributions: Sequence[Contribution]
    """The accepted updates."""
    rejections: Sequence[Rejection]
    aggregated: State
    """After aggregation, before injection; of a skipped round that of the last one which wasn't."""
    memory: Memory
    sent: Mapping[str, int]
    """Bytes of the components that were broadcast, by registered site."""
    seconds: float = field(compare=False)
    """Spent on the round so far, by all processes that worked on it; waiting for sites to connect isn't counted."""
    skipped: bool = False
    """Too few updates passed the gate: they weren't averaged, and nothing will be injected."""
    begun: Any = field(default=None, compare=False)
    """How far an earlier process had come with the injection; what it is only who injects and recalls need know."""


@dataclass(frozen=True, kw_only=True)
class Round(Gathered):
    """One finished communication round."""

    number: int
    state: State
    """After injection: the next broadcast; of a skipped round that of the round before."""
    injection: Mapping[str, object]


def federate(
    *,
    rounds: range,
    state: State,
    memory: Memory,
    owned: Mapping[str, Sequence[str]],
    exchange: Exchange,
    algorithm: Algorithm,
    inject: Inject,
    commit: Commit,
    declared: Mapping[str, Mapping[str, int]] | None = None,
    limits: Limits | None = None,
    quorum: int = 1,
    patience: int = 3,
    skipped_before: int = 0,
    aggregated: State | None = None,
    recall: Recall = lambda number: None,
    keep: Keep = lambda number, gathered: None,
) -> Iterator[Round]:
    """Yield the rounds as they are committed; resuming is starting with a later range and the committed state.

    Args:
        rounds: numbers of the rounds to run, counted from 1.
        state: the global encoders and decoders to broadcast first.
        memory: what the algorithm remembers from earlier rounds.
        owned: components by registered site.
        exchange: the engine.
        algorithm: its penalty is at work at the sites already; here it aggregates.
        inject: the server's training on public data.
        commit: called before the round is yielded.
        declared: most examples a site may claim, by component.
        limits: how far an update may move, see :func:`fedkim.aggregation.gate`.
        quorum: accepted updates that a round needs; with fewer it is skipped.
        patience: so many rounds skipped in a row end the federation.
        skipped_before: rounds skipped in a row before the first of these.
        aggregated: the last state that was averaged before the first of these, which a skipped round hands on; None: ``state``.
        recall: what an earlier process kept of a round that was cut off.
        keep: called with what it will need.

    Raises:
        FedkimError: round after round without a quorum. The rounds before the last are committed.
    """
    averaged = state if aggregated is None else aggregated
    in_a_row = skipped_before

    def gather(number: int) -> Gathered:
        arriving = exchange(number, state)  # sites elsewhere may have to be waited for first
        began = time.perf_counter()
        updates, rejections = gate(
            _reached(arriving), round=number, state=state, owned=owned, declared=declared, limits=limits
        )
        skipped = len(updates) < quorum
        came_to, remembered = (averaged, memory) if skipped else aggregate(algorithm, state, updates, memory)
        return Gathered(
            contributions=[Contribution.of(update) for update in updates],  # without the tensors: the injection is long
            rejections=rejections,
            aggregated=came_to,
            memory=remembered,
            sent={site: state.slice(own).num_bytes for site, own in owned.items()},
            seconds=time.perf_counter() - began,
            skipped=skipped,
        )

    for number in rounds:
        gathered = recall(number)
        if gathered is None:
            gathered = gather(number)
            if not gathered.skipped:
                reach("aggregation.done")
                keep(number, gathered)
        in_a_row = in_a_row + 1 if gathered.skipped else 0
        if gathered.skipped and in_a_row >= patience:
            raise _without_quorum(number, gathered, quorum, in_a_row)
        averaged, memory = gathered.aggregated, gathered.memory
        injection: Mapping[str, object] = {}
        injecting = time.perf_counter()
        if not gathered.skipped:
            state, injection = inject(number, gathered)
        seconds = gathered.seconds + time.perf_counter() - injecting
        finished = Round(
            **{**vars(gathered), "seconds": seconds, "begun": None}, number=number, state=state, injection=injection
        )
        commit(finished)
        yield finished


def _reached(updates: Iterable[Update | Rejection]) -> Iterator[Update | Rejection]:
    for update in updates:
        reach("exchange.update")
        yield update


def _without_quorum(number: int, gathered: Gathered, quorum: int, in_a_row: int) -> FedkimError:
    accepted = len(gathered.contributions)
    reasons = "; ".join(f"{rejection.site}: {rejection.reason}" for rejection in gathered.rejections)
    reasons = reasons or f"no {'other ' if accepted else ''}site answered"
    row = f", {in_a_row} rounds in a row" if in_a_row > 1 else ""
    return FedkimError(
        f"round {number}",
        found=f"{accepted} usable updates ({reasons}){row}",
        expected=f"at least {quorum}",
        remedy="mend the sites, then the same command resumes; a lower federation.quorum begins anew, with --force",
    )
