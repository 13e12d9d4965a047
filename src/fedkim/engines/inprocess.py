"""The in-process engine: every site of the federation in this process, trained side by side in worker threads."""

from collections.abc import Iterator, Mapping, Sequence

import torch

from fedkim.aggregation import Rejection, objection
from fedkim.data.sample import Dataset
from fedkim.extraction import train_site
from fedkim.extraction.training import DivergedError
from fedkim.parallel import ordered_map
from fedkim.randomness import generator_for
from fedkim.recipe import Extraction
from fedkim.recipe.site_tables import sites_in_a_round
from fedkim.state import Penalty, State, Update
from fedkim.tasks import Task


def participants(sites: Sequence[str], *, share: float, seed: int, round: int) -> list[str]:
    """The sites that take part in a round: a seeded draw of ``share`` of them, at least one, in name order."""
    count = sites_in_a_round(share, len(sites))
    order = torch.randperm(len(sites), generator=generator_for(seed, "participants", round)).tolist()
    return sorted(sorted(sites)[index] for index in order[:count])


class InProcess:
    """``exchange(round, state)`` over sites held in memory.

    Args:
        sites: private data by site; a site keeps its shard for the whole run.
        owned: components by site.
        tasks: the seen tasks.
        settings: the recipe's extraction table.
        penalty: the algorithm's.
        participation: share of the sites in a round.
        workers: sites trained side by side.
        seed: the run's.

    A site whose training diverges, or whose update its own gate refuses, sends nothing: a Rejection comes in its place.
    """

    def __init__(
        self,
        sites: Mapping[str, Dataset],
        *,
        owned: Mapping[str, Sequence[str]],
        tasks: Sequence[Task],
        settings: Extraction,
        penalty: Penalty | None,
        participation: float,
        workers: int,
        seed: int,
    ):
        self.sites, self.owned, self.tasks, self.settings = dict(sites), owned, tasks, settings
        self.penalty, self.participation, self.workers, self.seed = penalty, participation, workers, seed

    def __call__(self, round: int, state: State) -> Iterator[Update | Rejection]:
        """Updates in the participants' name order."""
        chosen = participants(list(self.sites), share=self.participation, seed=self.seed, round=round)

        def train(site: str) -> Update | Rejection:
            broadcast = state.slice(self.owned[site])
            try:
                update = train_site(
                    site=site,
                    round=round,
                    dataset=self.sites[site],
                    state=broadcast,
                    tasks=self.tasks,
                    settings=self.settings,
                    penalty=self.penalty,
                    seed=self.seed,
                )
            except DivergedError as error:
                return Rejection(site=site, code="E-DIVERGED", reason=str(error))
            return objection(update, round=round, broadcast=broadcast) or update

        yield from ordered_map(train, chosen, self.workers)
