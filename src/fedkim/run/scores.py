"""Scores of a finished run: the injected model's answers on every task, and the reference rows beside them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fedkim.data.sample import Dataset, Sample
from fedkim.evaluation.answers import generate, score
from fedkim.evaluation.baselines import choose_proxy
from fedkim.evaluation.predictions import Predictions, Rows
from fedkim.evaluation.scoring import score_rows
from fedkim.evaluation.simple import simple
from fedkim.extraction import Extractor, predict_proba
from fedkim.injection import Injector
from fedkim.progress import Progress
from fedkim.randomness import numpy_generator_for
from fedkim.recipe import Recipe
from fedkim.run.world import World, samples_asked
from fedkim.state import State
from fedkim.tasks import Task


class Scorer:
    """Collects rows of predictions on one split, then turns them into the result's metrics.

    Args:
        world: whose tasks and samples.
        split: ``test`` once a recipe is final, ``development`` until then.
        workers: batches answered side by side.
    """

    def __init__(self, world: World, *, split: str, workers: int, progress: Progress):
        self.world, self.split, self.workers, self.progress = world, split, workers, progress
        recipe = world.recipe
        own = (
            {"patients": recipe.data.test_patients}
            if split == "test"
            else {"samples": recipe.evaluation.development_samples}
        )
        unseen = world.unseen if recipe.evaluation.unseen else ()
        self.seen, self.unseen = (
            tuple(known_groups(task, world.data) for task in tasks) for tasks in (world.seen, unseen)
        )
        self.tasks = {task.name: task for task in (*self.seen, *self.unseen)}
        self.samples = {name: samples_asked(world.data, task, split, **own) for name, task in self.tasks.items()}
        self.development = {
            task.name: samples_asked(world.data, task, "development", samples=recipe.evaluation.development_samples)
            for task in self.seen
        }
        self.rows: Rows = {name: {} for name in self.tasks}
        self.tuning: Rows = {name: {} for name in self.tasks}
        self.seen_scores: dict[str, dict[str, dict[str, float]]] = {}
        self.proxies: dict[str, str] = {}

    # rows of the injected model -----------------------------------------------------------------------------------

    def injected(self, injector: Injector) -> None:
        """The row the others are compared with; for unseen tasks also the seen questions on the same inputs."""
        with self.progress.stage("answers", len(self.tasks)) as stage:
            for name, task in self.tasks.items():
                self.rows[name]["injected"] = self._answer(injector, task, self.samples[name])
                if name in self.development:  # where development itself is scored, its answers are there already
                    self.tuning[name]["injected"] = (
                        self._answer(injector, task, self.development[name], split="development")
                        if self.split == "test"
                        else self.rows[name]["injected"]
                    )
                stage.advance()
            for task in self.unseen:
                if task.answers:
                    self.seen_scores[task.name] = self._seen_questions(injector, task)

    def base(self, injector: Injector) -> None:
        """The language model before any injection, asked without the patient, whom it could not read."""
        with injector.as_base():
            for name, task in self.tasks.items():
                self.rows[name]["base"] = self._answer(injector, task, self.samples[name])

    def simple(self) -> None:
        """A logistic regression on global statistics of the input, fitted on all private patients of the sites.

        None where the sites are elsewhere: the coordinator's own private patients are nobody's to train on.
        """
        if not self.world.sites:
            return
        for task in self.seen:
            table = simple(task, samples_asked(self.world.data, task, "private"), self.samples[task.name])
            if table is not None:
                self.rows[task.name]["simple"] = predictions(
                    task, self.samples[task.name], self.split, probabilities=table
                )

    def blind(self, injector: Injector) -> None:
        """The same training and questions without the modality segments."""
        for name, task in self.tasks.items():
            self.rows[name]["blind"] = self._answer(injector, task, self.samples[name])

    def shuffled(self) -> None:
        """The injected model with each input taken from another patient: what is left without the patient.

        A closed task's question is the same for everyone, so nothing but the input decides the answer: answering with
        another patient's input *is* that patient's answer, and no forward pass is needed.
        """
        for name, task in self.tasks.items():
            row = self.rows[name]["injected"]
            if task.answers is None or row.probabilities is None:
                continue
            shuffled = shuffled_over_patients(row, self.world.recipe.run.seed)
            if shuffled is not None:
                self.rows[name]["shuffled"] = shuffled

    def _answer(
        self, injector: Injector, task: Task, samples: Sequence[Sample], split: str | None = None
    ) -> Predictions:
        return answered(injector, task, samples, split or self.split, self.world.recipe, workers=self.workers)

    def _seen_questions(self, injector: Injector, task: Task) -> dict[str, dict[str, float]]:
        """By seen task of the same modalities: its scores on this task's inputs, asked only where not known yet."""
        scores: dict[str, dict[str, float]] = {}
        for seen in self.seen:
            if set(seen.modalities) - set(task.modalities):
                continue
            row = self.rows[seen.name]["injected"]
            known = dict(zip(row.samples, row.scores.tolist()))
            unknown = [sample for sample in self.samples[task.name] if sample.id not in known]
            if unknown:
                table = score(
                    injector,
                    seen.name,
                    unknown,
                    batch_size=self.world.recipe.evaluation.batch_size,
                    workers=self.workers,
                )
                known |= {sample.id: float(value) for sample, value in zip(unknown, table[:, -1])}
            scores[seen.name] = known
        return scores

    # rows of the small models -------------------------------------------------------------------------------------

    def small_models(self, before: State, after: State) -> None:
        """The federated encoders and decoders before and after the last injection, and the proxy heads."""
        extractors = {"small_before": self.world.extractor(before), "small_after": self.world.extractor(after)}
        for task in self.seen:
            for row, extractor in extractors.items():
                self.rows[task.name][row] = self._decide(extractor, task, task.name, self.samples[task.name])
        for task in self.unseen:
            if task.answers is not None and len(task.answers) == 2:
                self._proxy(extractors["small_before"], task)

    def _proxy(self, extractor: Extractor, task: Task) -> None:
        heads = [
            seen
            for seen in self.seen
            if seen.answers is not None and len(seen.answers) == 2 and not set(seen.modalities) - set(task.modalities)
        ]
        development = samples_asked(self.world.data, task, "development")
        if not heads or not development:
            return
        scores = {head.name: predict_proba(extractor, Dataset(development), head)[:, -1] for head in heads}
        dummy = predictions(task, development, "development", probabilities=np.full((len(development), 2), 0.5))
        chosen = choose_proxy(dummy.primary(), _within(dummy, scores))
        if chosen is not None:
            self.proxies[task.name] = chosen
            self.rows[task.name]["proxy"] = self._decide(extractor, task, chosen, self.samples[task.name])

    def _decide(self, extractor: Extractor, task: Task, head: str, samples: Sequence[Sample]) -> Predictions:
        return predictions(task, samples, self.split, probabilities=predict_proba(extractor, Dataset(samples), head))

    # the result ---------------------------------------------------------------------------------------------------

    def metrics(self) -> dict[str, Any]:
        """``result["metrics"]``: an entry per task that has samples in the split."""
        recipe, entries = self.world.recipe, {}
        for name in self.tasks:
            if not self.samples[name]:
                continue
            seen = name in recipe.tasks.seen
            entries[name] = score_rows(
                self.rows[name],
                seen=seen,
                development=self.tuning[name] or None,
                asked=self.seen_scores.get(name),
                draws=recipe.evaluation.draws,
                seed=recipe.run.seed,
            )
            if name in self.proxies:
                entries[name]["proxy"] = self.proxies[name]
        return entries


