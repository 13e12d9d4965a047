"""Whether a patient was in a site's training, told from the site's update: a membership-inference attack on the small models.

``python -m benchmarks membership``. The attacker has a patient's inputs and labels, what the server broadcast and what a site sent back, as a
coordinator does, and asks whether the site trained on this patient. A model often has a lower loss on what it was trained on (Yeom et al.
2018, arXiv 1709.01604); how far the site's step lowered it corrects for patients who are easy anyway. A figure is the AUROC of a site's members against test
patients, whom nobody trained on, mean over sites and seeds: 0.5 tells nothing. Beside it the share of members who are found where one in a hundred
others is accused, where 0.01 tells nothing (Carlini et al. 2022, arXiv 2112.03570). Around it stand a control, the loss under the first update of a site that
never saw these members; an attacker who sees the last average alone, as every site does; and the first site trained by itself for as many
rounds, whose weights nobody averaged.

Synthetic patients, dealt to sites alike, so that members differ from test patients by having been trained on alone: sites of real patients differ by more
than that, and an attack would be credited with it. The server's injection, which may move encoders between rounds, is left out. These are two
simple attacks, and a stronger one may find more: the figures bound nothing from above.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Figure, Report, Settings
from benchmarks.small_models import aggregated, by_itself
from fedkim.data.sample import Dataset, Sample
from fedkim.evaluation.metrics import auroc
from fedkim.extraction import Extractor, predict_proba
from fedkim.recipe import Recipe, load
from fedkim.run.world import World, build_world, can_be_asked
from fedkim.state import State, Update
from fedkim.tasks import Task

SEEDS = (0, 1, 2)
FALSE_POSITIVES = 0.01
KINDS = {"image": "pictures", "signal": "ECGs", "vitals": "stays"}
"""Groups of tasks by a modality that they have."""

LEAST = 100
"""Members and others, at least: one in a hundred others must be somebody."""
TINY = 1e-12
Told = tuple[float, float]
"""AUROC, and the share of members found."""


@dataclass(frozen=True)
class Sent:
    """What the coordinator sees of one site in one round."""

    broadcast: State
    update: State
    """The site's weights, whole: components that it doesn't own are the broadcast's."""


def run(settings: Settings, report: Report) -> None:
    """A line for each kind of input and attack: the mean over sites and seeds [lowest, highest]."""
    report.title(f"who was trained on: synthetic patients, recipe demo, {len(SEEDS)} seeds")
    found: dict[tuple[str, str], list[Told]] = defaultdict(list)
    for seed in SEEDS:
        for key, by_site in attacks(build_world(recipe(seed))).items():
            found[key] += by_site
    for (kind, attack), every in found.items():
        for name, values in zip(("AUROC", "found"), zip(*every)):
            report.add(spread(f"{kind}: {attack}: {name}", values))


def recipe(seed: int) -> Recipe:
    """The demo's, its sites one after the other, with as many further test patients as make 1 % countable."""
    path = Path(__file__).parents[1] / "recipes" / "demo.toml"
    return load(path, "run.workers=1", f"run.seed={seed}", "data.further_test_patients=200")


def spread(name: str, values: Sequence[float]) -> Figure:
    """A figure without a target: the mean, lowest and highest."""
    return Figure(name=name, median=float(np.mean(values)), low=min(values), high=max(values), rounds=len(values))


def markdown(record: Mapping[str, Any]) -> str:
    """The table of what ``--json`` wrote."""
    lines = ["| attack | AUROC | found, one in a hundred others accused |", "| --- | --- | --- |"]
    shown = [f"{one['median']:.2f} ({one['low']:.2f} to {one['high']:.2f})" for one in record["figures"]]
    names = [one["name"].removesuffix(": AUROC") for one in record["figures"]]
    lines += [f"| {names[at]} | {shown[at]} | {shown[at + 1]} |" for at in range(0, len(names), 2)]
    return "\n".join(lines) + "\n"


def attacks(world: World) -> dict[tuple[str, str], list[Told]]:
    """By kind of input and attack, what is told of each site."""
    sent: dict[int, dict[str, Sent]] = defaultdict(dict)

    def arriving(round: int, broadcast: State, update: Update) -> Update:
        sent[round][update.site] = Sent(broadcast, broadcast.updated(update.state))
        return update

    average = aggregated(world, arriving)
    alone = by_itself(
        world, next(iter(world.sites)), world.seen, world.recipe.extraction, world.recipe.federation.rounds
    )
    found: dict[tuple[str, str], list[Told]] = defaultdict(list)
    for kind, tasks in kinds(world.seen).items():
        attack = Attack(world, tasks)
        sites = list(world.sites)
        for site, another in zip(sites, sites[1:] + sites[:1]):
            found[kind, "update of another site, first round, loss"] += attack(site, sent[min(sent)][another].update)
            for name, round in (("first", min(sent)), ("last", max(sent))):
                one = sent[round][site]
                found[kind, f"update of the {name} round, loss"] += attack(site, one.update)
                found[kind, f"update of the {name} round, step"] += attack(site, one.update, one.broadcast)
            found[kind, "last average alone, loss"] += attack(site, average)
        found[kind, "the first site by itself, loss"] += attack(next(iter(world.sites)), alone)
    return {key: by_site for key, by_site in found.items() if by_site}


def kinds(tasks: Iterable[Task]) -> dict[str, list[Task]]:
    """Tasks by what they look at."""
    found: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        found[next(name for modality, name in KINDS.items() if modality in task.modalities)].append(task)
    return found


@dataclass(frozen=True)
class Attack:
    """On the patients who are asked these tasks: a site's members against test patients."""

    world: World
    tasks: Sequence[Task]

    def __call__(self, site: str, after: State, before: State | None = None) -> list[Told]:
        """What is told, or nothing where there are too few patients."""
        others = [sample for sample in self.world.data if sample.split == "test"]
        scored = [self._scores(samples, after, before) for samples in (list(self.world.sites[site]), others)]
        return [told(*scored)] if min(map(len, scored)) >= LEAST else []

    def _scores(self, samples: Sequence[Sample], after: State, before: State | None) -> np.ndarray:
        """By patient, higher for who looks trained on: minus the loss, or by how much the step lowered it."""
        lower = -losses(self.world.extractor(after), samples, self.tasks)
        return lower if before is None else lower + losses(self.world.extractor(before), samples, self.tasks)


def losses(extractor: Extractor, samples: Sequence[Sample], tasks: Sequence[Task]) -> np.ndarray:
    """Cross-entropy of each patient who is asked any of the tasks, the mean over tasks and samples."""
    found: dict[str, list[float]] = defaultdict(list)
    for task in tasks:
        asked = [sample for sample in samples if can_be_asked(sample, task)]
        if asked:
            labels = [(task.answers or ()).index(sample.labels[task.name]) for sample in asked]
            right = predict_proba(extractor, Dataset(asked), task)[np.arange(len(asked)), labels]
            for sample, value in zip(asked, -np.log(np.maximum(right, TINY))):
                found[sample.patient].append(float(value))
    return np.array([np.mean(values) for values in found.values()])


def told(members: np.ndarray, others: np.ndarray) -> Told:
    """AUROC of members against others, and the share of members above all but one in a hundred others."""
    positive = np.arange(len(members) + len(others)) < len(members)
    area = auroc(positive, np.concatenate([members, others]), np.ones((1, len(positive))))[0]
    return float(area), float(np.mean(members > np.quantile(others, 1 - FALSE_POSITIVES)))
