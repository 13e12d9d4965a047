"""Run: a finished (or stopped) run read back from its folder, ready to answer questions about one patient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fedkim.data.sample import Sample
from fedkim.errors import FedkimError, unknown
from fedkim.evaluation.answers import generate, score
from fedkim.evaluation.result import tuned_threshold
from fedkim.injection import Injector, Route
from fedkim.modalities.series import CONCEPTS
from fedkim.modalities.text import LONGEST_QUESTION, safe_question
from fedkim.progress import Progress, Silent
from fedkim.recipe import Recipe, import_plugins, plugin_digests
from fedkim.run.export import export_run
from fedkim.run.inputs import Window, lead_warnings, patient_inputs, table_warnings
from fedkim.run.pipeline import refuse_uninjected, score_again
from fedkim.run.server import load_language_model, new_injector, set_threads
from fedkim.run.world import resolve_tasks
from fedkim.store.environment import require_same_model, require_same_plugins
from fedkim.store.rounds import Committed
from fedkim.store.run_store import RunStore
from fedkim.store.shown import shown_as_stored
from fedkim.tasks import TASKS, Task


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the injected model says about one patient."""

    text: str
    """The likeliest answer, or the generated one."""
    probabilities: Mapping[str, float]
    """By answer; empty for free text."""
    threshold: Mapping[str, Any]
    """``{"value", "source"}``: where the probability turns into a yes, and where that number comes from."""
    route: Route
    """Which experts answered."""
    warnings: tuple[str, ...] = field(default=())


