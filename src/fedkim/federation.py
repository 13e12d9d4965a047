"""The federation's loop: one communication round after the other, read from top to bottom.

::

                private batch                                  public batch
                     |                                              |
    extraction   encoder(m) -> decoder(t) -> loss       injection   encoder(m) -> g(m) -> LLM + M3OE -> answer loss
                     |                                              |
                 Update -> gate -> mean per component -> State ---> State with tuned encoders -> next broadcast
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fedkim.aggregation import Algorithm, Memory, Rejection, gate
from fedkim.errors import FedkimError
from fedkim.state import State, Update

Exchange = Callable[[int, State], Iterable[Update]]
"""What an engine supplies: ``(round, state) -> updates``; each site gets and sends only the components it owns."""

Inject = Callable[[int, State], tuple[State, Mapping[str, object]]]
"""``(round, aggregated state) -> (state with tuned encoders, what to report)``."""

Commit = Callable[["Round"], None]
"""Makes a round durable; what it committed is never lost."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One finished communication round."""

    number: int
    updates: Sequence[Update]
    """The accepted ones."""
    rejections: Sequence[Rejection]
    aggregated: State
    """After aggregation, before injection."""
    state: State
    """After injection: the next broadcast."""
    memory: Memory
    injection: Mapping[str, object] = field(default_factory=dict)


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

    Raises:
        FedkimError: no update of a round passed the gate.
    """
    for number in rounds:
        updates, rejections = gate(exchange(number, state), round=number, state=state, owned=owned)
        if not updates:
            reasons = "; ".join(f"{rejection.site}: {rejection.reason}" for rejection in rejections)
            raise FedkimError(
                f"round {number}", found=f"no usable update ({reasons or 'no site answered'})", expected="at least one"
            )
        aggregated, memory = algorithm.aggregate(state, updates, memory)
        state, injection = inject(number, aggregated)
        finished = Round(
            number=number,
            updates=updates,
            rejections=rejections,
            aggregated=aggregated,
            state=state,
            memory=memory,
            injection=injection,
        )
        commit(finished)
        yield finished
