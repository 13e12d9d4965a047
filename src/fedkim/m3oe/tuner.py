"""M3OEModel: LoRA-M3OE as a PEFT tuner, ``get_peft_model(llm, M3OEConfig(...))``.

    model = get_peft_model(llm, M3OEConfig(task_type="CAUSAL_LM"))
    weights = model.route_weights(task_embeddings, modality_embeddings)      # α, [1, P], differentiable
    with model.using(weights):                                               # until backward has finished
        model(**batch, labels=labels).loss.backward()

PEFT gives saving, loading, several adapters, quantised bases and device maps. What it does only for its own layers
(train flags, devices, adapter names in files) is done here for the router, which belongs to the model as a whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar, cast

import torch
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import register_peft_method
from peft.utils.integrations import init_empty_weights
from torch import Tensor, nn

from fedkim.errors import FedkimError
from fedkim.m3oe.config import TARGETS, M3OEConfig
from fedkim.m3oe.layer import M3OELayer, M3OELinear
from fedkim.m3oe.router import Descriptions, TaskModalityRouter, pad_descriptions
from fedkim.m3oe.routing import Active, Gate, RouteChannel

Weights = Tensor | Sequence[float] | Mapping[str, Tensor]
"""α for the active adapter, [P], [1, P] or [B, P]; or a mapping from adapter names to such."""


class M3OEModel(BaseTuner):
    """The tuner around a language model; PEFT makes it, users meet its methods on the ``PeftModel``."""

    prefix = "m3oe_"
    tuner_layer_cls = M3OELayer
    target_module_mapping: ClassVar[dict[str, list[str]]] = {family: list(names) for family, names in TARGETS.items()}
    uses_shared_state = True

    # --- building -----------------------------------------------------------------------------------------------

    def _pre_injection_hook(self, model: nn.Module, config: M3OEConfig, adapter_name: str) -> None:
        self.m3oe_router = nn.ModuleDict()
        self.routes = RouteChannel()
        self._embedded: dict[str, Tensor] = {}

    def inject_adapter(
        self,
        model: nn.Module,
        adapter_name: str,
        autocast_adapter_dtype: bool = True,
        low_cpu_mem_usage: bool = False,
        state_dict: dict[str, Tensor] | None = None,
    ) -> None:
        """Adapt the target layers and make the router; PEFT comes here for a second adapter and for a loaded one too."""
        config: M3OEConfig = self.peft_config[adapter_name]
        try:
            if config.has_router:
                with init_empty_weights() if low_cpu_mem_usage else nullcontext():
                    self.m3oe_router[adapter_name] = self._make_router(model, config)
                if not low_cpu_mem_usage:
                    self._move_adapter_to_device_of_base_layer(adapter_name)
            else:
                even = torch.full((1, config.num_experts), 1 / config.num_experts)
                self.routes.fixed[adapter_name] = self._gate(even, config)
            super().inject_adapter(
                model,
                adapter_name,
                autocast_adapter_dtype=autocast_adapter_dtype,
                low_cpu_mem_usage=low_cpu_mem_usage,
                state_dict=state_dict,
            )
        except Exception:
            self._forget(adapter_name)
            raise

    def _make_router(self, model: nn.Module, config: M3OEConfig) -> TaskModalityRouter:
        if config.router_embed_dim is None:
            embedding = getattr(model, "get_input_embeddings", lambda: None)
            width = getattr(embedding(), "embedding_dim", None)
            if width is None:
                raise FedkimError("the model tells no embedding width", remedy="set M3OEConfig.router_embed_dim")
            config.router_embed_dim = int(width)
        return TaskModalityRouter(
            config.router_embed_dim,
            config.num_experts,
            dim=config.router_dim,
            hidden=config.router_hidden,
            normalise=config.router_normalise,
            inputs=config.router_inputs,
        )

    def _create_and_replace(
        self,
        peft_config: M3OEConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **_: Any,
    ) -> None:
        if isinstance(target, M3OELayer):
            target.update_layer(adapter_name, peft_config)
            return
        if not isinstance(target, nn.Linear):
            raise FedkimError(
                f"layer {current_key}", found=type(target).__name__, expected="a linear layer (plain, 8-bit or 4-bit)"
            )
        layer = M3OELinear(target, adapter_name, peft_config, self.routes, current_key)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        """Nothing to do: the masters are made in float32 and stay there, whatever the base's dtype."""

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        """The router goes where the input embedding is; PEFT calls this on any module that has it, after loading."""
        if adapter_name not in self.m3oe_router:
            return
        router = self.m3oe_router[adapter_name]
        if device is None:
            device = next((p.device for p in self.model.parameters() if p.device.type != "meta"), torch.device("cpu"))
        if all(p.device.type != "meta" for p in router.parameters()):
            router.to(device=device, dtype=torch.float32)

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """Activate adapters; routers of the others are frozen."""
        super().set_adapter(adapter_name, inference_mode=inference_mode)
        names = [adapter_name] if isinstance(adapter_name, str) else adapter_name
        for name, router in self.m3oe_router.items():
            router.requires_grad_(name in names and not inference_mode)

    def set_requires_grad(self, adapter_names: str | Sequence[str], requires_grad: bool = True) -> None:
        """Train or freeze adapters, routers included."""
        super().set_requires_grad(adapter_names, requires_grad=requires_grad)
        names = [adapter_names] if isinstance(adapter_names, str) else adapter_names
        for name in names:
            if name in self.m3oe_router:
                self.m3oe_router[name].requires_grad_(requires_grad)

    def delete_adapter(self, adapter_name: str) -> None:
        """Remove an adapter with its router."""
        super().delete_adapter(adapter_name)
        self._forget(adapter_name)

    def _forget(self, adapter: str) -> None:
        if adapter in self.m3oe_router:
            del self.m3oe_router[adapter]
        self.routes.fixed.pop(adapter, None)

    # --- saving and loading -------------------------------------------------------------------------------------

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        """Also in the router's keys: loaded under another name it would silently keep its random weights otherwise."""
        named = f"m3oe_router.{adapter_name}."
        if named in key:
            return key.replace(named, "m3oe_router.", 1)
        return super()._remove_adapter_name_from_key(key, adapter_name)

    def get_output_embeddings(self) -> nn.Module | None:
        """The frozen head without its adapter, so that PEFT doesn't write the head itself into the adapter's file."""
        head = self.model.get_output_embeddings()
        return head.get_base_layer() if isinstance(head, M3OELayer) else head

    # --- routing ------------------------------------------------------------------------------------------------

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
        if name not in self.m3oe_router:
            groups = 1 if isinstance(task_embeddings, Tensor) and task_embeddings.dim() == 2 else len(task_embeddings)
            return torch.full((groups, config.num_experts), 1 / config.num_experts)
        router = cast(TaskModalityRouter, self.m3oe_router[name])
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

    def set_route_weights(
        self, weights: Weights, *, adapter: str | None = None, generator: torch.Generator | None = None
    ) -> None:
        """Route every forward pass of this thread by α until another route is set or :meth:`clear_route` is called."""
        self._refuse_merged()
        self.routes.set(self._active(weights, adapter, generator))

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
        """
        self._refuse_merged()
        gates = dict(self.routes.fixed) if weights is None else {**self.routes.fixed, **self._gates(weights, adapter)}
        try:
            for _, layer in self.layers():
                layer.fold(gates)
        except Exception:
            self.unmerge_route()
            raise

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


register_peft_method(name="m3oe", config_cls=M3OEConfig, model_cls=M3OEModel, prefix="m3oe_")
