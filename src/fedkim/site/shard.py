"""What a site trains on: its data, seen through its policy, and what that makes it able to train."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fedkim.data import hospital
from fedkim.data.sample import Dataset, Sample
from fedkim.errors import FedkimError, unknown
from fedkim.extraction import owned_components
from fedkim.extraction.extractor import component_samples
from fedkim.modalities import MODALITIES
from fedkim.recipe import Recipe
from fedkim.run.world import build_world, resolve_tasks
from fedkim.site.participant import Participant
from fedkim.site.policy import Policy
from fedkim.tasks import TASKS, Task


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A site's usable data."""

    dataset: Dataset
    tasks: tuple[Task, ...]
    """The recipe's seen tasks that the policy allows."""
    examples: Mapping[str, int]
    """Examples by component."""
    patients: Mapping[str, int]
    """Distinct patients by component."""


def load_shard(site: Participant, recipe: Recipe) -> Shard:
    """Read a site's data.

    Raises:
        FedkimError: whatever is wrong with the data, or nothing is left of it by the policy.
    """
    require_policy_of(site, recipe)
    allowed = [task for task in resolve_tasks(recipe).values() if task.name in site.policy.tasks]
    tasks = tuple(task for task in allowed if task.name in recipe.tasks.seen)
    dataset = permitted(_read(site, recipe), site.policy)
    examples = owned_components(dataset, tasks)
    if not examples:
        raise FedkimError(
            f"site {site.name!r}",
            found="no row that its policy lets it train on",
            expected=f"a label and an input for one of: {', '.join(recipe.tasks.seen)}",
            remedy="see policy.tasks and policy.modalities",
        )
    return Shard(dataset=dataset, tasks=tasks, examples=examples, patients=cohorts(dataset, tasks))


def require_policy_of(site: Participant, recipe: Recipe) -> None:
    """Refuse a policy that names what doesn't exist, which would leave out in silence what was meant, or none of the recipe's tasks.

    Raises:
        FedkimError: a task or a modality that no registry holds, plug-ins of the recipe included; no seen task of the recipe.
    """
    for kind, named, known in (("task", site.policy.tasks, TASKS), ("modality", site.policy.modalities, MODALITIES)):
        for name in named:
            if name not in known:
                remedy = unknown(kind, name, known).remedy
                raise FedkimError(f"{site.path}: [policy]: unknown {kind} {name!r}", remedy=remedy)
    if not set(site.policy.tasks) & set(recipe.tasks.seen):
        found, expected = "no task of the approved recipe", f"at least one of: {', '.join(recipe.tasks.seen)}"
        raise FedkimError(f"{site.path}: [policy] tasks", found=found, expected=expected)


def permitted(dataset: Dataset, policy: Policy) -> Dataset:
    """The samples without inputs and labels that the policy doesn't name."""
    kept = (_thinned(sample, set(policy.tasks), set(policy.modalities)) for sample in dataset)
    samples = [sample for sample in kept if sample.inputs and sample.labels]
    return Dataset(samples, name=dataset.name, synthetic=dataset.synthetic)


def cohorts(dataset: Dataset, tasks: tuple[Task, ...]) -> dict[str, int]:
    """Distinct patients behind each component."""
    patients: dict[str, set[str]] = {}
    for part, sample in component_samples(dataset, tasks):
        patients.setdefault(part, set()).add(sample.patient)
    return {part: len(names) for part, names in sorted(patients.items())}


def _read(site: Participant, recipe: Recipe) -> Dataset:
    if site.data.source == "recipe":
        sites, shard = build_world(recipe).sites, site.data.shard
        if shard not in sites:
            raise unknown(f"{site.path}: [data] shard:", shard, sites)
        return sites[shard]
    return hospital.load_site(
        site.path,
        image_size=recipe.data.image_size,
        unseen_tasks=recipe.tasks.unseen,
        split="private",
        workers=recipe.run.workers,
    ).split("private")


def _thinned(sample: Sample, tasks: set[str], modalities: set[str]) -> Sample:
    if set(sample.labels) <= tasks and set(sample.inputs) <= modalities:
        return sample
    return replace(
        sample,
        inputs={name: value for name, value in sample.inputs.items() if name in modalities},
        labels={name: value for name, value in sample.labels.items() if name in tasks},
    )
