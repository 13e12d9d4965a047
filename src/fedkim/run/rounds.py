"""The rounds of a run: the walk of ``federation.federate`` with this recipe's parts, each round committed and resumable."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from fedkim.data.sample import Dataset
from fedkim.engines import InProcess
from fedkim.evaluation.answers import score
from fedkim.evaluation.metrics import one_versus_rest
from fedkim.extraction import predict_proba
from fedkim.federation import Exchange, Round, federate
from fedkim.injection import InjectionTrainer, Injector
from fedkim.progress import Progress
from fedkim.run.routes import round_routes, tell_routes
from fedkim.run.server import make_guide, make_teacher
from fedkim.run.shared_extraction import shared_extraction
from fedkim.run.world import World, asked
from fedkim.state import State, Update
from fedkim.store import RunStore


class Rounds:
    """Iterates over the rounds still to do; afterwards ``state``, ``aggregated`` and ``history`` are those of the last.

    Args:
        world, injector, trainer: the run's parts; injector and trainer are brought to the committed round.
        store: an open store, or None to keep nothing (reference runs).
        progress: told of rounds, sites and steps.
    """

    def __init__(
        self, world: World, injector: Injector, trainer: InjectionTrainer, *, store: RunStore | None, progress: Progress
    ):
        self.world, self.injector, self.trainer, self.store, self.progress = world, injector, trainer, store, progress
        self.state, self.memory, self.aggregated = world.initial, State(), world.initial
        self.history: list[dict[str, Any]] = []
        self.done = 0
        self.earlier_seconds = 0.0
        """Of rounds that another process computed: a resumed run's time is the sum."""
        committed = store.latest() if store else None
        if committed:
            self.done = committed.round
            self.state, self.memory = committed.namespace("state"), committed.namespace("memory")
            self.aggregated = self.state.updated(committed.namespace("aggregated"))
            injector.load(committed.namespace("injector"), whole=True)
            trainer.load(committed.namespace("optimizer"))
            self.history = list(committed.manifest["history"])
            self.earlier_seconds = sum(entry["seconds"] for entry in self.history)
            store.event("resumed", round=committed.round)  # type: ignore[union-attr]
            progress.line(f"resuming after round {committed.round}")

    def __iter__(self) -> Iterator[Round]:
        recipe = self.world.recipe
        total = recipe.federation.rounds
        with self.progress.stage("rounds", total) as stage:
            stage.advance(self.done)
            engine = self._engine()
            for finished in federate(
                rounds=range(self.done + 1, total + 1),
                state=self.state,
                memory=self.memory,
                owned=self.world.owned,
                exchange=self._timed(engine),
                algorithm=self.world.algorithm,
                inject=self._inject,
                commit=self._commit,
            ):
                stage.advance()
                yield finished

    def _engine(self) -> Exchange:
        recipe = self.world.recipe

        def told(round: int, state: State) -> Iterator[Update]:
            with self.progress.stage(f"round {round}: sites", len(self.world.sites)) as stage:
                engine = InProcess(
                    self.world.sites,
                    owned=self.world.owned,
                    tasks=self.world.seen,
                    settings=recipe.extraction,
                    penalty=self.world.algorithm.penalty,
                    participation=recipe.federation.participation,
                    workers=recipe.run.workers,
                    seed=recipe.run.seed,
                    on_update=lambda update: stage.advance(loss=update.metrics["loss"]),
                )
                yield from engine(round, state)

        return shared_extraction(told, self.world) if recipe.run.share_extraction else told

    def _timed(self, exchange: Exchange) -> Exchange:
        """Notes when a round begins, and the bytes of each site's slice of the broadcast."""

        def timed(round: int, state: State) -> Iterable[Update]:
            self._began = time.perf_counter()
            self._sent = {site: state.slice(owned).num_bytes for site, owned in self.world.owned.items()}
            yield from exchange(round, state)

        return timed

    def _inject(self, round: int, aggregated: State) -> tuple[State, Mapping[str, object]]:
        began = time.perf_counter()
        with self.progress.stage(f"round {round}: injection", self.trainer.steps_per_round) as stage:
            state, report = self.trainer.fit(
                aggregated,
                round=round,
                teacher=make_teacher(self.world, aggregated),
                guide=make_guide(self.world, aggregated),
                on_step=lambda step, loss: stage.advance(loss=loss),
            )
        return state, {
            "loss": report.losses,
            "tasks": report.tasks,
            **round_routes(self.injector, self.world.seen),
            "seconds": round_(time.perf_counter() - began),
        }

    def _commit(self, finished: Round) -> None:
        entry: dict[str, Any] = {
            "round": finished.number,
            "sites": {update.site: self._site(update) for update in finished.updates},
            "rejected": {rejection.site: rejection.reason for rejection in finished.rejections},
            "injection": dict(finished.injection),
            "development_small": self._small_scores(finished.aggregated),
            "development": self._curve(),
            "seconds": round_(time.perf_counter() - self._began),
        }
        told = self.history[-1]["injection"].get("routes") if self.history else None
        self.state, self.memory, self.aggregated = finished.state, finished.memory, finished.aggregated
        self.history.append(entry)
        self.done = finished.number
        losses = entry["injection"]["loss"]
        self.progress.line(
            f"round {finished.number}/{self.world.recipe.federation.rounds}: "
            f"{len(finished.updates)} sites, loss {np.mean([u.metrics['loss'] for u in finished.updates]):.3f}; "
            f"injection loss {np.mean(losses[-5:]):.3f}; {entry['seconds']:.0f} s"
        )
        if "routes" in entry["injection"]:
            tell_routes(
                entry["injection"]["routes"], told, round=finished.number, store=self.store, progress=self.progress
            )
        if not self.store:
            return
        for update in finished.updates:
            site = entry["sites"][update.site]
            self.store.event(
                "update", round=finished.number, site=update.site, loss=site["loss"], bytes=site["bytes_sent"]
            )
        for rejection in finished.rejections:
            self.store.event("rejected", round=finished.number, site=rejection.site)
        self.store.event("injected", round=finished.number, loss=float(np.mean(losses)), seconds=entry["seconds"])
        manifest = {
            "history": self.history,
            "digest": self.digest(),
            "shapes": self.world.shapes,
            "synthetic": self.world.data.synthetic,
        }
        self.store.commit(finished.number, self.tensors(), manifest)

    def _site(self, update: Update) -> dict[str, Any]:
        return {
            "loss": update.metrics["loss"],
            "seconds": round_(update.metrics["seconds"]),
            "bytes_sent": update.state.num_bytes,
            "bytes_received": self._sent[update.site],
            "num_examples": dict(update.num_examples),
            "digest": update.state.digest(),
        }

    def release(self) -> None:
        """Let go of the models; history, states and digest stay."""
        del self.injector, self.trainer

    def tensors(self) -> State:
        """Everything a later process needs to go on from here, under its namespaces."""
        encoders = {key: value for key, value in self.aggregated.items() if key.startswith("encoder.")}
        spaces = {
            "state": self.state,
            "memory": self.memory,
            "aggregated": encoders,
            "injector": self.injector.tensors(),
            "optimizer": self.trainer.tensors(),
        }
        return State({f"{space}.{key}": tensor for space, named in spaces.items() for key, tensor in named.items()})

    def digest(self) -> str:
        """sha256 of the weights that answer: global state and injector. Equal digests are bit-identical runs."""
        injected = self.injector.tensors()
        return State(
            {f"state.{key}": value for key, value in self.state.items()}
            | {f"injector.{key}": value for key, value in injected.items()}
        ).digest()

    # the curves ---------------------------------------------------------------------------------------------------

    def _small_scores(self, state: State) -> dict[str, float | None]:
        extractor = self.world.extractor(state)
        scores = {}
        for task in self.world.seen:
            samples = asked(self.world.data, task, "development")
            probabilities = predict_proba(extractor, Dataset(samples), task)
            scores[task.name] = area(task.answers or (), [s.labels[task.name] for s in samples], probabilities)
        return scores

    def _curve(self) -> dict[str, float | None]:
        """The injected model's development AUROC, on as many samples as the recipe grants."""
        recipe = self.world.recipe
        if not recipe.evaluation.curve_samples:
            return {}
        curve = {}
        for task in self.world.seen:
            samples = asked(self.world.data, task, "development", at_most=recipe.evaluation.curve_samples)
            probabilities = score(
                self.injector,
                task.name,
                samples,
                batch_size=recipe.evaluation.batch_size,
                workers=self.trainer.workers,
            )
            curve[task.name] = area(task.answers or (), [s.labels[task.name] for s in samples], probabilities)
        return curve


def area(answers: tuple[str, ...], truth: list[str], probabilities: np.ndarray) -> float | None:
    """AUROC, or None where a class is missing."""
    if not truth:
        return None
    labels = np.array([answers.index(word) for word in truth])
    value = float(one_versus_rest(labels, probabilities, np.ones((1, len(truth))), "auroc")[0])
    return value if np.isfinite(value) else None


def round_(seconds: float) -> float:
    """Seconds to two places: more would be noise."""
    return round(float(seconds), 2)
