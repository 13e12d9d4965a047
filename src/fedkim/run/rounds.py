"""The rounds of a run: the walk of ``federation.federate`` with this recipe's parts, each round committed and resumable."""

import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from fedkim.aggregation import NO_LIMITS, Limits, Rejection, Spool
from fedkim.engines import InProcess
from fedkim.failpoints import reach
from fedkim.federation import Contribution, Exchange, Gathered, Round, federate
from fedkim.injection import InjectionReport, InjectionTrainer, Injector
from fedkim.progress import Progress
from fedkim.recipe.site_tables import sites_in_a_round
from fedkim.run.curves import injected_scores, small_scores
from fedkim.run.halfway import Halfway
from fedkim.run.routes import round_routes, tell_routes
from fedkim.run.server import make_guide, make_teacher
from fedkim.run.shared_extraction import shared_extraction
from fedkim.run.telling import tell_round
from fedkim.run.world import World
from fedkim.state import State, Update
from fedkim.store.run_store import RunStore


class Rounds:
    """Iterates over the rounds still to do; afterwards ``state``, ``aggregated`` and ``history`` are those of the last.

    Args:
        world, injector, trainer: the run's parts; injector and trainer are brought to the committed round.
        store: an open store, or None to keep nothing (reference runs).
        progress: told of rounds, sites and steps.
        exchange: the engine; None: every site in this process.
    """

    def __init__(
        self,
        world: World,
        injector: Injector,
        trainer: InjectionTrainer,
        *,
        store: RunStore | None,
        progress: Progress,
        exchange: Exchange | None = None,
    ):
        self.exchange = exchange
        self.world, self.injector, self.trainer, self.store, self.progress = world, injector, trainer, store, progress
        self.state, self.memory, self.aggregated = world.initial, State(), world.initial
        self.history: list[dict[str, Any]] = []
        self.done = 0
        self._halfway = Halfway(injector, trainer, store=store, progress=progress)
        self.earlier_seconds = 0.0
        """Of what another process computed, rounds and the part of one: a resumed run's time is the sum."""
        if store and (committed := store.latest()):
            self.done = committed.round
            self.state, self.memory = committed.namespace("state"), committed.namespace("memory")
            self.aggregated = self.state.updated(committed.namespace("aggregated"))
            injector.load(committed.namespace("injector"), whole=True)
            # moments are the largest part, and after the last round nothing trains
            if self.done < world.recipe.federation.rounds:
                trainer.optimizer.load(committed.namespace("optimizer"))
            self.history = list(committed.manifest["history"])
            self.earlier_seconds = sum(entry["seconds"] for entry in self.history)
            store.event("resumed", round=committed.round)
            progress.line(f"resuming after round {committed.round}")
            reach("resume.loaded")

    def __iter__(self) -> Iterator[Round]:
        recipe = self.world.recipe
        total = recipe.federation.rounds
        with self.progress.stage("rounds", total, done=self.done) as stage:
            for finished in federate(
                rounds=range(self.done + 1, total + 1),
                state=self.state,
                memory=self.memory,
                owned=self.world.owned,
                exchange=self._sites(),
                algorithm=self.world.algorithm,
                inject=self._inject,
                commit=self._commit,
                declared=self.world.declared,
                limits=Limits(norm=recipe.federation.norm_limit) if recipe.federation.norm_limit else NO_LIMITS,
                quorum=self.world.quorum,
                patience=recipe.federation.patience,
                skipped_before=self._skipped_last(),
                aggregated=self.aggregated,
                recall=self._recall,
                keep=self._halfway.keep,
            ):
                self._tell(finished)
                stage.advance()
                yield finished

    # the sites ------------------------------------------------------------------------------------------------------

    def _sites(self) -> Exchange:
        """The sites, here or elsewhere, as the run asks them."""
        exchange = self.exchange or self._in_process()
        return through_spool(exchange, Spool(self.store.folder / "spool")) if self.store else exchange

    def _in_process(self) -> Exchange:
        """The sites here, watched; what an earlier run trained alike is taken from the cache."""
        recipe = self.world.recipe
        sites = InProcess(
            self.world.sites,
            owned=self.world.owned,
            tasks=self.world.seen,
            settings=recipe.extraction,
            penalty=self.world.algorithm.penalty,
            participation=recipe.federation.participation,
            workers=recipe.run.workers,
            seed=recipe.run.seed,
        )
        in_a_round = sites_in_a_round(recipe.federation.participation, len(self.world.sites))
        exchange = watched(sites, self.progress, in_a_round)
        return shared_extraction(exchange, self.world) if recipe.run.share_extraction else exchange

    def _skipped_last(self) -> int:
        """Rounds skipped in a row up to the last one."""
        return len(list(itertools.takewhile(lambda entry: entry.get("skipped"), reversed(self.history))))

    def _recall(self, round: int) -> Gathered | None:
        """What an earlier process kept of this round; its time counts."""
        gathered = self._halfway.recall(round)
        self.earlier_seconds += gathered.seconds if gathered else 0.0
        return gathered

    # the injection --------------------------------------------------------------------------------------------------

    def _inject(self, round: int, gathered: Gathered) -> tuple[State, Mapping[str, object]]:
        recipe = self.world.recipe
        if round < recipe.injection.first_round:
            return gathered.aggregated, {}
        reach("injection.begin")
        began = time.perf_counter()

        def on_step(report: InjectionReport) -> None:
            stage.advance(loss=report.losses[-1])
            if report.steps < self.trainer.steps_per_round and self._halfway.is_due(recipe.run.snapshot_seconds):
                spent = gathered.seconds + time.perf_counter() - began
                self._halfway.keep(round, replace(gathered, seconds=spent), report)

        done = gathered.begun.steps if gathered.begun else 0
        with self.progress.stage(f"round {round}: injection", self.trainer.steps_per_round, done=done) as stage:
            state, report = self.trainer.fit(
                gathered.aggregated,
                round=round,
                teacher=make_teacher(self.world, gathered.aggregated),
                guide=make_guide(self.world, gathered.aggregated),
                begun=gathered.begun,
                on_step=on_step,
            )
        reach("injection.done")
        return state, {
            "loss": report.losses,
            "tasks": report.tasks,
            **round_routes(self.injector, self.world.seen),
            "seconds": round_(time.perf_counter() - began),
        }

    # the commit ----------------------------------------------------------------------------------------------------

    def _commit(self, finished: Round) -> None:
        began = time.perf_counter()
        curves = self._curves(finished)
        entry = self._entry(finished, curves, seconds=finished.seconds + time.perf_counter() - began)
        self.state, self.memory, self.aggregated = finished.state, finished.memory, finished.aggregated
        self.history.append(entry)
        self.done = finished.number
        if self.store:
            manifest = {
                "history": self.history,
                "digest": self.digest(),
                "shapes": self.world.shapes,
                "synthetic": self.world.data.synthetic,
            }
            self.store.commit(finished.number, self.tensors(), manifest)

    def _tell(self, finished: Round) -> None:
        """Lines and events of a round that is committed."""
        *earlier, entry = self.history
        tell_round(self.world, finished, entry, store=self.store, progress=self.progress)
        if "routes" in entry["injection"]:
            before = next((e["injection"]["routes"] for e in reversed(earlier) if "routes" in e["injection"]), None)
            tell_routes(
                entry["injection"]["routes"], before, round=finished.number, store=self.store, progress=self.progress
            )

    def _curves(self, finished: Round) -> dict[str, Any]:
        """Development scores of the small models and, once it has been injected, of the language model."""
        injected = finished.number >= self.world.recipe.injection.first_round
        return {
            "development_small": small_scores(self.world, finished.aggregated),
            "development": injected_scores(self.world, self.injector, workers=self.trainer.workers) if injected else {},
        }

    def _entry(self, finished: Round, curves: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
        """A round as the history remembers it."""
        return {
            "round": finished.number,
            "sites": {
                contribution.site: _site(contribution, received=finished.sent[contribution.site])
                for contribution in finished.contributions
            },
            "rejected": {rejection.site: f"{rejection.code} {rejection.reason}" for rejection in finished.rejections},
            **({"skipped": True} if finished.skipped else {}),
            "injection": dict(finished.injection),
            **curves,
            "seconds": round_(seconds),
        }

    def release(self) -> None:
        """Let go of the models, when the digest has been taken; history and states stay."""
        del self.injector, self.trainer, self._halfway  # each holds the models

    def tensors(self) -> State:
        """Everything a later process needs to go on from here, under its namespaces."""
        encoders = {key: value for key, value in self.aggregated.items() if key.startswith("encoder.")}
        spaces: dict[str, Mapping[str, Tensor]] = {
            "state": self.state,
            "memory": self.memory,
            "aggregated": encoders,
            "injector": self.injector.tensors(),
            "optimizer": self.trainer.optimizer.tensors(),
        }
        return State.joined(spaces)

    def digest(self) -> str:
        """sha256 of the weights that answer: global state and injector. Equal digests are bit-identical runs."""
        return State.joined({"state": self.state, "injector": self.injector.tensors()}).digest()


def round_(seconds: float) -> float:
    """Seconds to two places: more would be noise."""
    return round(float(seconds), 2)


def _site(contribution: Contribution, *, received: int) -> dict[str, Any]:
    return {
        "loss": contribution.metrics["loss"],
        "seconds": round_(contribution.metrics["seconds"]),
        "bytes_sent": contribution.num_bytes,
        "bytes_received": received,
        "num_examples": dict(contribution.num_examples),
        "digest": contribution.digest,
    }


def watched(exchange: Exchange, progress: Progress, num_sites: int) -> Exchange:
    """``exchange``, with a stage of the progress a round; ``num_sites`` take part in one."""

    def asked(round: int, state: State) -> Iterator[Update | Rejection]:
        with progress.stage(f"round {round}: sites", num_sites) as stage:
            for arrived in exchange(round, state):
                if isinstance(arrived, Update):
                    stage.advance(loss=arrived.metrics["loss"])
                else:
                    stage.advance()
                yield arrived

    return asked


def through_spool(exchange: Exchange, spool: Spool) -> Exchange:
    """``exchange``, but updates wait on the disk instead of in memory."""
    return lambda round, state: spool.through(exchange(round, state))
