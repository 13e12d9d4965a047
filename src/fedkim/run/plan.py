"""The plan: what a recipe will cost in parameters, memory and bytes, worked out without weights or data."""

from dataclasses import dataclass

import torch
from torch import nn

from fedkim.aggregation import check_owners, make_algorithm
from fedkim.data.registry import SOURCES
from fedkim.data.shifts import check_shifts
from fedkim.errors import FedkimError, unknown
from fedkim.extraction import Extractor
from fedkim.injection.alignment import Alignment
from fedkim.injection.loading import choose_device, choose_dtype, empty_model
from fedkim.m3oe.router import TaskModalityRouter
from fedkim.m3oe.targets import is_target, resolve_targets
from fedkim.modalities import modalities_of
from fedkim.modalities.series import CONCEPTS
from fedkim.recipe import Recipe, import_plugins
from fedkim.recipe.site_tables import sites_in_a_round
from fedkim.run.world import check_modalities, resolve_tasks
from fedkim.state import component

_LEADS = {"pack": 1}
"""Leads of a source's signals where they aren't the usual twelve."""

_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Parameters by part, and what follows from them."""

    method: str
    llm: str
    dtype: str
    parameters: dict[str, int]
    """LLM, adapter, router, alignment, and each encoder and decoder."""
    rounds: int
    sites: int | None
    """None: as many as the data name."""
    train_encoders: bool = True
    """Whether the server trains the encoders too."""
    unknown: tuple[str, ...] = ()
    """Encoders and decoders of which only the data say how large they are: those of a plug-in's modality."""

    @property
    def bytes_per_site_and_round(self) -> int:
        """float32 weights sent by a site that holds every component; it receives as many."""
        return 4 * sum(n for name, n in self.parameters.items() if name.startswith(("encoder.", "decoder.")))

    @property
    def server_memory_bytes(self) -> int:
        """Weights, and for what is trained the gradient and Adam's two moments in float32; activations come on top."""
        llm = self.parameters["LLM"] * (2 if self.dtype == "bfloat16" else 4)
        encoders = sum(n for name, n in self.parameters.items() if name.startswith("encoder."))
        others = sum(n for name, n in self.parameters.items() if not name.startswith(("LLM", "decoder.", "encoder.")))
        return llm + (16 if self.train_encoders else 4) * encoders + 16 * others

    def __str__(self) -> str:
        width = max(map(len, (*self.parameters, *self.unknown)))
        least = "at least " if self.unknown else ""
        sites = "as many sites as the data name" if self.sites is None else f"{self.sites} site{'s'[: self.sites != 1]}"
        lines = [f"method {self.method}, {sites}, {self.rounds} rounds, LLM {self.llm} in {self.dtype}", ""]
        lines += [f"  {name:<{width}}  {number:>15,} parameters" for name, number in self.parameters.items()]
        lines += [f"  {name:<{width}}  {'known once data are read':>26}" for name in self.unknown]
        lines += [
            "",
            f"server memory   {least}{self.server_memory_bytes / _MIB:,.0f} MiB for weights, gradients and moments",
            f"on the wire     {least}{self.bytes_per_site_and_round / _MIB:,.1f} MiB from a site with every modality, "
            "and as many to it, a round",
        ]
        return "\n".join(lines)


