"""An easy question beside a hard one: what each weighing of tasks leaves of the hard one.

``python -m benchmarks crowding``. One reader of ECGs learns from all private synthetic patients, as a site does round after round:
``ecg_abnormal`` alone, then beside two questions about noise, which is easy to see. A figure is the AUROC on test patients after six rounds,
mean over three seeds; the last is the processor time of a training with weights by gradient over one with equal weights.
"""

import time
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from benchmarks.measure import Report, Settings, exact
from benchmarks.small_models import by_itself
from fedkim.data.sample import Dataset
from fedkim.evaluation.metrics import one_versus_rest
from fedkim.extraction import predict_proba
from fedkim.recipe import Recipe, from_dict
from fedkim.run.world import World, build_world, samples_asked

HARD, EASY = "ecg_abnormal", ("noisy", "noise_free")
Weights = Literal["equal", "gradient"]
SEEDS = (0, 1, 2)
ROUNDS = 6


def run(settings: Settings, report: Report) -> None:
    """The hard question alone, then beside the easy ones under both weighings."""
    report.title("AUROC of a hard question beside two easy ones (synthetic ECGs)")
    worlds = [build_world(recipe(seed)) for seed in SEEDS]
    seconds = {}
    trainings: tuple[tuple[str, tuple[str, ...], Weights], ...] = (
        ("alone", (HARD,), "equal"),
        ("beside two easy ones, equal weights", (HARD, *EASY), "equal"),
        ("beside two easy ones, weights by gradient", (HARD, *EASY), "gradient"),
    )
    for name, questions, weights in trainings:
        began = time.process_time()
        found = [auroc(world, questions, weights) for world in worlds]
        seconds[weights] = time.process_time() - began
        for question in questions:
            by_seed = [one[question] for one in found]
            note = "  " + " ".join(f"{value:.3f}" for value in by_seed)
            report.add(exact(f"{question} {name}", float(np.mean(by_seed)), note=note))
    report.add(exact("time by gradient / equal weights", seconds["gradient"] / seconds["equal"]))


def recipe(seed: int) -> Recipe:
    """ECGs as in the paper's matrix, all of them at one site."""
    tables: dict[str, dict[str, Any]] = {
        "run": {"seed": seed, "workers": 1, "threads": 1},
        "data": {"image_patients": 0, "signal_patients": 1000, "icu_patients": 0, "further_test_patients": 200},
        "tasks": {"seen": [HARD, *EASY], "unseen": []},
        "federation": {"trainers": "centralised"},
        "extraction": {"local_epochs": 2, "batch_size": 8, "tokens": {"signal": 8}},
    }
    return from_dict(tables)


def auroc(world: World, questions: tuple[str, ...], weights: Weights, rounds: int = ROUNDS) -> dict[str, float]:
    """By question, after so many rounds of training on these alone."""
    (site,) = world.sites
    tasks = [task for task in world.seen if task.name in questions]
    settings = replace(world.recipe.extraction, task_weights=weights)
    state = by_itself(world, site, tasks, settings, rounds)
    extractor, found = world.extractor(state), {}
    for task in tasks:
        samples = samples_asked(world.data, task, "test")
        labels = np.array([(task.answers or ()).index(sample.labels[task.name]) for sample in samples])
        probabilities = predict_proba(extractor, Dataset(samples), task)
        found[task.name] = float(one_versus_rest(labels, probabilities, np.ones((1, len(samples))), "auroc")[0])
    return found
