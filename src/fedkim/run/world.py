"""World: everything a recipe resolves to before the first round."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from fedkim.aggregation import Algorithm, check_owners, make_algorithm
from fedkim.data.partition import partition
from fedkim.data.registry import SOURCES
from fedkim.data.sample import Dataset, Sample
from fedkim.data.shifts import check_shifts, shifted
from fedkim.data.site_names import SITE_NAME
from fedkim.data.splits import check_disjoint
from fedkim.errors import FedkimError, unknown
from fedkim.extraction import Extractor, owned_components
from fedkim.modalities import MODALITIES
from fedkim.recipe import Recipe, import_plugins
from fedkim.recipe.site_tables import sites_in_a_round
from fedkim.state import State
from fedkim.tasks import TASKS, Task, has_inputs


@dataclass(frozen=True, kw_only=True)
class World:
    """A recipe's data, dealt and split, with the tasks and the first weights."""

    recipe: Recipe
    tasks: Mapping[str, Task]
    """Seen and unseen tasks by name."""
    data: Dataset
    sites: Mapping[str, Dataset]
    """Who extracts, with what: hospitals and their shards, or the one stand-in of a reference run."""
    declared: Mapping[str, Mapping[str, int]]
    """Examples behind each component, by site: what a site registers at the start, and may claim at most."""
    public: Dataset
    shapes: Mapping[str, tuple[int, ...]]
    algorithm: Algorithm
    initial: State

    @property
    def owned(self) -> dict[str, tuple[str, ...]]:
        """Components by site."""
        return {site: tuple(counts) for site, counts in self.declared.items()}

    @property
    def quorum(self) -> int:
        """Accepted updates that a round needs: the recipe's number, but no more than there are sites in a round."""
        federation = self.recipe.federation
        return min(federation.quorum, sites_in_a_round(federation.participation, len(self.declared)))

    @property
    def seen(self) -> tuple[Task, ...]:
        """The tasks trained on."""
        return tuple(self.tasks[name] for name in self.recipe.tasks.seen)

    @property
    def unseen(self) -> tuple[Task, ...]:
        """The tasks asked only at the end."""
        return tuple(self.tasks[name] for name in self.recipe.tasks.unseen)

    def extractor(self, state: State) -> Extractor:
        """The small models with the weights of ``state``."""
        recipe = self.recipe
        return Extractor(tasks=self.seen, shapes=self.shapes, settings=recipe.extraction, seed=recipe.run.seed).load(
            state
        )


def resolve_tasks(recipe: Recipe) -> dict[str, Task]:
    """The recipe's tasks by name.

    Raises:
        FedkimError: an unknown task, or a free-text task among the seen ones.
    """
    for name in (*recipe.tasks.seen, *recipe.tasks.unseen):
        if name not in TASKS:
            raise unknown("task", name, TASKS)
    for name in recipe.tasks.seen:
        if TASKS[name].answers is None:
            raise FedkimError(
                f"[tasks] seen: {name!r}", found="a free-text task", expected="tasks with a closed set of answers"
            )
    return {name: TASKS[name] for name in (*recipe.tasks.seen, *recipe.tasks.unseen)}


def check_modalities(recipe: Recipe) -> None:
    """Refuse settings of the extraction for modalities that don't exist: they would be ignored.

    Raises:
        FedkimError: names the nearest.
    """
    known = [name for name, modality in MODALITIES.items() if modality.encoders]
    for key in ("encoders", "tokens"):
        for name in getattr(recipe.extraction, key):
            if name not in known:
                raise unknown(f"modality in [extraction] {key}:", name, known)


def load_data(recipe: Recipe) -> Dataset:
    """The recipe's data, split.

    Raises:
        FedkimError: an unknown source, a patient in two splits, and whatever the source raises.
    """
    import_plugins(recipe.run.plugins)
    if recipe.data.source not in SOURCES:
        raise unknown("data source", recipe.data.source, SOURCES)
    data = SOURCES[recipe.data.source](recipe)
    if not isinstance(data, Dataset):  # a plug-in's may be anything
        found, expected = type(data).__name__, "a fedkim.data.sample.Dataset"
        raise FedkimError(f"data source {recipe.data.source!r}", found=found, expected=expected)
    for sample in data:
        for modality, tensor in sample.inputs.items():
            if tensor.dtype != torch.float32:
                found = str(tensor.dtype).removeprefix("torch.")
                raise FedkimError(f"inputs of {modality!r}", found=found, expected="float32")
    if (recipe.data.source, recipe.data.split) != ("public", "paper"):  # by row, as it says with how much leaks
        check_disjoint(data)
    return data


