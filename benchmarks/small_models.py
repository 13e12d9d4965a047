"""A federation's small models trained in this process, round by round, for benchmarks that need no language model."""

from collections.abc import Callable, Iterator

from fedkim.aggregation import Rejection
from fedkim.engines import InProcess
from fedkim.federation import federate
from fedkim.run.world import World
from fedkim.state import State, Update

Seen = Callable[[int, State, Update], Update]
"""``(round, broadcast, update)``: what arrives of an update, itself or another in its place."""


def aggregated(world: World, arriving: Seen) -> State:
    """The small models after the recipe's rounds; every update passes ``arriving`` on its way to the server."""
    settings = world.recipe
    engine = InProcess(
        world.sites,
        owned=world.owned,
        tasks=world.seen,
        settings=settings.extraction,
        penalty=world.algorithm.penalty,
        participation=1.0,
        workers=settings.run.workers,
        seed=settings.run.seed,
    )

    def exchange(round: int, state: State) -> Iterator[Update | Rejection]:
        for update in engine(round, state):
            yield arriving(round, state, update) if isinstance(update, Update) else update

    state = world.initial
    for finished in federate(
        rounds=range(1, settings.federation.rounds + 1),
        state=world.initial,
        memory=State(),
        owned=world.owned,
        exchange=exchange,
        algorithm=world.algorithm,
        inject=lambda round, gathered: (gathered.aggregated, {}),
        commit=lambda round: None,
    ):
        assert not finished.rejections
        state = finished.state
    return state
