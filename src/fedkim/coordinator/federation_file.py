"""``federation.toml``: the coordinator's manifest of a federation on a network.

::

    [recipe]
    file = "recipe.toml"            # what the sites approve, by its digest
    out = "runs/federation"

    [llm]                           # where this machine has the language model, if not under the recipe's name
    name = "/models/mmedlm2"

    [public]                        # where this machine has the public data: root or roots of the recipe's [data]
    root = "/data/pack"

    [network]
    host = "0.0.0.0"
    port = 8000
    quorum = 3                      # answers in due form that make a round; absent: all
    deadline = 3600                 # seconds

    [tls]                           # made by `fedkim coordinator keys`; there is no plain mode, on one machine neither
    authority = "tls/ca.crt"
    certificate = "tls/server.pem"
    key = "tls/server.key"

    [sites.site-1]
    public_key = "ecdsa-sha2-nistp384 AAAA…"
    modalities = ["image", "signal"]
    tasks = ["lung_opacity", "ecg_abnormal"]
    max_examples = 5000             # of any component, or { "encoder.image" = 5000, … }
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from fedkim.coordinator.member import Member, member_from, require_counts
from fedkim.engines.flower.fingerprint import fingerprint
from fedkim.engines.flower.messages import UPLOADS
from fedkim.engines.flower.waiting import Waiting
from fedkim.errors import FedkimError, unknown
from fedkim.recipe import Recipe, from_dict, import_plugins, load
from fedkim.toml_files import known_keys, read_toml

TABLES = ("recipe", "llm", "public", "network", "tls", "sites")
_OWN = {"llm": ("name",), "public": ("root", "roots")}
"""What may differ from the recipe: where this machine keeps things. All else is what the sites approved."""


@dataclass(frozen=True, kw_only=True)
class Listening(Waiting):
    """The table ``[network]``: where to listen, and how long to wait."""

    host: str = "127.0.0.1"
    """Where to listen; 0.0.0.0 for every interface."""
    port: int = 8000
    uploads: str = "float32"
    """bfloat16: sites send differences in half the bytes; other last bits than in-process."""


@dataclass(frozen=True, kw_only=True)
class TLS:
    """The table ``[tls]``."""

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, kw_only=True)
class FederationFile:
    """A manifest, read and checked."""

    path: Path
    recipe: Recipe
    """As the sites approved it."""
    run_recipe: Recipe
    """The same with this machine's folders in it."""
    out: Path
    network: Listening
    tls: TLS | None
    sites: Mapping[str, Member]

    @property
    def state(self) -> Path:
        """Where Flower's database, logs and this machine's notes are."""
        return _network_folder(self.out)

    def declared(self) -> dict[str, dict[str, int]]:
        """Most examples by site and component."""
        return {name: member.declared(self.recipe) for name, member in self.sites.items()}


def load_federation_file(path: str | Path) -> FederationFile:
    """Read a manifest.

    Raises:
        FedkimError: it isn't there, isn't TOML, or says something that isn't understood.
    """
    path = Path(path)
    return federation_file_from(read_toml(path, "federation file"), path)


def federation_file_from(tables: Mapping[str, Any], path: Path) -> FederationFile:
    """The manifest in the tables of a file, checked as :func:`load_federation_file` does."""
    here = path.resolve().parent
    for name, table in tables.items():
        if name not in TABLES:
            raise FedkimError(f"{path}: unknown table [{name}]", remedy=unknown("table", name, TABLES).remedy)
        if not isinstance(table, Mapping):
            raise FedkimError(f"{path}: {name}", found=repr(table)[:40], expected=f"a table, [{name}]")
    recipe_table = known_keys(tables.get("recipe", {}), ("file", "out"), f"{path}: [recipe]")
    if not isinstance(recipe_table.get("file"), str):
        raise FedkimError(f"{path}: [recipe] file", found="nothing", expected="a recipe's file, in quotes")
    recipe = load(here / recipe_table["file"])  # as it stands: sites approve the file
    import_plugins(recipe.run.plugins)
    network = _network(tables.get("network", {}), path)
    tls = _tls(tables["tls"], path) if "tls" in tables else None
    members = {name: member_from(name, table, path) for name, table in tables.get("sites", {}).items()}
    for member in members.values():
        require_counts(member, recipe, path)
    out = _out(recipe_table.get("out", f"runs/{recipe.run.name}"), path)
    return FederationFile(
        path=path.resolve(),
        recipe=recipe,
        run_recipe=_here(recipe, tables, path),
        out=out,
        network=network,
        tls=tls,
        sites=members,
    )


def network_folder(path: Path) -> Path:
    """Where a manifest's coordinator keeps its notes. Of a manifest that has come out of order the run's folder is enough to find it.

    Raises:
        FedkimError: it can't be read, or is out of order and names no folder.
    """
    tables = read_toml(path, "federation file")
    table = tables.get("recipe")
    if isinstance(table, Mapping) and "out" in table:
        return _network_folder(_out(table["out"], path))
    return federation_file_from(tables, path).state


def _network_folder(out: Path) -> Path:
    return out.parent / f"{out.name}-network"


