"""A real small federation with liars in range: two of ten sites send the step back that they took.

``python -m benchmarks poisoning``. Ten hospitals of synthetic patients train an encoder and a head, as in any run but
without a language model. The liars' updates are θ − Δ where an honest site would send θ + Δ: as long as anybody's, so the gate
has nothing to say, and only the rule decides. A figure is the AUROC on 500 test patients that no site has, mean over three seeds, against
that of the weighted mean without liars, after twenty rounds. Steps of few patients are mostly noise: the hard case for a rule that looks at one
coordinate at a time.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from benchmarks.measure import Report, Settings, exact
from benchmarks.small_models import aggregated
from fedkim.data.sample import Dataset
from fedkim.evaluation.metrics import one_versus_rest
from fedkim.extraction import predict_proba
from fedkim.recipe import Recipe, from_dict
from fedkim.run.world import World, build_world, samples_asked
from fedkim.state import State, Update

RULES: Mapping[str, dict[str, object]] = {
    "multi-krum": {"byzantine": 2},
    "median": {"byzantine": 2},
    "trimmed-mean": {"byzantine": 2},
    "krum": {"byzantine": 2},
    "fedavg": {},
    "clipped-mean": {"byzantine": 2},
}
"""Algorithms and their settings against two liars of ten."""

HELD_TO = ("median", "trimmed-mean", "krum", "multi-krum")
ALLOWED = 0.03
"""AUROC that two liars may cost."""


def run(settings: Settings, report: Report) -> None:
    """The weighted mean without liars, then each rule with two."""
    report.title("AUROC with 2 of 10 sites sending their step back (synthetic patients)")
    clean = auroc("fedavg", liars=0)
    report.add(exact("fedavg without liars", clean))
    for name in RULES:
        attacked = auroc(name, liars=2)
        target = ALLOWED if name in HELD_TO else None
        report.add(exact(f"{name}: lost to two liars", clean - attacked, target=target, note=f"  {attacked:.3f}"))


SEEDS = (0, 1, 2)


def recipe(algorithm: str, *, seed: int, patients: int = 1000, rounds: int = 20) -> Recipe:
    """Ten sites, one question about small pictures, rates that learn it in a minute."""
    return from_dict(
        {
            "data": {
                "image_patients": patients,
                "signal_patients": 0,
                "icu_patients": 0,
                "further_test_patients": 500 - patients // 10,
                "image_size": 32,
            },
            "tasks": {"seen": ["covid"], "unseen": []},
            "federation": {"sites": 10, "rounds": rounds, "algorithm": algorithm, **RULES[algorithm]},
            "extraction": {"width": 32, "local_epochs": 4, "learning_rate": 5e-3, "augment": False},
            "run": {"workers": 1, "seed": seed},
        }
    )


def auroc(algorithm: str, *, liars: int, patients: int = 1000, rounds: int = 20) -> float:
    """AUROC on test patients after the last round, mean over the seeds."""
    worlds = [build_world(recipe(algorithm, seed=seed, patients=patients, rounds=rounds)) for seed in SEEDS]
    return float(np.mean([scores(world, trained(world, liars=liars)) for world in worlds]))


def trained(world: World, *, liars: int) -> State:
    """The small models after the recipe's rounds; the first ``liars`` sites lie."""
    bad = sorted(world.sites)[:liars]
    return aggregated(world, lambda round, sent, update: flipped(update, sent) if update.site in bad else update)


def flipped(update: Update, broadcast: State) -> Update:
    """The same step, taken the other way."""
    return replace(
        update,
        state=update.state.updated({key: 2 * broadcast[key] - value for key, value in update.state.items()}),
    )


def scores(world: World, state: State) -> float:
    """Mean AUROC over the seen questions on test patients."""
    extractor, found = world.extractor(state), []
    for task in world.seen:
        samples = samples_asked(world.data, task, "test")
        labels = np.array([(task.answers or ()).index(sample.labels[task.name]) for sample in samples])
        probabilities = predict_proba(extractor, Dataset(samples), task)
        found.append(float(one_versus_rest(labels, probabilities, np.ones((1, len(samples))), "auroc")[0]))
    return float(np.mean(found))