def check_recipe(recipe: Recipe) -> Plan:
    """Resolve everything a recipe names and count what it will take.

    Raises:
        FedkimError: an unknown task, modality, encoder, data source, algorithm, shift or language model, too few sites for the
            algorithm, no place of the data.
    """
    import_plugins(recipe.run.plugins)
    tasks = resolve_tasks(recipe)
    if recipe.data.source not in SOURCES:
        raise unknown("data source", recipe.data.source, SOURCES)
    check_modalities(recipe)
    _check_sites(recipe)
    shapes: dict[str, tuple[int, ...]] = {
        "image": (1, recipe.data.image_size, recipe.data.image_size),
        "signal": (_LEADS.get(recipe.data.source, 12), 1000),
        **{group: (24, 2 * len(concepts)) for group, concepts in CONCEPTS.items()},
    }
    seen = [tasks[name] for name in recipe.tasks.seen]
    own = set(modalities_of(seen)) - set(shapes)  # a plug-in's: of what shape, only its data say
    unread = [task for task in seen if (inputs := set(modalities_of([task]))) and inputs <= own]
    known = [task for task in seen if task not in unread]
    extractor = Extractor(tasks=known, shapes=shapes, settings=recipe.extraction, seed=recipe.run.seed)
    small: dict[str, int] = {}
    for name, tensor in extractor.state_dict().items():
        small[component(name)] = small.get(component(name), 0) + tensor.numel()
    model = empty_model(recipe.llm.name)
    hidden = int(model.config.hidden_size)  # type: ignore[union-attr, arg-type]
    alignment = _count(Alignment(recipe.extraction.width, hidden, 1.0, seed=0, modality="any"))
    parameters = {"LLM": _count(model), **_adapter(recipe, model, hidden)}
    parameters["alignment"] = alignment * len(modalities_of(seen))
    if recipe.injection.evidence == "decoder":
        parameters["evidence"] = hidden * sum(len(task.answers or ()) for task in seen)
    device = choose_device("cpu" if recipe.run.device == "auto" else recipe.run.device)
    dtype = choose_dtype(recipe.run.dtype, device)
    return Plan(
        method=recipe.method,
        llm=recipe.llm.name,
        dtype=str(dtype).removeprefix("torch."),
        parameters=parameters | dict(sorted(small.items())),
        rounds=recipe.federation.rounds,
        sites=_sites(recipe),
        train_encoders=recipe.injection.train_encoders,
        unknown=(
            *(f"decoder.{task.name}" for task in unread),
            *(f"encoder.{name}" for name in sorted(own)),
        ),
    )


def _sites(recipe: Recipe) -> int | None:
    federation = recipe.federation
    if federation.trainers != "sites":
        return 1
    return None if federation.partition == "natural" else federation.sites


def _check_sites(recipe: Recipe) -> None:
    """Refuse what a run would refuse of the federation and its data whatever these hold."""
    for source, key in (("hospital", "root"), ("public", "roots")):
        if recipe.data.source == source and not getattr(recipe.data, key):
            remedy = f"say where the data lie, data.{key}"
            raise FedkimError(f"[data] {key}", found=f"nothing for source {source!r}", remedy=remedy)
    federation, algorithm = recipe.federation, make_algorithm(recipe.federation)
    names = [f"site-{number}" for number in range(1, federation.sites + 1)]
    if federation.partition == "table":
        names = list(federation.table_of_sites)
    natural = federation.partition == "natural"  # how many sites there are, and their names, only the data know
    if federation.trainers != "public":
        check_shifts(federation.shifts, federation.shifts if natural else names)
    if federation.trainers != "sites" or not natural:
        number = len(names) if federation.trainers == "sites" else 1
        check_owners(algorithm, {}, a_round=sites_in_a_round(federation.participation, number))


def _adapter(recipe: Recipe, model: nn.Module, hidden: int) -> dict[str, int]:
    settings = recipe.m3oe
    if not settings.experts:
        return {}
    names = set(resolve_targets(model, settings.targets))
    rank = settings.experts * settings.rank
    sizes = [
        rank * (module.in_features + module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and is_target(name, names)
    ]
    if not sizes:
        raise FedkimError(
            "[m3oe] targets", found=", ".join(sorted(names)), expected="names of the model's linear layers"
        )
    parts = {"adapter": sum(sizes)}
    if settings.experts > 1 and settings.router == "attention":
        with torch.device("meta"):
            router = TaskModalityRouter(hidden, settings.experts, dim=settings.router_width or hidden)
        parts["router"] = _count(router)
    return parts


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
