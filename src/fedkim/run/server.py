"""The server's side of a run: the injector and its trainer, made from a recipe."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedkim.errors import FedkimError
from fedkim.extraction import Extractor
from fedkim.injection import InjectionTrainer, Injector, LanguageModel, load_llm
from fedkim.injection.evidence import Evidence
from fedkim.injection.guidance import Guide
from fedkim.injection.lessons import Teacher
from fedkim.modalities import MODALITIES
from fedkim.recipe import Recipe
from fedkim.run.world import World
from fedkim.state import State
from fedkim.tasks import Task


def set_threads(recipe: Recipe) -> None:
    """One place decides how many threads an operation takes: it decides the last bits."""
    torch.set_num_threads(recipe.run.threads)


def workers_of(recipe: Recipe, device: torch.device) -> int:
    """How many batches the language model takes side by side: a GPU one, whose stream is busy by itself and whose generators are no
    thread's own.
    """
    return recipe.run.workers if device.type == "cpu" else 1


def load_language_model(recipe: Recipe) -> LanguageModel:
    """The recipe's frozen LLM."""
    return load_llm(
        recipe.llm.name,
        device=recipe.run.device,
        dtype=recipe.run.dtype,
        allow_download=recipe.llm.allow_download,
    )


def make_injector(world: World, llm: LanguageModel, *, blind: bool = False) -> Injector:
    """The injector with its first weights; the encoders' come with each round's state."""
    return new_injector(world.recipe, llm, tasks=world.tasks, shapes=world.shapes, blind=blind)


def new_injector(
    recipe: Recipe,
    llm: LanguageModel,
    *,
    tasks: Mapping[str, Task],
    shapes: Mapping[str, tuple[int, ...]],
    blind: bool = False,
) -> Injector:
    """An injector for inputs of these shapes; the encoders that exist are those that the seen tasks need."""
    seen = [tasks[name] for name in recipe.tasks.seen]
    extractor = Extractor(tasks=seen, shapes=shapes, settings=recipe.extraction, seed=recipe.run.seed)
    encoders, evidence = extractor.encoder, None
    if recipe.injection.evidence == "decoder":
        decoders = {task.name: extractor.decoder[task.name] for task in seen}
        evidence = Evidence(decoders, {task.name: task for task in seen}, llm, seed=recipe.run.seed)
    injector = Injector(
        llm,
        encoders={name: encoders[name] for name in MODALITIES if name in encoders},
        tasks=tasks,
        settings=recipe.m3oe,
        width=recipe.extraction.width,
        seed=recipe.run.seed,
        blind=blind,
        evidence=evidence,
    )
    if recipe.m3oe.router_spread:
        injector.spread_routes(recipe.tasks.seen, recipe.m3oe.router_spread)
    return injector


def make_trainer(world: World, injector: Injector) -> InjectionTrainer:
    """The optimiser and schedule of the whole run.

    Raises:
        FedkimError: decoders as teachers of encoders that move away from them, and see :class:`InjectionTrainer`.
    """
    recipe = world.recipe
    if recipe.injection.teacher == "decoder" and recipe.injection.train_encoders:
        raise FedkimError(
            "[injection] teacher",
            found="'decoder' with train_encoders = true",
            expected="frozen encoders: the decoders read the features they were trained on",
            remedy="set injection.train_encoders = false",
        )
    return InjectionTrainer(
        injector,
        world.public,
        seen=recipe.tasks.seen,
        settings=recipe.injection,
        m3oe=recipe.m3oe,
        rounds=recipe.federation.rounds,
        micro_batch=recipe.llm.micro_batch,
        workers=workers_of(recipe, injector.llm.device),
        seed=recipe.run.seed,
    )


def make_teacher(world: World, state: State) -> Teacher | None:
    """The aggregated decoders as teachers, if the recipe says so: a task and its features to log-probabilities."""
    if world.recipe.injection.teacher == "none":
        return None
    extractor = world.extractor(state).eval()

    def teacher(task: str, features: Mapping[str, Tensor]) -> Tensor:
        pooled = {modality: tokens.float().cpu().mean(1) for modality, tokens in features.items()}
        some = next(iter(features.values()))
        return extractor.decide(pooled, task).log_softmax(-1).to(some.device)

    return teacher


def make_guide(world: World, state: State) -> Guide | None:
    """Where each aggregated decoder looks in the features: the mean gradient over the public inputs of each answer's margin over the first."""
    if not world.recipe.injection.guidance:
        return None
    extractor = world.extractor(state).eval()

    def guide(task: str, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        pooled = {modality: tokens.float().cpu().mean(1).requires_grad_() for modality, tokens in features.items()}
        logits = extractor.decide(pooled, task)
        by_answer = [
            torch.autograd.grad((logits[:, answer] - logits[:, 0]).sum(), list(pooled.values()), retain_graph=True)
            for answer in range(1, logits.shape[1])
        ]
        return {
            modality: torch.stack([gradients.mean(0) for gradients in parts]).to(features[modality].device)
            for modality, parts in zip(pooled, zip(*by_answer))
        }

    return guide
