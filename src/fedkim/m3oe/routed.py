"""How a routed model is used: computing α, setting it, merging it, exporting it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from fedkim.errors import FedkimError
from fedkim.m3oe import export
from fedkim.m3oe.config import M3OEConfig
from fedkim.m3oe.descriptions import Description, DescriptionReader, Modalities
from fedkim.m3oe.layer import M3OELinear
from fedkim.m3oe.router import Descriptions, TaskModalityRouter, pad_descriptions
from fedkim.m3oe.routing import Active, Gate, RouteChannel

if TYPE_CHECKING:
    from fedkim.m3oe.tuner import M3OEModel

Weights = Tensor | Sequence[float] | Mapping[str, Tensor]
"""α for the active adapter, [P], [1, P] or [B, P]; or a mapping from adapter names to such."""


class RoutedModel:
    """The users' side of :class:`~fedkim.m3oe.tuner.M3OEModel`; every method is reachable from the ``PeftModel``."""

    if TYPE_CHECKING:
        model: nn.Module
        peft_config: dict[str, M3OEConfig]
        active_adapters: list[str]
    m3oe_router: nn.ModuleDict
    routes: RouteChannel
    descriptions: DescriptionReader

    # --- computing and setting routes ---------------------------------------------------------------------------

    def route_weights(
        self,
        task_embeddings: Descriptions,
        modality_embeddings: Descriptions | None = None,
        task_mask: Tensor | None = None,
        modality_mask: Tensor | None = None,
        adapter: str | None = None,
    ) -> Tensor:
        """α [G, P], float32, differentiable with respect to the router.

        Descriptions are frozen embeddings [L, E], a padded batch [G, L, E] with a mask [G, L] (True: real token), or
        a list of [L, E]; modalities None, or None in the list: no modality. Compute it once per step for the distinct
        (task, modalities) of the batch and index it per sample: ``weights[which]``.
        """
        name = self._adapter(adapter)
        config: M3OEConfig = self.peft_config[name]
        router = self._router(name)
        if router is None:
            groups = 1 if isinstance(task_embeddings, Tensor) and task_embeddings.dim() == 2 else len(task_embeddings)
            return torch.full((groups, config.num_experts), 1 / config.num_experts)
        width = router.query.in_features
        task, task_mask = pad_descriptions(task_embeddings, width, task_mask)
        if modality_embeddings is None:
            modality_embeddings, modality_mask = [None] * len(task), None
        modality, modality_mask = pad_descriptions(modality_embeddings, width, modality_mask)
        if len(modality) != len(task):
            raise FedkimError(
                "descriptions of modalities", found=f"{len(modality)} of them", expected=f"{len(task)}, one per task"
            )
        device = router.query.weight.device
        return router(task.to(device), modality.to(device), task_mask.to(device), modality_mask.to(device))

    def spread_routes(
        self,
        task_embeddings: Sequence[Tensor],
        modality_embeddings: Sequence[Tensor | None],
        *,
        deviation: float,
        adapter: str | None = None,
    ) -> None:
        """Before training: let these descriptions start on different experts (:meth:`TaskModalityRouter.spread`).

        Raises:
            FedkimError: the adapter has no router, or fewer than two descriptions.
        """
        name = self._adapter(adapter)
        router = self._router(name)
        if router is None:
            raise FedkimError(f"adapter {name!r}", found="no router", expected="an attention router to spread")
        if len(task_embeddings) < 2:
            raise FedkimError(
                "descriptions to spread", found=str(len(task_embeddings)), expected="those of two tasks or more"
            )
        task, task_mask = pad_descriptions(task_embeddings, router.query.in_features)
        modality, modality_mask = pad_descriptions(modality_embeddings, router.query.in_features)
        device = router.query.weight.device
        router.spread(
            task.to(device),
            modality.to(device),
            task_mask.to(device),
            modality_mask.to(device),
            deviation=deviation,
        )

    def router_digest(self, adapter: str | None = None) -> str:
        """Short name of the router's weights, under which α may be cached; empty for an adapter without a router."""
        router = self._router(self._adapter(adapter))
        return "" if router is None else router.digest()

    def _router(self, adapter: str) -> TaskModalityRouter | None:
        return cast(TaskModalityRouter, self.m3oe_router[adapter]) if adapter in self.m3oe_router else None

    def route(
        self,
        task: Description | Sequence[Description],
        modalities: Modalities | Sequence[Modalities] = None,
        *,
        tokenizer: Any = None,
        adapter: str | None = None,
    ) -> Tensor:
        """α from descriptions as texts or embeddings: [1, P], or [G, P] for a list of tasks, differentiable.

        ``modalities`` of one task is a text, embeddings [L, E], several texts read one after another, or None; for
        a list of tasks it is a list of such, one per task. The tokenizer is the language model's own unless given.
        """
        several = not isinstance(task, str | Tensor)
        tasks = list(task) if several else [task]
        sets = list(modalities or [None] * len(tasks)) if several else [modalities]
        embed = self.descriptions.embed
        return self.route_weights(
            [embed(self.model, cast(Description, one), tokenizer) for one in tasks],
            [embed(self.model, cast(Modalities, one), tokenizer) for one in sets],
            adapter=adapter,
        )

    def set_route(
        self,
        task: Description | Sequence[Description],
        modalities: Modalities | Sequence[Modalities] = None,
        *,
        tokenizer: Any = None,
        adapter: str | None = None,
    ) -> Tensor:
        """Route everything that follows, ``generate`` included, by these descriptions; returns α, without gradient.

        To train the router, take :meth:`route` afresh at each step and hold it with :meth:`using`.
        """
        with torch.no_grad():
            weights = self.route(task, modalities, tokenizer=tokenizer, adapter=adapter)
        self.set_route_weights(weights, adapter=adapter)
        return weights

    def set_route_weights(self, weights: Weights, *, adapter: str | None = None) -> None:
        """Route every forward pass of this thread by α until another route is set or :meth:`clear_route` is called."""
        self._refuse_merged()
        self.routes.set(self._active(weights, adapter, None))

    def clear_route(self) -> None:
        """Forget this thread's route."""
        self.routes.set(None)

    @contextmanager
    def using(
        self, weights: Weights, *, adapter: str | None = None, generator: torch.Generator | None = None
    ) -> Iterator[None]:
        """Route by α inside the block, backward pass included; the former route comes back afterwards.

        With a ``generator`` the dropout masks of the block are a function of it alone, whatever other threads do:
        one number is drawn from it now, so the block stands for one forward and backward pass.
        """
        self._refuse_merged()
        with self.routes.using(self._active(weights, adapter, generator)):
            yield

    def _active(self, weights: Weights, adapter: str | None, generator: torch.Generator | None) -> Active:
        own = self.routes.own()
        gates = {} if own is None else dict(own.gates)
        gates.update(self._gates(weights, adapter))
        seed = None
        if generator is not None:
            seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        return Active(gates, seed)

    def _gates(self, weights: Weights, adapter: str | None) -> dict[str, Gate]:
        named = weights if isinstance(weights, Mapping) else {self._adapter(adapter): weights}
        return {name: self._gate(value, self.peft_config[self._adapter(name)]) for name, value in named.items()}

    def _gate(self, weights: Tensor | Sequence[float], config: M3OEConfig) -> Gate:
        rows = weights if isinstance(weights, Tensor) else torch.tensor(weights)
        rows = rows.unsqueeze(0) if rows.dim() == 1 else rows
        if rows.dim() != 2 or rows.shape[-1] != config.num_experts or not rows.is_floating_point() or not len(rows):
            raise FedkimError(
                "route weights",
                found=f"{rows.dtype} of shape {list(rows.shape)}",
                expected=f"floats of shape [{config.num_experts}] or [batch, {config.num_experts}]",
            )
        # a router in training shows it in its loss, and no step waits here for a GPU to look
        if not rows.requires_grad and rows.device.type != "meta" and not bool(rows.isfinite().all()):
            raise FedkimError("route weights", found="NaN or infinity", expected="finite numbers")
        first = next((p for p in self.model.parameters() if p.is_floating_point()), None)
        device, dtype = (rows.device, torch.float32) if first is None else (first.device, first.dtype)
        return Gate(
            rows.to(device) if device.type != "meta" else rows, rank=config.r, scaling=config.scaling, dtype=dtype
        )

    def _adapter(self, adapter: str | None) -> str:
        if adapter is not None:
            if adapter not in self.peft_config:
                raise FedkimError(
                    f"unknown adapter {adapter!r}", remedy=f"choose one of: {', '.join(self.peft_config)}"
                )
            return adapter
        if len(self.active_adapters) != 1:
            raise FedkimError(
                "which adapter the route is for",
                found=f"active adapters {self.active_adapters}",
                remedy="name one, or give a mapping",
            )
        return self.active_adapters[0]

    # --- merging ------------------------------------------------------------------------------------------------

    def layers(self) -> Iterator[tuple[str, M3OELinear]]:
        """(name inside the language model, layer) of each adapted layer."""
        for name, module in self.model.named_modules():
            if isinstance(module, M3OELinear):
                yield name, module

    def merge_route(self, weights: Weights | None = None, *, adapter: str | None = None) -> None:
        """Fold one route into the frozen weights: the model then runs at the base model's speed, in all threads.

        Without ``weights`` the adapter must need none (one expert, or the uniform mixture).

        Raises:
            FedkimError: an active adapter without a route, or a route for one that isn't active.
        """
        self._refuse_merged()
        cast("M3OEModel", self)._check_merge_allowed()
        given = {} if weights is None else self._gates(weights, adapter)
        gates = self._gates_of_active({**self.routes.fixed, **given}, given)
        try:
            for _, layer in self.layers():
                layer.fold(gates)
        except Exception:
            self.unmerge_route()
            raise

    def _gates_of_active(self, known: Mapping[str, Gate], given: Iterable[str]) -> dict[str, Gate]:
        """The gate of each active adapter; what isn't active has no say in a forward pass, and none in the merged weights."""
        for name in given:
            if name not in self.active_adapters:
                remedy = f"set_adapter({name!r}) first"
                raise FedkimError(f"a route for the adapter {name!r}", found="one that isn't active", remedy=remedy)
        for name in self.active_adapters:
            if name not in known:
                raise FedkimError(f"no route for the active adapter {name!r}", remedy="give a route for each one")
        return {name: known[name] for name in self.active_adapters}

    def unmerge_route(self) -> None:
        """Restore the original weights, bit for bit."""
        for _, layer in self.layers():
            layer.unmerge()

    @contextmanager
    def merged(self, weights: Weights | None = None, *, adapter: str | None = None) -> Iterator[None]:
        """:meth:`merge_route` for the length of a block; needs room for a second copy of the adapted weights."""
        self.merge_route(weights, adapter=adapter)
        try:
            yield
        finally:
            self.unmerge_route()

    def _refuse_merged(self) -> None:
        first = next(self.layers(), None)
        if first is not None and first[1].merged:
            raise FedkimError("a route is merged into the weights, another can't be set", remedy="unmerge it first")

    def export_lora(
        self,
        path: str | Path,
        weights: Weights | None = None,
        *,
        adapter: str | None = None,
        dtype: torch.dtype | None = None,
        base_model: str | None = None,
    ) -> Path:
        """Write one route as a stock PEFT LoRA folder that ``PeftModel.from_pretrained`` opens without fedkim.

        ``base_model`` names the language model in its configuration; by default the folder it was loaded from.
        """
        name = self._adapter(adapter)
        gate = self._one_gate(weights, name)
        return export.export_lora(cast("M3OEModel", self), path, name, gate, dtype, base_model)

    def export_dense(self, path: str | Path) -> Path:
        """Write the language model with the merged route, inside ``with model.merged(weights):``."""
        return export.export_dense(cast("M3OEModel", self), path)

    def _one_gate(self, weights: Weights | None, adapter: str) -> Gate:
        if weights is None:
            return self.routes.gate(self.routes.current(), adapter)
        return self._gates(weights, adapter)[adapter]
