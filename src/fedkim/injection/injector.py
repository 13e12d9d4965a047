"""The Injector: encoders, alignment and a frozen LLM with routed experts, as one model that answers questions.

Shapes: B batch, k tokens of a modality, W encoder width, H the LLM's hidden size, P experts, V vocabulary.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from fedkim.errors import FedkimError
from fedkim.injection.alignment import Alignment
from fedkim.injection.evidence import Evidence
from fedkim.injection.language_model import LanguageModel
from fedkim.injection.prompt import Tokens, embed_rows
from fedkim.m3oe import M3OEConfig, Route
from fedkim.m3oe.targets import resolve_targets
from fedkim.modalities import describe
from fedkim.randomness import seed_for
from fedkim.recipe import M3OE
from fedkim.state import State
from fedkim.tasks import Task


class Injector:
    """Every method of the paper on one axis: experts = 0 is FedPlug, 1 FedPlug_L, P FEDKIM; what the router reads gives the ablations.

    Args:
        llm: the frozen base model; its linear layers are wrapped in place.
        encoders: by modality, shared architecture with the sites.
        tasks: every task that may be asked, by name.
        settings: the recipe's ``[m3oe]`` table.
        width: encoder width W.
        seed: the run's.
        blind: leave the modality segments out, in training and answering (the reference row).
        evidence: tokens of the aggregated decoders after the modality segments, or None.
    """

    def __init__(
        self,
        llm: LanguageModel,
        *,
        encoders: Mapping[str, nn.Module],
        tasks: Mapping[str, Task],
        settings: M3OE,
        width: int,
        seed: int,
        blind: bool = False,
        evidence: Evidence | None = None,
    ):
        self.llm, self.blind = llm, blind
        self.tokens = Tokens(llm)
        self.encoders = nn.ModuleDict({} if blind else dict(encoders)).to(llm.device)
        norm = llm.embedding_norm()
        self.alignment = nn.ModuleDict(
            {
                modality: Alignment(width, llm.hidden_size, norm, seed=seed, modality=modality)
                for modality in self.encoders
            }
        ).to(llm.device)
        self.evidence = None if blind or evidence is None else evidence.to(llm.device)
        self.experts = settings.experts
        self.network: Any = llm.model
        if settings.experts:
            self.network = _adapted(llm.model, settings, seed)
        self.tasks: dict[str, Task] = {}
        self._descriptions: dict[str, tuple[Tensor, Tensor]] = {}
        for task in tasks.values():
            self.know(task)

    def know(self, task: Task) -> None:
        """Make a further task askable: its route follows from its descriptions, and nothing is learned."""
        self.tasks[task.name] = task
        self._descriptions[task.name] = (self.llm.embed(task.description), self.llm.embed(describe(task.modalities)))

    # what is learned ------------------------------------------------------------------------------------------

    def parameters(self) -> dict[str, dict[str, nn.Parameter]]:
        """Trainable parameters by group (``adapter``, ``router``, ``align``, ``evidence``, ``encoder``) and name."""
        adapter = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        groups: dict[str, dict[str, nn.Parameter]] = {
            "adapter": {name: p for name, p in adapter.items() if "m3oe_router" not in name},
            "router": {name: p for name, p in adapter.items() if "m3oe_router" in name},
            "align": dict(self.alignment.named_parameters()),
            "evidence": self.evidence.learned() if self.evidence is not None else {},
            "encoder": dict(self.encoders.named_parameters()),
        }
        return groups

    def tensors(self) -> State:
        """Everything injection learned, encoders included, as one State (``adapter.…``, ``router.…``, ``align.…``, ``encoder.…``)."""
        return State(self._named())

    def load(self, state: Mapping[str, Tensor], *, whole: bool = False) -> None:
        """Take values from a State by the names of :meth:`tensors`; names that are absent keep their value.

        Args:
            state: may hold others too.
            whole: refuse a state that lacks a name, so that no weight stays random in silence.

        Raises:
            FedkimError: a shape that differs, a name that is missing from a whole state.
        """
        own = self._named()
        missing = sorted(set(own) - set(state)) if whole else []
        if missing:
            raise FedkimError(
                "stored injector",
                found=f"{len(missing)} tensors missing, such as {missing[0]!r}",
                remedy="use the versions of fedkim and peft that wrote it",
            )
        with torch.no_grad():
            for key, tensor in state.items():
                if key not in own:
                    continue
                if own[key].shape != tensor.shape:
                    raise FedkimError(
                        f"tensor {key}", found=f"shape {tuple(tensor.shape)}", expected=f"{tuple(own[key].shape)}"
                    )
                own[key].copy_(tensor)

    def _named(self) -> dict[str, Tensor]:
        """The model's own tensors, parameters and buffers, under their names in a State."""
        constants = self.evidence.constants() if self.evidence is not None else {}
        return (
            {f"{group}.{name}": p for group, named in self.parameters().items() for name, p in named.items()}
            | {f"encoder.{name}": buffer for name, buffer in self.encoders.named_buffers()}
            | {f"align.{name}": buffer for name, buffer in self.alignment.named_buffers()}
            | {f"evidence.{name}": tensor for name, tensor in constants.items()}
        )

    # routing --------------------------------------------------------------------------------------------------

    def route_weights(self, task: str, modalities: tuple[str, ...] | None = None) -> Tensor:
        """α of a task on its modalities (or on other ones), ``[P]``, differentiable in the router."""
        description, modality = self._descriptions[task]
        if modalities is not None:
            modality = self.llm.embed(describe(modalities))
        return self.network.base_model.route_weights(description[None], modality[None])[0]

    def spread_routes(self, tasks: Sequence[str], deviation: float) -> None:
        """Let these tasks start on different experts (:meth:`TaskModalityRouter.spread`)."""
        rows = [self._descriptions[task] for task in tasks]
        self.network.base_model.spread_routes([row[0] for row in rows], [row[1] for row in rows], deviation=deviation)

    def route(self, task: str, modalities: tuple[str, ...] | None = None) -> Route:
        """The task's route as numbers, on its modalities or on other ones; empty weights without experts."""
        weights: tuple[float, ...] = ()
        router = ""
        if self.experts:
            with torch.no_grad():
                weights = tuple(float(w) for w in self.route_weights(task, modalities))
            router = self.network.base_model.router_digest()
        told = self.tasks[task].modalities if modalities is None else modalities
        return Route(task=task, modalities=told, weights=weights, router=router)

    def using(
        self, tasks: str | Sequence[str], generator: torch.Generator | None = None
    ) -> AbstractContextManager[Any]:
        """Route every layer inside the block, in this thread; ``generator`` draws the dropout.

        Args:
            tasks: one for the whole batch, or that of each row.
            generator: of the dropout masks; None: torch's own.
        """
        if not self.experts:
            return nullcontext()
        distinct = [tasks] if isinstance(tasks, str) else list(dict.fromkeys(tasks))
        weights = torch.stack([self.route_weights(task) for task in distinct])
        if len(distinct) > 1:
            weights = weights[[distinct.index(task) for task in tasks]]
        return self.network.base_model.using(weights, generator=generator)

    @contextmanager
    def answering(self, task: str) -> Iterator[None]:
        """Evaluation mode for one task: its route folded into the frozen weights, so answers cost what the base model costs.

        Where the head carries experts and is the input embedding too, nothing can be folded and the layers are routed.
        """
        training = self.network.training
        self.network.eval()
        self.encoders.eval()
        try:
            if self.experts:
                with torch.no_grad():
                    weights = self.route_weights(task)
                tuner = self.network.base_model
                with tuner.merged(weights) if tuner.mergeable else tuner.using(weights), torch.no_grad():
                    yield
            else:
                with torch.no_grad():
                    yield
        finally:
            self.network.train(training)
            self.encoders.train(training)

    @contextmanager
    def as_base(self) -> Iterator[None]:
        """Inside the block the base model answers: no experts and no modality segments, as before any injection."""
        kept = self.blind, self.experts
        self.blind, self.experts = True, 0
        try:
            with self.network.disable_adapter() if kept[1] else nullcontext():
                yield
        finally:
            self.blind, self.experts = kept

    # the forward ----------------------------------------------------------------------------------------------

    def encode(self, task: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Features ``[B, k, W]`` of the task's modalities in prompt order; nothing when blind."""
        if self.blind:
            return {}
        return {
            modality: self.encoders[modality](inputs[modality].to(self.llm.device, non_blocking=True))
            for modality in self.tasks[task].modalities
            if modality in self.encoders
        }

    def align(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        """Segments ``[B, k + 2, H]`` per modality, then that of the evidence if there is any."""
        segments: list[Tensor] = [self.alignment[modality](tokens) for modality, tokens in features.items()]
        heard = self.evidence(features) if self.evidence is not None and features else None
        return segments if heard is None else [*segments, heard]

    def logits(self, segments: Sequence[Tensor], tails: Sequence[Sequence[int]], *, keep: int, drop: int = 0) -> Tensor:
        """Next-token logits ``[B, keep, V]`` (float32) at the last ``keep`` positions of each row, the very last ``drop`` left out.

        The head of a large vocabulary costs as much as several layers, so only the positions that are read are computed.
        """
        batch = embed_rows(self.llm, segments, tails)
        end = batch.embeddings.shape[1] - drop
        output = self.network(
            inputs_embeds=batch.embeddings,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            # as an index: a slice would leave the rows apart in memory, and the head would run once per row
            logits_to_keep=torch.arange(end - keep, end, device=batch.embeddings.device),
            use_cache=False,
        )
        return output.logits.float()


def _adapted(model: nn.Module, settings: M3OE, seed: int) -> Any:
    """The model with its experts; PEFT draws their first weights from torch's global generator, so that is seeded for the time."""
    from peft import get_peft_model

    config = M3OEConfig(
        r=settings.rank,
        num_experts=settings.experts,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.dropout,
        gate_scale=settings.gate_scale,
        target_modules=resolve_targets(model, settings.targets),
        router=settings.router,
        router_inputs=settings.router_inputs,
        router_dim=settings.router_width or int(model.config.hidden_size),  # type: ignore[union-attr, arg-type]
        router_normalise=settings.router_normalise,
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)  # inside PEFT
        torch.manual_seed(seed_for(seed, "experts"))
        return get_peft_model(model, config)
