"""The tables of a recipe: frozen records whose defaults are the ``fast`` preset. Each field's docstring is its manual."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from fedkim.errors import FedkimError
from fedkim.tasks.paper import SEEN, UNSEEN


class Table:
    """What all tables share: a name, and checks whose errors name table and key."""

    table: ClassVar[str]

    def _require(self, key: str, ok: bool, expected: str) -> None:
        if not ok:
            raise FedkimError(f"[{self.table}] {key}", found=_shown(getattr(self, key)), expected=expected)

    def _at_least(self, minimum: int, *keys: str) -> None:
        for key in keys:
            self._require(key, getattr(self, key) >= minimum, f"at least {minimum}")

    def _positive(self, *keys: str) -> None:
        for key in keys:
            self._require(key, getattr(self, key) > 0, "a number above 0")

    def _fraction(self, *keys: str) -> None:
        for key in keys:
            self._require(key, 0 <= getattr(self, key) <= 1, "a number between 0 and 1")

    def _distinct(self, *keys: str) -> None:
        for key in keys:
            values: Collection[str] = getattr(self, key)
            self._require(key, len(set(values)) == len(values), "each name once")


def _shown(value: Any) -> str:
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True, kw_only=True)
class Run(Table):
    """Who and where: what identifies a run and the machine settings it computes with."""

    table: ClassVar[str] = "run"
    name: str = "run"
    """Names the run's folder, ``runs/<name>``."""
    seed: int = 0
    """Every random number is a function of this and of what the number is for."""
    preset: Literal["fast", "paper"] = "fast"
    """What the recipe is a delta on."""
    plugins: tuple[str, ...] = ()
    """Python modules imported first; they add tasks, modalities, LLMs, algorithms or sources to the registries."""
    threads: int = 1
    """Threads inside one tensor operation; other numbers of threads give other last bits."""
    workers: int = 2
    """Sites trained side by side; changes the speed and no bit."""
    snapshot_seconds: float = 60.0
    """While injecting, keep the round in progress this often: a crash costs no more. 0: after every step."""
    share_extraction: bool = False
    """Keep the first round's updates in the cache for runs that differ in injection alone; changes the speed and no bit."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of the frozen LLM; auto takes bfloat16 where the processor computes in it."""

    def __post_init__(self) -> None:
        plain = self.name.replace("-", "").replace("_", "").replace(".", "")
        ok = 0 < len(self.name) <= 64 and plain.isalnum() and plain.isascii() and self.name[0].isalnum()
        self._require("name", ok, "a folder name: letters, digits, '-', '_' or '.', beginning with a letter or digit")
        self._at_least(0, "seed", "snapshot_seconds")
        self._at_least(1, "threads", "workers")
        self._distinct("plugins")


@dataclass(frozen=True, kw_only=True)
class Data(Table):
    """Which patients: a source and its size."""

    table: ClassVar[str] = "data"
    source: str = "phantom"
    """``phantom`` (synthetic), ``pack``, ``public`` (sets in ``roots``), ``hospital`` (a site.toml), or a plug-in's."""
    root: str = ""
    """Folder of the pack (empty: ``FEDKIM_DATA_PACK``), or the hospital's ``site.toml``."""
    roots: Mapping[str, str] = field(default_factory=dict)
    """Public sets and the folders of your copies, ``{rsna = "/data/rsna", ptbxl = "/data/ptbxl"}``; split together."""
    labels: Literal["fixed", "paper"] = "fixed"
    """Label rules of the public sets; paper: those of the published code, mistakes included."""
    split: Literal["registry", "paper"] = "registry"
    """registry: by patient over all sets at once; paper: as the published code split, which leaks (it warns how)."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Version by public set, where several are around: ``{vqarad = "mevf"}``; absent: the set's first."""
    language: str = "en"
    """Of public sets in several languages; all takes every one."""
    fold: int = 0
    """Which fifth of the patients is the test split, 0 to 4 (sources with folds)."""
    image_size: int = 64
    """Side of an image in pixels; 224 for DeiT-tiny."""
    rho: float = 0.8
    """Phantom: how much of an unseen task's factor a seen task shares (0: none, 1: the same under another name)."""
    image_patients: int = 1500
    """Phantom: patients with an image."""
    signal_patients: int = 1500
    """Phantom: patients with an ECG."""
    icu_patients: int = 1800
    """Phantom: patients with an ICU series."""
    further_test_patients: int = 0
    """Phantom: test patients of each kind beyond the split's tenth, for narrower intervals; trained on by nobody."""
    test_patients: int = 0
    """At most so many test patients a task; 0: all."""

    def __post_init__(self) -> None:
        self._require("source", bool(self.source), "a source's name")
        self._require("fold", 0 <= self.fold <= 4, "0 to 4")
        self._at_least(16, "image_size")
        self._fraction("rho")
        self._at_least(0, "image_patients", "signal_patients", "icu_patients", "further_test_patients", "test_patients")


