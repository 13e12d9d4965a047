"""Recipe: everything that determines a run, as data that can be diffed, stored in a result and replayed."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from fedkim.errors import FedkimError
from fedkim.recipe.evaluation_table import Evaluation
from fedkim.recipe.question_tables import Data, Run, Tasks
from fedkim.recipe.server_tables import LLM, M3OE, Injection
from fedkim.recipe.site_tables import Extraction, Federation
from fedkim.recipe.table import Table

# The same run whatever these say: speed, names and places. What lies at a place is told by the run's own digest of its data.
# Whoever adds a key that earlier runs have changes their digests: their recipe.json would be called changed.
_WITHOUT_EFFECT = {
    "run": ("name", "preset", "workers", "threads", "snapshot_seconds", "share_extraction"),
    "data": ("root",),
    "federation": ("patience",),
    "llm": ("allow_download",),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The tables of one run. Made by :func:`fedkim.recipe.load`, or in a notebook by naming what differs."""

    run: Run = field(default_factory=Run)
    data: Data = field(default_factory=Data)
    tasks: Tasks = field(default_factory=Tasks)
    federation: Federation = field(default_factory=Federation)
    extraction: Extraction = field(default_factory=Extraction)
    llm: LLM = field(default_factory=LLM)
    m3oe: M3OE = field(default_factory=M3OE)
    injection: Injection = field(default_factory=Injection)
    evaluation: Evaluation = field(default_factory=Evaluation)

    def __post_init__(self) -> None:
        if self.m3oe.experts == 0 and self.m3oe.router != "attention":
            raise FedkimError("[m3oe] router", found=repr(self.m3oe.router), expected="no choice when experts is 0")
        routed = self.m3oe.experts > 1 and self.m3oe.router == "attention"
        if self.m3oe.router_spread and not (routed and len(self.tasks.seen) > 1):
            raise FedkimError(
                "[m3oe] router_spread",
                found=str(self.m3oe.router_spread),
                expected="0 where there is no router, or one seen task alone",
            )
        if self.injection.mixup == "rotated" and self.injection.teacher == "none":
            raise FedkimError(
                "[injection] mixup",
                found="'rotated' without a teacher",
                expected="decoders that answer whatever they are shown",
                remedy='set injection.teacher = "decoder"',
            )
        if self.injection.first_round > self.federation.rounds:
            raise FedkimError(
                "[injection] first_round",
                found=str(self.injection.first_round),
                expected=f"at most {self.federation.rounds}, the number of rounds in [federation]",
            )

    @property
    def method(self) -> str:
        """The paper's name for these settings, as used in tables and result files."""
        if self.m3oe.experts == 0:
            name = "fedplug"
        elif self.m3oe.experts == 1:
            name = "fedplug-lora"
        elif self.m3oe.router == "uniform":
            name = "fedkim-uniform"
        else:
            inputs = {"both": "", "task": "-task-only", "modality": "-modality-only"}[self.m3oe.router_inputs]
            name = "fedkim" + inputs
        name += "-guided" if self.injection.guidance else ""
        name += "-evidence" if self.injection.evidence == "decoder" else ""
        name += "-taught" if self.injection.teacher == "decoder" else ""
        name += "-mixed" if self.injection.mixup == "always" and self.injection.teacher == "none" else ""
        name += "-rotated" if self.injection.mixup == "rotated" else ""
        name += "-late" if self.injection.first_round > 1 else ""
        name += "-spread" if self.m3oe.router_spread else ""
        name += "-weighed" if self.extraction.task_weights == "gradient" else ""
        return (
            name
            + {
                "sites": "",
                "public": "-pub",
                "centralised": "-centralised",
                "local": f"-local-{self.federation.local_site}",
            }[self.federation.trainers]
        )

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Tables as plain dicts and lists, every key present."""
        return {table.name: _plain(getattr(self, table.name)) for table in fields(self)}

    def to_toml(self) -> str:
        """The whole recipe as TOML; loading it gives an equal recipe."""
        lines = []
        for table, keys in self.to_dict().items():
            lines.append(f"[{table}]")
            lines += [f"{key} = {_toml(value)}" for key, value in keys.items()]
            lines.append("")
        return "\n".join(lines)

    def digest(self) -> str:
        """sha256 of what determines the numbers."""
        return digest_of(self.to_dict())

    def same_folders(self, other: "Recipe") -> bool:
        """Whether both read their data from the same places, which the digest leaves out."""
        return (self.data.root, dict(self.data.roots)) == (other.data.root, dict(other.data.roots))

    def without_places(self) -> "Recipe":
        """The recipe as it may be told elsewhere: of this machine's folders and files the last name alone, see :func:`without_place`."""
        roots = {name: Path(folder).name for name, folder in self.data.roots.items()}
        data = replace(self.data, root=Path(self.data.root).name, roots=roots)
        return replace(self, data=data, llm=replace(self.llm, name=without_place(self.llm.name)))

    def decisive(self) -> dict[str, dict[str, Any]]:
        """The tables with what determines the numbers. Name, workers and folders don't; thread count is kept with each round."""
        return _decisive(self.to_dict())


def digest_of(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """:meth:`Recipe.digest` of tables as they were stored: those of an earlier version may lack keys that have come since."""
    return hashlib.sha256(json.dumps(_decisive(tables), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _decisive(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    kept = {
        name: {key: value for key, value in table.items() if key not in _WITHOUT_EFFECT.get(name, ())}
        for name, table in tables.items()
    }
    roots = kept.get("data", {}).get("roots")
    if roots and isinstance(roots, Mapping):
        kept["data"]["roots"] = list(roots)  # which sets, not in which folders
    return kept


def without_place(model: str) -> str:
    """A language model's name as it may be told elsewhere: of a folder the last name with eight digits of its path's digest, so that two
    folders of one name stay two.

    By its form, not by what is on the disk now, since a folder may have moved: a registered name stays, a hub's (``owner/model``) and so
    a path of that form, and what was told already.
    """
    if not model.startswith(("/", ".", "~")) and model.count("/") < 2:
        return model
    return f"{Path(model).name}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"


def _plain(table: Table) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return {item.name: plain(getattr(table, item.name)) for item in fields(table)}


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, float):
        return repr(value) if "." in repr(value) or "e" in repr(value) else repr(value) + ".0"
    return json.dumps(value, ensure_ascii=False)  # strings, integers and booleans are written alike in JSON and TOML
