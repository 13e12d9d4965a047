"""M3OEModel: LoRA-M3OE as a PEFT tuner, ``get_peft_model(llm, M3OEConfig(...))``.

    model = get_peft_model(llm, M3OEConfig(task_type="CAUSAL_LM"))
    weights = model.route_weights(task_embeddings, modality_embeddings)      # α, [1, P], differentiable
    with model.using(weights):                                               # until backward has finished
        model(**batch, labels=labels).loss.backward()

PEFT gives saving, loading, several adapters, quantised bases and device maps. What it does only for its own layers
(train flags, devices, adapter names in files) is done here for the router, which belongs to the model as a whole.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, NoReturn, cast

import torch
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import register_peft_method
from peft.utils.integrations import init_empty_weights
from torch import Tensor, nn

from fedkim.errors import FedkimError
from fedkim.m3oe.config import M3OEConfig
from fedkim.m3oe.descriptions import DescriptionReader
from fedkim.m3oe.layer import M3OELayer, M3OELinear
from fedkim.m3oe.routed import RoutedModel
from fedkim.m3oe.router import TaskModalityRouter
from fedkim.m3oe.routing import RouteChannel
from fedkim.m3oe.targets import TARGETS


class M3OEModel(RoutedModel, BaseTuner):
    """The tuner around a language model; PEFT makes it, users meet its methods on the ``PeftModel``."""

    prefix = "m3oe_"
    tuner_layer_cls = M3OELayer
    target_module_mapping: ClassVar[dict[str, list[str]]] = {family: list(names) for family, names in TARGETS.items()}
    uses_shared_state = True

    # --- building -----------------------------------------------------------------------------------------------

    def _pre_injection_hook(self, model: nn.Module, config: M3OEConfig, adapter_name: str) -> None:
        self.m3oe_router = nn.ModuleDict()
        self.routes = RouteChannel()
        self.descriptions = DescriptionReader()
        # in a list, so that it isn't registered a second time as a child
        self._checkpointed = [m for m in model.modules() if hasattr(m, "gradient_checkpointing")][:1]

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
        with torch.random.fork_rng(devices=[]):  # a stream of its own: experts begin the same with a router and without
            torch.default_generator.manual_seed(int(torch.randint(2**63 - 1, ())))
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
        head = cast(Any, self.model).get_output_embeddings()
        return head.get_base_layer() if isinstance(head, M3OELayer) else head

    # --- refusals -----------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The language model's own forward pass, under the route that is set."""
        if self.training and torch.is_grad_enabled():
            self._refuse_reentrant()
        return self.model(*args, **kwargs)

    def _refuse_reentrant(self) -> None:
        """Each reentrantly checkpointed block would run backward through the router's graph, which serves them all."""
        for module in self._checkpointed:
            settings = getattr(getattr(module, "_gradient_checkpointing_func", None), "keywords", {})
            if module.gradient_checkpointing and settings.get("use_reentrant"):
                raise FedkimError(
                    "reentrant gradient checkpointing can't share one route between blocks",
                    remedy="enable it with {'use_reentrant': False}, which is transformers' default",
                )

    @property
    def mergeable(self) -> bool:
        """Whether a route can be folded into the weights: no adapter sits on a head that is the input embedding too."""
        return not self._get_tied_target_modules(self.model)

    def _check_merge_allowed(self) -> None:
        tied = self._get_tied_target_modules(self.model)
        if tied:
            raise FedkimError(
                f"{', '.join(tied)} shares its weight with the other embedding, merging would change both",
                remedy="load the language model with tie_word_embeddings=False and a copy of that weight",
            )

    def add_weighted_adapter(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: a weighted sum of adapters has no single route."""
        raise FedkimError(
            "M3OE adapters can't be added up, each is routed by its own router",
            remedy="export one route of each with export_lora and add those LoRAs",
        )


register_peft_method(name="m3oe", config_cls=M3OEConfig, model_cls=M3OEModel, prefix="m3oe_")