def known_groups(task: Task, data: Iterable[Sample]) -> Task:
    """The task as it can be scored on these data: inside its group only where they say of anybody that he belongs to it."""
    if task.within is None or any(task.within in sample.groups for sample in data):
        return task
    return replace(task, within=None)


def shuffled_over_patients(row: Predictions, seed: int) -> Predictions | None:
    """Each sample gets the answer to a sample of another patient; None where one patient has more than half of them.

    Samples are put in a random order of patients and moved on by as many places as the largest patient has samples.
    """
    random = numpy_generator_for(seed, "shuffled", row.task)
    blocks: dict[str, list[int]] = {}
    for index, patient in enumerate(row.patients):
        blocks.setdefault(patient, []).append(index)
    largest = max(map(len, blocks.values()), default=0)
    if row.probabilities is None or 2 * largest > len(row):
        return None
    patients = random.permutation(sorted(blocks)).tolist()
    order = np.array([index for patient in patients for index in random.permutation(blocks[patient])])
    probabilities = np.empty_like(row.probabilities)
    probabilities[order] = row.probabilities[np.roll(order, largest)]
    return replace(row, probabilities=probabilities)


def answered(
    injector: Injector, task: Task, samples: Sequence[Sample], split: str, recipe: Recipe, *, workers: int
) -> Predictions:
    """The injected model's answers to one task: a likelihood of each closed answer, or a generated text."""
    size = recipe.evaluation.batch_size
    if task.answers is None:
        limit = recipe.llm.max_new_tokens
        texts = generate(injector, task.name, samples, max_new_tokens=limit, batch_size=size, workers=workers)
        return predictions(task, samples, split, generated=texts)
    table = score(injector, task.name, samples, batch_size=size, workers=workers)
    return predictions(task, samples, split, probabilities=table)


def predictions(
    task: Task,
    samples: Sequence[Sample],
    split: str,
    *,
    probabilities: np.ndarray | None = None,
    generated: Sequence[str] | None = None,
) -> Predictions:
    """Put answers beside the truth of their samples."""
    return Predictions(
        task=task.name,
        split=split,
        samples=tuple(sample.id for sample in samples),
        patients=tuple(sample.patient for sample in samples),
        truth=tuple(sample.labels[task.name] for sample in samples),
        answers=task.answers,
        probabilities=probabilities,
        generated=None if generated is None else tuple(generated),
        sites=tuple(sample.site for sample in samples),
        groups=tuple(sample.groups for sample in samples),
        within=task.within,
        templates=_templates(samples, task.name) if task.answers is None else (),
    )


def _templates(samples: Sequence[Sample], task: str) -> tuple[str, ...]:
    names = tuple(sample.strata.get(f"template.{task}", sample.strata.get("template", "")) for sample in samples)
    return names if all(names) else ()


def _within(table: Predictions, scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scores of the primary group's samples only."""
    if table.within is None:
        return dict(scores)
    keep = np.array([table.within in group for group in table.groups])
    return {name: values[keep] for name, values in scores.items()}
