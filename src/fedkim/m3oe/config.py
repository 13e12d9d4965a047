"""M3OEConfig: the settings of a LoRA-M3OE adapter, and the name under which PEFT knows the method."""

from dataclasses import dataclass, field

from peft import PeftConfig
from peft.utils import PeftType

from fedkim.errors import FedkimError, unknown

GATE_SCALES = ("experts", "paper")
ROUTERS = ("attention", "uniform")
ROUTER_INPUTS = ("both", "task", "modality")


def _add_peft_type(name: str) -> None:
    """Add a member to PEFT's closed enumeration of methods, so that :func:`peft.utils.register_peft_method` takes it."""
    if name in PeftType.__members__:
        return
    member = str.__new__(PeftType, name)
    member._name_ = name
    member._value_ = name
    PeftType._member_names_.append(name)
    PeftType._member_map_[name] = member
    PeftType._value2member_map_[name] = member
    type.__setattr__(PeftType, name, member)  # attribute access from Python 3.12 on


_add_peft_type("M3OE")


@dataclass
class M3OEConfig(PeftConfig):
    """P LoRA experts on each target layer, mixed by one route per (task, set of modalities).

    The layer computes ``W x + Σ_p α_p · s · B_p A_p x`` with ``s = lora_alpha / r`` (``gate_scale="paper"``) or
    ``s = num_experts · lora_alpha / r`` (``gate_scale="experts"``, so that the uniform route is exactly one LoRA of
    rank ``num_experts · r``). FEDKIM, arXiv 2408.10276, section "Adaptive Multitask Multimodal Mixture of Experts".
    """

    r: int = field(default=8, metadata={"help": "Rank of each expert."})
    num_experts: int = field(default=12, metadata={"help": "P, the number of experts; 1 is a plain LoRA of rank r."})
    lora_alpha: float | None = field(default=None, metadata={"help": "LoRA's alpha; r unless set."})
    lora_dropout: float = field(
        default=0.1, metadata={"help": "Dropout on the layer's input, one mask for all experts."}
    )
    gate_scale: str = field(default="experts", metadata={"help": "'experts': s = P·alpha/r; 'paper': s = alpha/r."})
    target_modules: list[str] | set[str] | str | None = field(
        default=None, metadata={"help": "Layers to adapt; by default the family's attention and MLP projections."}
    )
    exclude_modules: list[str] | str | None = field(default=None, metadata={"help": "Layers to leave alone."})
    layers_to_transform: list[int] | int | None = field(default=None, metadata={"help": "Only these block numbers."})
    layers_pattern: list[str] | str | None = field(default=None, metadata={"help": "Name of the list of blocks."})
    modules_to_save: list[str] | None = field(default=None, metadata={"help": "Modules trained and saved whole."})
    init: str = field(default="lora", metadata={"help": "'lora': A as in LoRA; 'published': √r smaller, as published."})
    router: str = field(default="attention", metadata={"help": "'attention', or 'uniform': α fixed at 1/P."})
    router_inputs: str = field(
        default="both", metadata={"help": "'both' (Q = M, K = V = T), 'task' or 'modality' alone."}
    )
    router_embed_dim: int | None = field(
        default=None, metadata={"help": "Width of descriptions; the LLM's unless set."}
    )
    router_dim: int = field(default=256, metadata={"help": "Width of the router's attention."})
    router_hidden: int = field(default=256, metadata={"help": "Hidden width of the router's MLP; 0: one linear layer."})
    router_normalise: bool = field(default=True, metadata={"help": "LayerNorm on the descriptions (the paper: none)."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType.M3OE
        if isinstance(self.target_modules, list | tuple):
            self.target_modules = set(self.target_modules)
        for name, least in (("r", 1), ("num_experts", 1), ("router_dim", 1), ("router_hidden", 0)):
            if getattr(self, name) < least:
                raise FedkimError(f"M3OEConfig.{name}", found=str(getattr(self, name)), expected=f"at least {least}")
        if not 0 <= self.lora_dropout < 1:
            raise FedkimError("M3OEConfig.lora_dropout", found=str(self.lora_dropout), expected="a share in [0, 1)")
        for kind, value, known in (
            ("gate_scale", self.gate_scale, GATE_SCALES),
            ("router", self.router, ROUTERS),
            ("router_inputs", self.router_inputs, ROUTER_INPUTS),
            ("init", self.init, ("lora", "published")),
        ):
            if value not in known:
                raise unknown(kind, value, known)

    @property
    def scaling(self) -> float:
        """s, the factor in front of every expert."""
        alpha = self.r if self.lora_alpha is None else self.lora_alpha
        return alpha / self.r * (self.num_experts if self.gate_scale == "experts" else 1)

    @property
    def has_router(self) -> bool:
        """Whether α is computed; one expert, or a uniform route, needs no router and no route to be set."""
        return self.router == "attention" and self.num_experts > 1