class Run:
    """A run's folder: its recipe, result and model.

    Raises:
        FedkimError: no run there, or none of its rounds can be read.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.store = RunStore(self.folder)
        self.recipe: Recipe = self.store.recipe()
        import_plugins(self.recipe.run.plugins)

    @property
    def result(self) -> dict[str, Any] | None:
        """The stored result; None while the run isn't complete."""
        return self.store.result()

    @property
    def committed(self) -> Committed:
        """The newest whole round."""
        return self._found[1]

    @property
    def damaged(self) -> bool:
        """Whether a later round than the one that answers was there when it was read, and wasn't whole."""
        newest, committed = self._found
        return newest > committed.round

    @cached_property
    def _found(self) -> tuple[int, Committed]:
        """The number of the newest round, and the newest whole one; looked for once, so that all answers are of one round."""
        newest, committed = self.store.newest_round(), self.store.latest()
        if committed is None:
            remedy = "run its recipe first"
            if (self.folder / "result.json").is_file():  # a matrix's cell gives its rounds up once it is done
                remedy = "its rounds are gone: run it anew, a cell of a matrix with --keep"
            raise FedkimError(f"run {self.folder}", found="no committed round", expected="at least one", remedy=remedy)
        own, remedy = plugin_digests(self.recipe.run.plugins), "undo the change, or run its recipe anew"
        made = committed.manifest.get("environment", {}).get("plugins", {})
        require_same_plugins(made, own, f"rounds of {self.folder}", remedy)
        return newest, committed

    def stands_for(self, result: Mapping[str, Any]) -> bool:
        """Whether a result is of the weights that answer: a round may have been made anew since. True where no round is left."""
        if not self.store.committed_rounds():
            return True
        return bool(result["train_info"].get("digest") == self.committed.manifest.get("digest"))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the inputs that the model was trained on, by modality."""
        return {name: tuple(shape) for name, shape in self.committed.manifest["shapes"].items()}

    @cached_property
    def injector(self) -> Injector:
        """The injected model as of the newest round; loaded at the first question."""
        refuse_uninjected(self.folder, self.recipe, self.committed.manifest["history"])
        set_threads(self.recipe)
        resolve_tasks(self.recipe)
        llm, made = load_language_model(self.recipe), self.committed.manifest.get("environment", {})
        remedy = "put its files back, or run its recipe anew"
        require_same_model(made, llm.identity, f"rounds of {self.folder}", remedy)
        injector = new_injector(self.recipe, llm, tasks=TASKS, shapes=self.shapes)
        injector.load(self.committed.namespace("injector"), whole=True)
        return injector

    def answer(
        self,
        *,
        task: str,
        question: str | None = None,
        units: str | None = None,
        stay: int | str | None = None,
        until_hour: float | None = None,
        start: float = 0.0,
        leads: Sequence[str] = (),
        **inputs: Any,
    ) -> Answer:
        """Ask one question about one patient.

        Args:
            task: a registered task whose modalities the run's sites taught.
            question: for tasks with free questions.
            units: ``yaib`` for an ICU file whose headers carry no units, where they are YAIB's.
            stay: which ``stay_id`` of an ICU table; needed where it holds several.
            until_hour: the 24 hours of an ICU table that end just before this one; the first day if not given.
            start: where the ten seconds of an ECG begin, in seconds.
            leads: the ECG's leads by name in the order of the training, where these aren't the standard twelve.
            **inputs: by modality, a file (an image; an ECG as WFDB record or CSV; an ICU table as CSV or parquet), for ICU groups
                also a DataFrame with a column or index ``hour`` and a column a concept, in YAIB's units unless its headers name
                others (``fedkim.modalities.series.CONCEPTS``), or a prepared tensor: image ``[1, S, S]``, signal ``[leads, 1000]``,
                ICU group ``[24, 2F]``.

        Raises:
            FedkimError: unknown task, a modality that is missing, superfluous or was never learned, a file that can't be read,
                an ICU file without units, a table without a known column or without a measurement in the window, values that
                aren't finite or of another shape, no question; a run without an injected round.
        """
        if not isinstance(task, str) or task not in TASKS:
            raise unknown("task", str(task), TASKS)
        record = TASKS[task]
        question, escaped, shortened = safe_question(question) if question else (None, False, False)
        window = Window(units=units, stay=stay, until_hour=until_hour, start=start, leads=tuple(leads))
        if record.answers is None and not question:
            raise FedkimError(f"task {task!r}", found="no question", remedy='give question="…"')
        if record.answers is not None and question:
            raise FedkimError(f"task {task!r}", found="a question", expected="none, for it has its own")
        size, shapes = self.recipe.data.image_size, self.shapes
        tensors = patient_inputs(record, inputs, window, image_size=size, shapes=shapes)
        sample = Sample(
            id="asked",
            patient="asked",
            split="test",
            inputs=tensors,
            labels={},
            questions={task: question} if question else {},
        )
        route = self.injector.route(task)
        empty = [name for name in tensors if name in CONCEPTS and not bool(tensors[name].any())]
        told = [f"nothing measured in {name}" for name in empty]
        told += [*table_warnings(inputs, window), *lead_warnings(inputs, window, shapes)]
        if escaped:
            told.append(
                "the question holds marks that mean more than words to a language model: they were defused or left out"
            )
        if shortened:
            told.append(f"the question is longer than {LONGEST_QUESTION:,} characters: the rest wasn't asked")
        warnings = (*told, *self._warnings(record))
        if record.answers is None:
            (text,) = generate(self.injector, task, [sample], max_new_tokens=self.recipe.llm.max_new_tokens)
            return Answer(text=text, probabilities={}, threshold={}, route=route, warnings=warnings)
        (row,) = score(self.injector, task, [sample])
        if not np.isfinite(row).all():
            raise FedkimError(
                f"task {task!r}", found="a score that isn't finite", remedy="check the size of the input's values"
            )
        probabilities = dict(zip(record.answers, (float(p) for p in row)))
        threshold = self.threshold(record)
        text = max(probabilities, key=probabilities.__getitem__)
        if len(record.answers) == 2:
            text = record.answers[int(probabilities[record.answers[-1]] >= threshold["value"])]
        return Answer(
            text=text,
            probabilities=probabilities,
            threshold=threshold,
            route=route,
            warnings=warnings,
        )

    def evaluate(
        self, data: str | Path | None = None, *, reveal_test: bool = False, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Score the final model again: on the recipe's data, on the same kind of data in another folder, or on a hospital's.

        Args:
            data: another folder, or a hospital's ``site.toml``, whose rows are then all scored as test patients; the
                run's stored result stays as it is.
            reveal_test: score the test split rather than development; a hospital's data are scored anyway.
            progress: told of the steps.
        """
        if data is not None and Path(data).suffix == ".toml":
            from fedkim.run.external import evaluate_elsewhere

            return evaluate_elsewhere(self, Path(data), progress=progress or Silent())
        return score_again(self.folder, data=data, reveal_test=reveal_test, progress=progress or Silent())

    def export(
        self,
        *,
        task: str,
        to: str | Path,
        modalities: tuple[str, ...] | None = None,
        merge: bool = False,
        force: bool = False,
    ) -> Path:
        """One task as a stock PEFT LoRA (or, merged, a dense model); see :func:`fedkim.run.export.export_run`."""
        return export_run(self, task=task, to=to, modalities=modalities, merge=merge, force=force)

    def threshold(self, task: Task) -> dict[str, Any]:
        """``{"value", "source"}`` of a yes/no task, from the run's result if it tuned one; empty for others.

        A result of other weights than those that answer has none to give.
        """
        result = self.result if len(task.answers or ()) == 2 else None
        with shown_as_stored(f"file {self.folder / 'result.json'}"):
            return tuned_threshold(result if result and self.stands_for(result) else None, task)

    def _warnings(self, task: Task) -> tuple[str, ...]:
        warnings = []
        if task.name not in self.recipe.tasks.seen:
            warnings.append("no hospital trained for this task: the answer may be that of the nearest trained question")
        total, done = self.recipe.federation.rounds, self.committed.round
        if self.damaged:
            warnings.append(
                f"what came after round {done} of {total} is damaged; the run's recipe, run again, makes it anew"
            )
        elif done < total:
            warnings.append(f"the run stopped after round {done} of {total}")
        if self.committed.manifest.get("synthetic"):
            warnings.append("trained on synthetic phantom data: the answer says nothing about a real patient")
        return tuple(warnings)


def load(folder: str | Path) -> Run:
    """Open a run's folder: ``fedkim.load("runs/demo").answer(task="covid", image="x.png")``."""
    return Run(folder)
