"""What a run is about: itself, its patients, its questions. Defaults are the ``fast`` preset; each field's docstring is its manual."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from fedkim.errors import FedkimError
from fedkim.recipe.table import Table
from fedkim.tasks.paper import SEEN, UNSEEN


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
    """So many at once of: sites in training, the server's micro-batches, batches of answers, inputs to decode, folds; changes no bit."""
    snapshot_seconds: float = 60.0
    """While injecting, keep the round in progress this often: a crash costs no more. 0: after every step."""
    share_extraction: bool = False
    """Keep updates that no injection has touched in the cache for runs that differ in injection alone; changes the speed and no bit."""
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
        self._at_most(4096, "every image is held in memory at this size", "image_size")
        made = ("image_patients", "signal_patients", "icu_patients", "further_test_patients")
        self._at_least(0, *made, "test_patients")
        self._at_most(1_000_000, "all patients of a kind are drawn in memory", *made)
        if self.source == "phantom" and not (self.image_patients or self.signal_patients or self.icu_patients):
            self._require("image_patients", False, "patients of a kind; signal_patients and icu_patients are 0 too")


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