def _out(name: Any, path: Path) -> Path:
    """The run's folder; the network's folder stands beside it."""
    here = path.resolve().parent
    if not isinstance(name, str) or not name or (here / name).resolve() in (here, *here.parents):
        found, expected = repr(name)[:40], "a folder of the run's own, in quotes"
        raise FedkimError(f"{path}: [recipe] out", found=found, expected=expected)
    return here / name


def require_sites(file: FederationFile) -> None:
    """Refuse a manifest that can't be run.

    Raises:
        FedkimError: no certificate, no site, a site without anything to train or with no key of its own, or a quorum above the
            number of sites.
    """
    if file.tls is None:
        raise FedkimError(
            f"{file.path}: [tls]",
            found="nothing",
            expected="certificates: sites are known by their keys, and keys are checked over TLS alone",
            remedy="make them with `fedkim coordinator keys`",
        )
    if not file.sites:
        raise FedkimError(f"{file.path}: [sites]", found="none", remedy="add one with `fedkim coordinator add-site`")
    for name, declared in file.declared().items():
        if not declared or not all(declared.values()):
            raise FedkimError(
                f"{file.path}: [sites.{name}]",
                found="nothing that it could train of this recipe",
                expected="tasks and modalities of the recipe's seen tasks, with max_examples of at least 1",
            )
    _require_own_keys(file)
    if file.network.quorum > len(file.sites):
        found, expected = str(file.network.quorum)[:40], f"at most {len(file.sites)}, the number of sites"
        raise FedkimError(f"{file.path}: [network] quorum", found=found, expected=expected)


def _require_own_keys(file: FederationFile) -> None:
    owners: dict[bytes, str] = {}
    for name, member in file.sites.items():
        where = f"{file.path}: [sites.{name}] public_key"
        try:
            owner = owners.setdefault(fingerprint(member.public_key), name)
        except FedkimError as error:
            raise FedkimError(where, found=error.found, expected=error.expected, remedy=error.remedy) from None
        if owner != name:
            remedy = "each site makes its own with `fedkim site keys`"
            raise FedkimError(where, found=f"the key of site {owner!r}", expected="one of its own", remedy=remedy)


def _here(recipe: Recipe, tables: Mapping[str, Any], path: Path) -> Recipe:
    """The recipe with ``[llm]`` and ``[public]`` on top; what is computed stays as the sites approved it."""
    own = {name: tables.get(name, {}) for name in _OWN}
    for name, keys in own.items():
        for key in keys:
            if key not in _OWN[name]:
                expected = f"nothing but {' and '.join(_OWN[name])}, which say where this machine keeps things"
                remedy = "set it in the recipe, and have the sites approve that"
                raise FedkimError(f"{path}: [{name}]", found=f"the key {key!r}", expected=expected, remedy=remedy)
    if not any(own.values()):
        return recipe
    whole = recipe.to_dict()
    whole["llm"].update(own["llm"])
    whole["data"].update(own["public"])
    here = from_dict(whole, source=str(path))
    approved, found = (", ".join(each.data.roots) or "no set" for each in (recipe, here))
    if found != approved:
        expected = f"the recipe's sets in its order: {approved}"
        raise FedkimError(f"{path}: [public] roots", found=found, expected=expected)
    return here


def _network(table: Mapping[str, Any], path: Path) -> Listening:
    where = f"{path}: [network]"
    values = dict(known_keys(table, [item.name for item in fields(Listening)], where))
    for name, value in values.items():
        default = getattr(Listening, name)
        # a whole number may be too long for a float
        number = type(value) in (int, float) and 0 <= value <= sys.float_info.max
        if not (number if isinstance(default, int | float) else isinstance(value, str)):
            expected = "a number of at least 0" if isinstance(default, int | float) else "text in quotes"
            raise FedkimError(f"{where} {name}", found=repr(value)[:40], expected=expected)
        if isinstance(default, float):
            values[name] = float(value)
        elif isinstance(default, int) and type(value) is not int:
            raise FedkimError(f"{where} {name}", found=repr(value), expected="a whole number")
    network = replace(Listening(), **values)
    if not 0 < network.port < 65536:
        raise FedkimError(f"{where} port", found=str(network.port)[:40], expected="1 to 65535")
    if network.uploads not in UPLOADS:
        raise FedkimError(f"{where} uploads", found=repr(network.uploads), expected=" or ".join(UPLOADS))
    if network.attempts < 1:
        raise FedkimError(f"{where} attempts", found=str(network.attempts), expected="at least 1")
    if network.deadline <= 0:
        raise FedkimError(f"{where} deadline", found=f"{network.deadline:g}", expected="seconds above 0")
    return network


def _tls(table: Mapping[str, Any], path: Path) -> TLS:
    needed = ("authority", "certificate", "key")
    keys = known_keys(table, needed, f"{path}: [tls]")
    files: dict[str, Path] = {}
    for name in needed:
        files[name] = path.resolve().parent / str(keys.get(name, ""))
        if not files[name].is_file():
            raise FedkimError(
                f"{path}: [tls] {name}", found="no such file", remedy="make it with `fedkim coordinator keys`"
            )
    return TLS(**files)
