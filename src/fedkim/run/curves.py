"""The curves of a run: development AUROC after each round, of the small models and of the injected one."""

import numpy as np

from fedkim.data.sample import Dataset
from fedkim.evaluation.answers import score
from fedkim.evaluation.metrics import one_versus_rest
from fedkim.extraction import predict_proba
from fedkim.injection import Injector
from fedkim.run.world import World, samples_asked
from fedkim.state import State


def small_scores(world: World, state: State) -> dict[str, float | None]:
    """Development AUROC of the encoders and decoders in ``state``, by seen task."""
    extractor = world.extractor(state)
    scores = {}
    for task in world.seen:
        samples = samples_asked(world.data, task, "development")
        probabilities = predict_proba(extractor, Dataset(samples), task)
        scores[task.name] = area(task.answers or (), [s.labels[task.name] for s in samples], probabilities)
    return scores


def injected_scores(world: World, injector: Injector, *, workers: int) -> dict[str, float | None]:
    """The injected model's, on as many samples as the recipe grants; empty if it grants none."""
    evaluation = world.recipe.evaluation
    if not evaluation.curve_samples:
        return {}
    curve = {}
    for task in world.seen:
        samples = samples_asked(world.data, task, "development", samples=evaluation.curve_samples)
        probabilities = score(injector, task.name, samples, batch_size=evaluation.batch_size, workers=workers)
        curve[task.name] = area(task.answers or (), [s.labels[task.name] for s in samples], probabilities)
    return curve


def area(answers: tuple[str, ...], truth: list[str], probabilities: np.ndarray) -> float | None:
    """AUROC, or None where a class is missing."""
    if not truth:
        return None
    labels = np.array([answers.index(word) for word in truth])
    value = float(one_versus_rest(labels, probabilities, np.ones((1, len(truth))), "auroc")[0])
    return value if np.isfinite(value) else None