@dataclass(frozen=True, kw_only=True)
class Tasks(Table):
    """Which questions are trained on, and which are asked only at the end."""

    table: ClassVar[str] = "tasks"
    seen: tuple[str, ...] = SEEN
    """Trained at the sites and injected on the public set."""
    unseen: tuple[str, ...] = UNSEEN
    """Asked at evaluation alone: no pair, label, threshold or prompt of theirs is used before."""

    def __post_init__(self) -> None:
        self._distinct("seen", "unseen")
        self._require("seen", bool(self.seen), "at least one task")
        both = sorted(set(self.seen) & set(self.unseen))
        if both:
            raise FedkimError(
                "[tasks] seen and unseen", found=f"{both[0]!r} in both", expected="each task in one of them"
            )


@dataclass(frozen=True, kw_only=True)
class Federation(Table):
    """The rounds: who learns, how their updates become one state."""

    table: ClassVar[str] = "federation"
    sites: int = 5
    """Number of hospitals."""
    rounds: int = 10
    """Communication rounds."""
    participation: float = 1.0
    """Share of the sites that take part in a round (drawn by seed, at least one)."""
    trainers: Literal["sites", "public", "centralised", "local"] = "sites"
    """Who extracts: the sites; the public set alone (FEDKIM_pub); one site with all private data, or one site alone (references)."""
    local_site: int = 1
    """Trainers ``local``: which of the sites stays by itself, counted from 1 in their order."""
    quorum: int = 1
    """Updates a round needs that pass the gate; with fewer it is skipped."""
    patience: int = 3
    """So many rounds skipped in a row end the run; the same command resumes it."""
    norm_limit: float = 5.0
    """A site may move a component so many times as far as the round's median (more with more examples); 0: any distance."""
    algorithm: str = "fedavg"
    """``fedavg``, a robust rule (docs/aggregation.md), either with FedProx's penalty (``fedprox``, ``fedprox-krum``), a plug-in's."""
    proximal_mu: float = 0.01
    """FedProx: weight of the pull back to the broadcast weights."""
    byzantine: int = 1
    """Robust rules: how many sites may lie about one component; it needs 2f + 1 contributors, for Krum 2f + 3."""
    trim_share: float = 0.2
    """``trimmed-mean``: share of the contributors cut at either end of each coordinate."""
    selected: int = 0
    """``multi-krum``: updates to average, at most contributors − f − 2; 0: that many."""
    clip_factor: float = 2.0
    """``clipped-mean``: a site moves a component at most so many times as far as the round's median."""
    site_share: float = 0.5
    """``clipped-mean``: the largest weight of one site, whatever its count of examples."""
    too_few: Literal["keep", "mean"] = "keep"
    """Robust rules: a component with too few contributors in a round stays as it was, or is averaged unguarded."""
    partition: Literal[
        "iid",
        "dirichlet",
        "natural",
        "missing-modality",
        "table",
        "inner-dirichlet",
        "pathological",
        "shard",
        "linear",
        "square",
        "exponential",
    ] = "iid"
    """How private patients are dealt to the sites; the deal stays for the whole run (the last six: fedkim[partitions])."""
    dirichlet_alpha: float = 0.5
    """Partitions ``dirichlet`` and ``inner-dirichlet``: smaller is more uneven."""
    classes_per_site: int = 2
    """Partition ``pathological``: classes (all closed answers of a patient together) that a site holds."""
    shards_per_site: int = 2
    """Partition ``shard``: pieces of the patients sorted by class that a site holds."""
    missing: float = 0.3
    """Partition ``missing-modality``: the chance that a site lacks a modality (at least one site keeps each)."""
    table_of_sites: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Partition ``table``: the natural sites or shards that each site holds."""
    shifts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What makes a site's inputs look unlike the others', in order: ``{site-2 = ["scanner-gamma", "ecg-hum"]}``."""

    def __post_init__(self) -> None:
        self._at_least(1, "sites", "rounds", "quorum", "patience", "classes_per_site", "shards_per_site", "local_site")
        self._require("norm_limit", self.norm_limit == 0 or self.norm_limit > 1, "0, or a number above 1")
        if self.trainers == "local":
            self._require("local_site", self.local_site <= self.sites, f"at most the number of sites, {self.sites}")
        self._require("participation", 0 < self.participation <= 1, "a share above 0 and at most 1")
        in_a_round = max(1, int(self.participation * self.sites + 0.5))
        self._require("quorum", self.quorum <= in_a_round, f"at most the number of sites in a round ({in_a_round})")
        self._require("algorithm", bool(self.algorithm), "an algorithm's name")
        if self.algorithm.startswith("fedprox"):
            self._require("proximal_mu", self.proximal_mu > 0, f"a number above 0 when algorithm is {self.algorithm!r}")
        self._at_least(1, "byzantine")
        self._at_least(0, "selected")
        self._require("trim_share", 0 < self.trim_share < 0.5, "above 0 and below 0.5")
        self._require("clip_factor", self.clip_factor >= 1, "at least 1")
        self._require("site_share", 0 < self.site_share <= 1, "above 0 and at most 1")
        self._positive("dirichlet_alpha")
        self._fraction("missing")
        if self.partition == "table":
            self._require("table_of_sites", bool(self.table_of_sites), "at least one site when partition is 'table'")
        elif self.table_of_sites:
            self._require("table_of_sites", False, "nothing, or partition = 'table'")
        if self.table_of_sites:
            ok = len(self.table_of_sites) == self.sites
            self._require("table_of_sites", ok, f"as many sites as 'sites' says ({self.sites})")


