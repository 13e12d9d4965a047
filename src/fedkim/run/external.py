"""External validation: a finished run's model on a hospital's own patients, without joining a federation.

The hospital's files are read by the very preprocessing of the training; nothing about them is written but decoded inputs and names
of files, into the user's own cache. The result has the form of a run's own, with small cells taken out, so that it may be shown around.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedkim.data.hospital import load_site, load_site_file
from fedkim.data.sample import Dataset, Sample
from fedkim.data.smallest_cell import SMALLEST_CELL
from fedkim.errors import FedkimError
from fedkim.evaluation.scoring import score_at, score_rows
from fedkim.evaluation.suppression import suppressed
from fedkim.extraction import Extractor, predict_proba
from fedkim.progress import Progress
from fedkim.run.pipeline import environment_of
from fedkim.run.result import Clock, describe_run
from fedkim.run.scores import answered, known_groups, predictions, shuffled_over_patients
from fedkim.run.server import workers_of
from fedkim.run.world import can_be_asked
from fedkim.tasks import TASKS, Task, has_inputs

if TYPE_CHECKING:
    from fedkim.run.run import Run


def evaluate_elsewhere(run: "Run", site_file: Path, *, progress: Progress) -> dict[str, Any]:
    """The run's newest round on the patients that ``site_file`` declares.

    Where the site's tables have no column of splits, every row is scored; otherwise those of its test split.

    Raises:
        FedkimError: the site's data can't be used, hold none of the tasks that the run can be asked, or have another shape
            than the inputs it was trained on.
    """
    clock, recipe = Clock(), run.recipe
    told = recipe.without_places()  # it is shown around
    site = load_site_file(site_file)
    data = load_site(
        site_file,
        image_size=recipe.data.image_size,
        unseen_tasks=recipe.tasks.unseen,
        split="test",
        workers=recipe.run.workers,
        progress=progress,
    ).split("test")
    if not len(data):
        found, remedy = (
            "no row of the test split",
            "correct the column of splits, or leave it out: then every row is scored",
        )
        raise FedkimError(f"site {site.site.name}", found=found, expected="rows to score", remedy=remedy)
    tasks = [known_groups(task, data) for task in _tasks(run, data, site.site.name)]
    clock.lap("data")
    small = _small_models(run)
    metrics: dict[str, Any] = {}
    hidden: list[str] = []
    with progress.stage("answers", len(tasks)) as stage:
        for task in tasks:
            samples = [sample for sample in data if can_be_asked(sample, task)]
            few = len({sample.patient for sample in samples}) < SMALLEST_CELL
            entry = None if few else suppressed(_scored(run, task, samples, small))
            if entry is None:
                hidden.append(task.name)  # nothing about so few
            else:
                metrics[task.name] = entry
            stage.advance()
    clock.lap("answers")
    return {
        "run_info": {
            **describe_run(told, split="test", revealed=0, environment=environment_of(run.injector, recipe)),
            "round": run.committed.round,
            "seconds": clock.total(),
            "seconds_by_part": clock.laps,
        },
        "metrics": metrics,
        "meta_info": {
            "synthetic": False,
            "data": site.site.name,
            "external": True,
            "created": time.strftime("%Y-%m-%d", time.gmtime()),
            "suppressed": {"smallest_cell": SMALLEST_CELL, "tasks": hidden},
        },
    }


def _tasks(run: "Run", data: Dataset, name: str) -> list[Task]:
    """What the site has labels of and the run has encoders for."""
    trained = run.shapes
    for modality, shape in data.shapes().items():
        if modality in trained and tuple(trained[modality]) != shape:
            remedy = "give the leads that the run was trained on" if modality == "signal" else ""
            expected = f"{tuple(trained[modality])}, as in the training"
            raise FedkimError(f"site {name}: {modality}", found=f"shape {shape}", expected=expected, remedy=remedy)
    named = sorted({task for sample in data for task in sample.labels})
    tasks = [TASKS[task] for task in named if has_inputs(TASKS[task], trained)]
    if not tasks:
        raise FedkimError(
            f"site {name}",
            found="no label of a task whose inputs the run has learned",
            expected=f"a task on {', '.join(trained)}",
            remedy="add it to [data.labels]",
        )
    return tasks


def _small_models(run: "Run") -> Extractor:
    """The hospitals' aggregated encoders and decoders of the newest round, before its injection."""
    recipe, committed = run.recipe, run.committed
    state = committed.namespace("state").updated(committed.namespace("aggregated"))
    seen = [TASKS[name] for name in recipe.tasks.seen]
    return Extractor(tasks=seen, shapes=run.shapes, settings=recipe.extraction, seed=recipe.run.seed).load(state)


def _scored(run: "Run", task: Task, samples: list[Sample], small: Extractor) -> dict[str, Any]:
    recipe, seen = run.recipe, task.name in run.recipe.tasks.seen
    workers = workers_of(recipe, run.injector.llm.device)
    rows = {"injected": answered(run.injector, task, samples, "test", recipe, workers=workers)}
    if task.answers is not None:
        shuffled = shuffled_over_patients(rows["injected"], recipe.run.seed)
        rows |= {"shuffled": shuffled} if shuffled is not None else {}
        if seen:
            table = predict_proba(small, Dataset(samples), task.name)
            rows["small_before"] = predictions(task, samples, "test", probabilities=table)
    entry: dict[str, Any] = dict(score_rows(rows, seen=seen, draws=recipe.evaluation.draws, seed=recipe.run.seed))
    threshold = run.threshold(task)
    if threshold and seen:
        scores = score_at(rows["injected"], threshold["value"], draws=recipe.evaluation.draws, seed=recipe.run.seed)
        entry["rows"]["injected"]["tuned"] = {
            "threshold": threshold["value"], "source": f"the run's, {threshold['source']}", "metrics": scores,
        }  # fmt: skip
    return entry
