"""One adapted linear layer: P LoRA experts, stored side by side and mixed in rank space.

# B batch, T tokens, P experts, r rank

    y = W x + ((x Aᵀ) ∘ g) Bᵀ        A [P·r, in], B [out, P·r], g = repeat(α, r) · s

Two matrix products and one small multiplication: the time of a single LoRA of rank P·r, and the same function as
``W x + Σ_p α_p · s · B_p A_p x`` (FEDKIM, arXiv 2408.10276), which as printed keeps P outputs [B, T, out] alive.
"""

import math
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, _get_in_out_features
from torch import Tensor, nn

from fedkim.errors import FedkimError
from fedkim.m3oe.config import M3OEConfig
from fedkim.m3oe.linear import linear
from fedkim.m3oe.routing import Gate, RouteChannel


class M3OELayer(BaseTunerLayer):
    """What PEFT needs to know about the layer: where its weights are, and how to move, merge and restore them."""

    adapter_layer_names = ("m3oe_A", "m3oe_B")
    other_param_names = ("r", "num_experts", "scaling", "m3oe_dropout")

    base_layer: nn.Module
    if TYPE_CHECKING:
        active_adapters: list[str]

    def __init__(self, base_layer: nn.Module, routes: RouteChannel, key: str):
        self.base_layer = base_layer
        self.routes = routes
        self.key = key
        self.seed = zlib.crc32(key.encode())  # tells this layer's dropout mask from the others'
        self.r: dict[str, int] = {}
        self.num_experts: dict[str, int] = {}
        self.scaling: dict[str, float] = {}
        self.m3oe_dropout: dict[str, float] = {}
        self.m3oe_A = nn.ParameterDict()
        self.m3oe_B = nn.ParameterDict()
        self.merged_adapters: list[str] = []
        self._original: Tensor | None = None
        self._folded: Tensor | None = None
        self._casts: dict[str, tuple[tuple[object, ...], Tensor, Tensor]] = {}
        self.in_features, self.out_features = _get_in_out_features(self.get_base_layer())

    def update_layer(self, adapter: str, config: M3OEConfig) -> None:
        """Add an adapter: A as in LoRA (Kaiming of the concatenation is Kaiming of each expert), B = 0, float32."""
        rank = config.num_experts * config.r
        self.r[adapter] = config.r
        self.num_experts[adapter] = config.num_experts
        self.scaling[adapter] = config.scaling
        self.m3oe_dropout[adapter] = config.lora_dropout
        down = torch.empty(rank, self.in_features, dtype=torch.float32)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5))
        if config.init == "published":  # its three-dimensional tensor misleads Kaiming by a factor of √r
            down = down / math.sqrt(config.r)
        self.m3oe_A[adapter] = nn.Parameter(down)
        self.m3oe_B[adapter] = nn.Parameter(torch.zeros(self.out_features, rank, dtype=torch.float32))
        self._move_adapter_to_device_of_base_layer(adapter)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        """To the base layer's device but never to its dtype: the masters stay float32 on a bfloat16 base."""
        if device is None:
            device, _ = self._get_base_layer_device_and_dtype(self.get_base_layer())
        for parameters in (self.m3oe_A, self.m3oe_B):
            if adapter_name in parameters and device is not None:
                parameter = parameters[adapter_name]
                if parameter.device.type != "meta":
                    parameter.data = parameter.data.to(device=device, dtype=torch.float32)

    def factors(self, adapter: str, gate: Gate) -> tuple[Tensor, Tensor]:
        """(A [P·r, in], B ∘ g [out, P·r]) in float32: one ordinary LoRA of rank P·r that equals the routed layer."""
        if gate.rows != 1:
            raise FedkimError(
                "several routes can't become one set of weights",
                found=f"{gate.rows} routes",
                expected="the route of one task and one set of modalities",
            )
        down = self.m3oe_A[adapter].detach().float()
        scale = gate.full.detach().view(-1).to(device=down.device, dtype=down.dtype)
        up = self.m3oe_B[adapter].detach().float() * scale
        if not (bool(down.isfinite().all()) and bool(up.isfinite().all())):
            raise FedkimError(f"the adapter {adapter!r} of layer {self.key} is not finite", remedy="train it again")
        return down, up

    def fold(self, gates: Mapping[str, Gate]) -> None:
        """Replace the base weight by W + Σ ΔW(α) over the named adapters, computed in float32; the original tensor is kept aside untouched."""
        if self._disable_adapters:
            raise FedkimError("disabled adapters can't be merged", remedy="leave `with model.disable_adapter():` first")
        weight = self._plain_weight()
        if self._original is not None:
            raise FedkimError(f"layer {self.key} is merged already", remedy="unmerge it first")
        present = [name for name in gates if name in self.m3oe_A]
        folded = weight.data.float()
        for name in present:
            down, up = self.factors(name, gates[name])
            folded = torch.addmm(folded, up, down)
        if present:
            self._original, self._folded = weight.data, folded.to(weight.dtype)
            weight.data = self._folded
            self.merged_adapters = present

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """PEFT's merge, for the route that is set; without one there is nothing to merge."""
        active = self.routes.current()
        names: list[str] = self.active_adapters if adapter_names is None else adapter_names
        self.fold({name: self.routes.gate(active, name) for name in names if name in self.m3oe_A})

    def unmerge(self) -> None:
        """Put the original weight back, the same bits."""
        if self._original is not None:
            self._plain_weight().data = self._original
            self._original = self._folded = None
            self.merged_adapters = []

    def enable_adapters(self, enabled: bool) -> None:
        """PEFT's switch. While a route is merged the original weight works as long as adapters are disabled."""
        super().enable_adapters(enabled)
        if self._original is not None and self._folded is not None:
            self._plain_weight().data = self._folded if enabled else self._original

    def _plain_weight(self) -> Tensor:
        base = self.get_base_layer()
        weight = getattr(base, "weight", None)
        if not isinstance(weight, Tensor) or not weight.is_floating_point() or weight.element_size() < 2:
            raise FedkimError(
                f"layer {self.key} is quantised ({type(base).__name__}), merging would round its weights again",
                remedy="load the language model unquantised, or export the route as a LoRA and keep the base as it is",
            )
        return weight