def build_world(recipe: Recipe, *, declared: Mapping[str, Mapping[str, int]] | None = None) -> World:
    """Load, split, deal and check.

    Args:
        recipe: all of it.
        declared: components and examples of sites elsewhere; None: the recipe's private patients are dealt to sites here.

    Raises:
        FedkimError: whatever the recipe names that isn't there, a seen task that no site can learn, an unseen task
            with an input whose encoder no site trains.
    """
    import_plugins(recipe.run.plugins)
    tasks = resolve_tasks(recipe)
    check_modalities(recipe)
    algorithm = make_algorithm(recipe.federation)
    data = load_data(recipe)
    sites = _trainers(recipe, data) if declared is None else {}
    seen = [tasks[name] for name in recipe.tasks.seen]
    for site in sites:
        if not SITE_NAME.fullmatch(site):
            raise FedkimError(
                f"site {site!r}",
                expected="a name of letters, digits, '_', '-' and '.' (at most 64, beginning with a letter)",
            )
    if declared is None:
        declared = {site: owned_components(shard, seen) for site, shard in sites.items()}
    for site, counts in declared.items():
        if not counts:
            raise FedkimError(
                f"site {site!r}",
                found="no usable row",
                expected=f"a label and an input for one of: {', '.join(recipe.tasks.seen)}",
                remedy="change the partition or the number of sites",
            )
    held = {name for counts in declared.values() for name in counts}
    for task in seen:
        missing = [m for m in task.inputs if f"encoder.{m}" not in held]
        if missing or f"decoder.{task.name}" not in held:
            raise FedkimError(
                f"task {task.name!r}",
                found=f"no site with {', '.join(missing) or 'a label of it'}",
                expected="at least one",
                remedy="take the task from tasks.seen or change the partition",
            )
    for task in (tasks[name] for name in recipe.tasks.unseen):
        missing = [m for m in task.inputs if f"encoder.{m}" not in held]
        if missing:
            raise FedkimError(
                f"unseen task {task.name!r}",
                found=f"no site that learns {', '.join(missing)}",
                expected="a seen task with the same inputs",
                remedy="take the task from tasks.unseen or add a seen task",
            )
    in_a_round = sites_in_a_round(recipe.federation.participation, len(declared))
    check_owners(algorithm, declared, a_round=in_a_round)
    shapes = {name: shape for name, shape in data.shapes().items() if f"encoder.{name}" in held}
    initial = Extractor(tasks=seen, shapes=shapes, settings=recipe.extraction, seed=recipe.run.seed).state()
    return World(
        recipe=recipe,
        tasks=tasks,
        data=data,
        sites=sites,
        declared=declared,
        public=data.split("public"),
        shapes=shapes,
        algorithm=algorithm,
        initial=initial,
    )


def _trainers(recipe: Recipe, data: Dataset) -> dict[str, Dataset]:
    """Who extracts: the sites with their shards, or one stand-in for a reference row."""
    federation = recipe.federation
    if federation.trainers == "public":
        return {"public": data.split("public")}
    if federation.trainers == "centralised" and not federation.shifts:
        return {"centralised": data.split("private")}
    shards = partition(
        data,
        kind=federation.partition,
        num_sites=federation.sites,
        alpha=federation.dirichlet_alpha,
        missing=federation.missing,
        table=_table(recipe, data) if federation.partition == "table" else None,
        classes_per_site=federation.classes_per_site,
        shards_per_site=federation.shards_per_site,
        seed=recipe.run.seed,
    )
    check_shifts(federation.shifts, shards)
    shards = {
        site: shifted(shard, federation.shifts.get(site, ()), site=site, seed=recipe.run.seed)
        for site, shard in shards.items()
    }
    if federation.trainers == "centralised":
        samples = (sample for shard in shards.values() for sample in shard)
        return {"centralised": Dataset(samples, name=data.name, synthetic=data.synthetic)}
    if federation.trainers != "local":
        return shards
    if federation.local_site > len(shards):
        raise FedkimError(
            "[federation] local_site", found=str(federation.local_site), expected=f"at most {len(shards)} sites here"
        )
    alone = list(shards)[federation.local_site - 1]
    return {alone: shards[alone]}


def _table(recipe: Recipe, data: Dataset) -> dict[str, str]:
    """Site by patient, from the recipe's lists of the shards (parts of natural sites) that each site holds."""
    private = data.split("private")
    known = {_shard(sample) for sample in private}
    holder: dict[str, str] = {}
    for site, shards in recipe.federation.table_of_sites.items():
        for shard in shards:
            if shard not in known:
                raise unknown(f"shard of {site!r} in [federation] table_of_sites:", shard, known)
            if shard in holder:
                raise FedkimError(f"shard {shard!r}", found=f"at {holder[shard]} and {site}", expected="one site")
            holder[shard] = site
    left = sorted(known - set(holder))
    if left:
        raise FedkimError(
            f"shard {left[0]!r}", found="no site that holds it", remedy="give it to one in [federation] table_of_sites"
        )
    sites: dict[str, str] = {}
    for sample in private:
        site = holder[_shard(sample)]
        if sites.setdefault(sample.patient, site) != site:  # nobody's name in the message
            raise FedkimError(
                f"shard {_shard(sample)!r} of {site}",
                found=f"a patient of whom {sites[sample.patient]} has another shard",
                expected="every patient at one site",
                remedy="give both shards to one site in [federation] table_of_sites",
            )
    return sites


def _shard(sample: Sample) -> str:
    return sample.strata.get("shard", sample.site)


def can_be_asked(sample: Sample, task: Task) -> bool:
    """Whether a sample has an answer for the task and every input it needs."""
    return task.name in sample.labels and has_inputs(task, sample.inputs)


def samples_asked(data: Dataset, task: Task, split: str, *, samples: int = 0, patients: int = 0) -> list[Sample]:
    """A task's samples in a split; at most so many, or those of at most so many patients, evenly spread over the split's order."""
    found = [sample for sample in data if sample.split == split and can_be_asked(sample, task)]
    if patients:
        names = list(dict.fromkeys(sample.patient for sample in found))
        kept = {names[index] for index in _spread(len(names), patients)}
        found = [sample for sample in found if sample.patient in kept]
    return [found[index] for index in _spread(len(found), samples)] if samples else found


def _spread(count: int, at_most: int) -> list[int]:
    return [index * count // at_most for index in range(at_most)] if at_most < count else list(range(count))
