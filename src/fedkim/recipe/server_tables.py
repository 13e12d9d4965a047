"""How the server injects: the language model, its experts, the injection. Defaults are the ``fast`` preset; each field's docstring is its manual."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from fedkim.recipe.table import Table


@dataclass(frozen=True, kw_only=True)
class LLM(Table):
    """The frozen language model that knowledge is injected into."""

    table: ClassVar[str] = "llm"
    name: str = "smollm2-135m"
    """A registered name (``fedkim llm list``), a local folder or a Hugging Face id."""
    micro_batch: int = 8
    """At most so many samples in one forward pass; gradients add up to injection.batch_size."""
    max_new_tokens: int = 16
    """Longest generated answer."""
    allow_download: bool = False
    """Whether weights may be fetched from a hub."""

    def __post_init__(self) -> None:
        self._require("name", bool(self.name), "a model's name, folder or id")
        self._at_least(1, "micro_batch", "max_new_tokens")


@dataclass(frozen=True, kw_only=True)
class M3OE(Table):
    """The multi-task multimodal mixture of experts: LoRA experts on the LLM and the router that weighs them."""

    table: ClassVar[str] = "m3oe"
    experts: int = 12
    """P; 0: no adapter (FedPlug), 1: one LoRA (FedPlug_L)."""
    rank: int = 8
    """Rank of one expert."""
    alpha: float = 0.0
    """LoRA's alpha; 0: equal to the rank."""
    dropout: float = 0.1
    """On the adapters' input."""
    gate_scale: Literal["experts", "paper"] = "experts"
    """experts: route weights times P, so that the uniform route equals one LoRA of rank P times r; paper: as they are."""
    targets: tuple[str, ...] = ("all",)
    """Adapted layers: all (attention and MLP projections), paper (the LM head too) or module names."""
    router: Literal["attention", "uniform"] = "attention"
    """attention: over both descriptions; uniform: every weight 1/P."""
    router_inputs: Literal["both", "task", "modality"] = "both"
    """What the router reads; task and modality are the paper's ablations."""
    router_width: int = 256
    """Width of the router's attention; 0: the LLM's."""
    router_normalise: bool = True
    """LayerNorm on the descriptions: without it the weights hardly leave 1/P."""
    router_spread: float = 0.0
    """How far the seen tasks' logits lie apart before training (standard deviation); 0: as drawn, all near 1/P."""
    entropy_weight: float = 0.01
    """Weight of the term that keeps the route from collapsing onto one expert."""

    def __post_init__(self) -> None:
        self._at_least(0, "experts", "alpha", "router_width", "router_spread", "entropy_weight")
        self._at_least(1, "rank")
        self._require("dropout", 0 <= self.dropout < 1, "at least 0 and below 1")
        self._require("targets", bool(self.targets), "'all', 'paper' or names of modules")
        self._distinct("targets")

    @property
    def lora_alpha(self) -> float:
        """``alpha`` with its default filled in."""
        return self.alpha or float(self.rank)


@dataclass(frozen=True, kw_only=True)
class Injection(Table):
    """Knowledge injection: the server's training on the public set."""

    table: ClassVar[str] = "injection"
    batch_size: int = 16
    """Questions in one optimiser step."""
    first_round: int = 1
    """Rounds before this one only federate; the steps' schedule begins here."""
    steps_per_round: int = 0
    """Optimiser steps a round; 0: one pass over the public samples that serve a seen task."""
    learning_rate: float = 5e-4
    """The adapters'."""
    alignment_learning_rate: float = 1.6e-2
    """The alignment's and the evidence tokens' own, a multiple of the adapters' (docs/results.md); 0: the adapters'."""
    router_learning_rate: float = 5e-4
    """The router's own: too low, and α stays where it was drawn; too high, and every task gets the same expert (docs/results.md)."""
    encoder_learning_rate: float = 1e-4
    """The encoders' own: at 5e-4 a hundred public images destroy what the sites learned."""
    train_encoders: bool = True
    """Whether injection tunes the encoders, so that sites absorb knowledge of the LLM."""
    warmup: float = 0.1
    """Share of the run's steps over which the rates rise."""
    schedule: Literal["linear", "constant"] = "linear"
    """After the warm-up: down to 0 at the run's end, or level."""
    gradient_clip: float = 1.0
    """Largest gradient norm; 0: no clipping."""
    balanced: bool = True
    """Draw batches with the answers equally frequent."""
    guidance: float = 0.0
    """How much louder the directions that the aggregated decoders read enter the LLM; 0: as loud as any other."""
    evidence: Literal["none", "decoder"] = "none"
    """decoder: what the aggregated decoders decide enters the prompt too, as one soft token per seen task."""
    teacher: Literal["none", "decoder"] = "none"
    """decoder: answers follow the aggregated decoders' probabilities rather than the public labels."""
    mixup: Literal["taught", "rotated", "always", "never"] = "taught"
    """Mix public features two by two: where decoders teach (rotated: so that they vary as inputs do), with labels too, or never."""
    unlabelled: bool = True
    """Whether decoders also teach on public inputs that lack the task's own label."""

    def __post_init__(self) -> None:
        self._at_least(1, "batch_size", "first_round")
        self._at_least(0, "alignment_learning_rate", "steps_per_round", "gradient_clip", "guidance")
        self._positive("learning_rate", "router_learning_rate", "encoder_learning_rate")
        self._require("warmup", 0 <= self.warmup < 1, "at least 0 and below 1")
