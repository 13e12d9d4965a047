"""Small models trained in this process, round by round, for benchmarks that need no language model: a federation's, or one site's."""

from collections.abc import Callable, Iterator, Sequence

from fedkim.aggregation import Rejection
from fedkim.engines import InProcess
from fedkim.extraction import train_site
from fedkim.federation import federate
from fedkim.recipe import Extraction
from fedkim.run.world import World
from fedkim.state import State, Update
from fedkim.tasks import Task

Arrival = Callable[[int, State, Update], Update]
"""``(round, broadcast, update)``: what arrives of an update, itself or another in its place."""


def aggregated(world: World, arriving: Arrival) -> State:
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


def by_itself(world: World, site: str, tasks: Sequence[Task], settings: Extraction, rounds: int) -> State:
    """One site's small models after so many rounds of these tasks without anybody else."""
    state = world.initial
    for round in range(1, rounds + 1):
        update = train_site(
            site=site,
            round=round,
            dataset=world.sites[site],
            state=state,
            tasks=tasks,
            settings=settings,
            seed=world.recipe.run.seed,
        )
        state = state.updated(update.state)
    return state