class M3OELinear(nn.Module, M3OELayer):
    """A linear layer, plain or quantised, with routed experts. The base layer is called, its weight never touched."""

    def __init__(self, base_layer: nn.Module, adapter: str, config: M3OEConfig, routes: RouteChannel, key: str):
        super().__init__()
        M3OELayer.__init__(self, base_layer, routes, key)
        self._active_adapter = adapter
        self.update_layer(adapter, config)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[B, ..., in] → [B, ..., out]."""
        result = self.base_layer(x, *args, **kwargs)
        if self._disable_adapters or self._original is not None:
            return result
        active = self.routes.current()
        for name in self.active_adapters:
            if name not in self.m3oe_A:
                continue
            gate = self.routes.gate(active, name)
            dropped, factor = x, 1.0
            if self.training and self.m3oe_dropout[name]:
                dropped, factor = active.dropout(x, self.m3oe_dropout[name], self.seed)
            down, up = self._in_dtype(name, x.dtype)
            hidden = linear(dropped, down)
            scale = gate.of(hidden)
            if factor != 1:
                scale = scale * factor
            result = result + linear(hidden * scale, up).to(result.dtype)
        return result

    def _in_dtype(self, name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """A and B in the dtype of x: x itself is never cast, a float32 copy of each input costs 23 times the memory.

        Without gradients (generation calls the layer once per token) the casts are kept until a master changes.
        """
        down, up = self.m3oe_A[name], self.m3oe_B[name]
        if down.dtype == dtype == up.dtype:
            return down, up
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            self._casts.pop(name, None)
            return down.to(dtype), up.to(dtype)
        version = (dtype, down.data_ptr(), down._version, up.data_ptr(), up._version)
        kept = self._casts.get(name)
        if kept is None or kept[0] != version:
            kept = self._casts[name] = (version, down.to(dtype), up.to(dtype))
        return kept[1], kept[2]

    def __repr__(self) -> str:
        return "m3oe." + super().__repr__()