@dataclass(frozen=True, kw_only=True)
class Extraction(Table):
    """Knowledge extraction: the small models and their local training."""

    table: ClassVar[str] = "extraction"
    width: int = 128
    """Width of every encoder's output tokens."""
    encoders: Mapping[str, str] = field(default_factory=dict)
    """Encoder by modality, ``{image = "deit-tiny"}``; absent: the modality's first."""
    tokens: Mapping[str, int] = field(default_factory=dict)
    """Tokens an encoder pools to, by modality; absent: the modality's own number."""
    learning_rate: float = 1e-3
    """Adam's, afresh each round."""
    batch_size: int = 16
    """Samples of one task in one step."""
    local_epochs: int = 1
    """An epoch ends when the site's largest task has been seen once."""
    gradient_clip: float = 1.0
    """Largest gradient norm; 0: no clipping."""
    dropout: float = 0.0
    """Share of a decoder's inputs and hidden units left out in training, so that it can't lean on a few patients."""
    augment: bool = True
    """Apply each modality's training-time augmentation."""
    balanced: bool = True
    """Draw batches with the answers equally frequent."""

    def __post_init__(self) -> None:
        self._at_least(1, "width", "batch_size", "local_epochs")
        self._positive("learning_rate")
        self._require("dropout", 0 <= self.dropout < 1, "at least 0 and below 1")
        self._at_least(0, "gradient_clip")
        for modality, number in self.tokens.items():
            self._require("tokens", number >= 1, f"at least 1 for {modality!r}")


@dataclass(frozen=True, kw_only=True)
class LLM(Table):
    """The frozen language model that knowledge is injected into."""

    table: ClassVar[str] = "llm"
    name: str = "smollm2-135m"
    """A registered name (``smollm2-135m``, ``tiny``), a local folder or a Hugging Face id."""
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
    """Optimiser steps a round; 0: one pass over the public set."""
    learning_rate: float = 5e-4
    """Adapters and alignment."""
    router_learning_rate: float = 1e-4
    """The router's own: at the adapters' rate it drifts or collapses."""
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
    teacher: Literal["none", "decoder"] = "none"
    """decoder: answers follow the aggregated decoders' probabilities rather than the public labels."""
    mixup: Literal["taught", "always", "never"] = "taught"
    """Train on mix-ups of two public inputs' features: where decoders teach, also with public labels (mixed alike), or never."""
    unlabelled: bool = True
    """Whether decoders also teach on public inputs that lack the task's own label."""

    def __post_init__(self) -> None:
        self._at_least(1, "batch_size", "first_round")
        self._at_least(0, "steps_per_round", "gradient_clip", "guidance")
        self._positive("learning_rate", "router_learning_rate", "encoder_learning_rate")
        self._require("warmup", 0 <= self.warmup < 1, "at least 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class Evaluation(Table):
    """What is measured, and on how many."""

    table: ClassVar[str] = "evaluation"
    draws: int = 1000
    """Bootstrap draws (of patients) behind each interval."""
    batch_size: int = 32
    """Samples scored at once."""
    development_samples: int = 0
    """At most so many development samples a task, for thresholds and the reported development scores; 0: all."""
    curve_samples: int = 0
    """Development samples a task that the injected model answers after every round, for the curve; 0: only at the end."""
    blind: bool = True
    """Also train and score without modality segments."""
    unseen: bool = True
    """Ask the unseen tasks too; off while settings are chosen, which seen tasks alone decide."""
    shuffled: bool = True
    """Also score with features permuted over patients."""
    reveal_test: bool = False
    """Print test scores; only for a recipe whose settings are final."""

    def __post_init__(self) -> None:
        self._at_least(1, "batch_size")
        self._at_least(100, "draws")
        self._at_least(0, "development_samples", "curve_samples")
