"""How the sites learn: the federation and the extraction. Defaults are the ``fast`` preset; each field's docstring is its manual."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from fedkim.recipe.table import Table


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
    """How private patients are dealt to the sites; the deal stays for the whole run (the last six need the extra ``partitions``)."""
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
        in_a_round = sites_in_a_round(self.participation, self.sites)
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
        self._require("missing", 0 <= self.missing < 1, "from 0 up to, not including, 1")
        if self.partition == "table":
            self._require("table_of_sites", bool(self.table_of_sites), "at least one site when partition is 'table'")
        elif self.table_of_sites:
            self._require("table_of_sites", False, "nothing, or partition = 'table'")
        if self.table_of_sites:
            ok = len(self.table_of_sites) == self.sites
            self._require("table_of_sites", ok, f"as many sites as 'sites' says ({self.sites})")


def sites_in_a_round(share: float, number: int) -> int:
    """How many of ``number`` sites a share of them is: at least one, halves rounded up (Python's ``round`` goes to the even)."""
    return max(1, int(share * number + 0.5))


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
    task_weights: Literal["equal", "gradient"] = "equal"
    """Weights of the tasks' losses: ``equal``, or by ``gradient``: each moves the encoders equally far (up to twice the time)."""

    def __post_init__(self) -> None:
        # encoders begin at an eighth of it; a stay's has two heads in half of it
        self._require("width", self.width >= 8 and self.width % 4 == 0, "a multiple of 4, at least 8")
        self._at_least(1, "batch_size", "local_epochs")
        self._positive("learning_rate")
        self._require("dropout", 0 <= self.dropout < 1, "at least 0 and below 1")
        self._at_least(0, "gradient_clip")
        for modality, number in self.tokens.items():
            self._require("tokens", number >= 1, f"at least 1 for {modality!r}")
