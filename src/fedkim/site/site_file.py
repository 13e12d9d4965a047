"""``site.toml``: a hospital's one file for a federation.

::

    [site]
    name = "site-1"

    [data]
    source = "hospital"             # your own tables (docs/data/hospital.md), or
    # source = "recipe"             # the synthetic shard that the approved recipe deals to shard = "site-1"

    [policy]                        # what may leave: see fedkim.site.policy

    [coordinator]
    address = "fedkim.example.org:8000"
    certificate = "ca.crt"          # the authority that signed the coordinator's certificate
    key = "site-1.key"              # made by `fedkim site keys`
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedkim.data.hospital.typed_tables import broken_toml
from fedkim.errors import FedkimError, unknown
from fedkim.recipe import Recipe, load
from fedkim.site.policy import Policy, policy_from

TABLES = ("site", "data", "policy", "coordinator")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SITE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Coordinator:
    """The table ``[coordinator]``."""

    address: str
    """``host:port``."""
    key: Path
    """This site's private key."""
    certificate: Path
    """The authority that signed the coordinator's certificate. There is no plain mode."""


@dataclass(frozen=True, kw_only=True)
class SiteFile:
    """A site's file, read and checked."""

    path: Path
    name: str
    data: Mapping[str, Any]
    policy: Policy
    coordinator: Coordinator | None
    folder: Path
    """Where the site keeps its audit log and logs."""

    @property
    def audit(self) -> Path:
        """The audit log."""
        return self.folder / "audit.jsonl"

    def recipe(self) -> Recipe:
        """The approved recipe.

        Raises:
            FedkimError: the file isn't the one that was approved any more.
        """
        path = self.path.parent / self.policy.recipe
        recipe = load(path)
        if recipe.digest() != self.policy.recipe_digest:
            raise FedkimError(
                f"recipe {path}",
                found=f"digest {recipe.digest()[:12]}…",
                expected=f"{self.policy.recipe_digest[:12]}…, as approved in {self.path}",
                remedy="look at it, and if you approve set policy.recipe_digest to what `fedkim site approve` prints",
            )
        return recipe


def load_site_file(path: str | Path) -> SiteFile:
    """Read a site's file.

    Raises:
        FedkimError: it isn't there, isn't TOML, or says something that isn't understood.
    """
    path = Path(path)
    tables = read_tables(path, "site file")
    for name, table in tables.items():
        if name not in TABLES:
            raise FedkimError(f"{path}: unknown table [{name}]", remedy=unknown("table", name, TABLES).remedy)
        if not isinstance(table, Mapping):
            raise FedkimError(f"{path}: {name}", expected=f"a table, [{name}]")
    for name in ("site", "data", "policy"):
        if name not in tables:
            raise FedkimError(f"{path}", found=f"no table [{name}]", expected=", ".join(f"[{name}]" for name in TABLES))
    name = tables["site"].get("name")
    if not isinstance(name, str) or not SITE_NAME.fullmatch(name):
        raise FedkimError(f"{path}: [site] name", expected="letters, digits, '_', '-' and '.', beginning with a letter")
    _known(tables["site"], ("name", "contact", "folder"), f"{path}: [site]")
    source = tables["data"].get("source", "hospital")
    if source == "recipe":  # what "hospital" may say is checked as its tables are read
        _known(tables["data"], ("source", "shard"), f"{path}: [data]")
    if source == "recipe" and not isinstance(tables["data"].get("shard"), str):
        raise FedkimError(f"{path}: [data] shard", found="nothing", expected='a site of the recipe, such as "site-1"')
    folder = tables["site"].get("folder", f"{name}-federation")
    return SiteFile(
        path=path.resolve(),
        name=name,
        data={**tables["data"], "source": source},
        policy=policy_from(tables["policy"], source=str(path)),
        coordinator=_coordinator(tables["coordinator"], path) if "coordinator" in tables else None,
        folder=path.resolve().parent / str(folder),
    )


def read_tables(path: Path, what: str) -> dict[str, Any]:
    """A TOML file's tables.

    Raises:
        FedkimError: no such file, or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise FedkimError(f"{what} {path}", found="no such file", remedy="check the path") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and what int() and deep nesting raise
        remedy = "values that are text stand in quotes"
        raise FedkimError(f"{what} {path}", found=broken_toml(error), remedy=remedy) from None
    except OSError as error:
        raise FedkimError(f"{what} {path}", found=error.strerror or "unreadable", expected="a TOML file") from None


def split_address(address: object, where: str) -> tuple[str, int]:
    """``("host", port)`` of ``"host:port"``.

    Raises:
        FedkimError: it isn't one.
    """
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise FedkimError(where, found=repr(str(address)[:80]), expected='"host:port"')
    return host.strip("[]"), int(port)


def _coordinator(table: Mapping[str, Any], path: Path) -> Coordinator:
    _known(table, ("address", "key", "certificate"), f"{path}: [coordinator]")
    for name, value in table.items():
        if not isinstance(value, str):
            raise FedkimError(f"{path}: [coordinator] {name}", expected="text in quotes")
    split_address(table.get("address", ""), f"{path}: [coordinator] address")
    files: dict[str, Path] = {}
    for name in ("key", "certificate"):
        if name not in table:
            raise FedkimError(f"{path}: [coordinator]", found=f"no {name}", expected="a file: there is no plain mode")
        files[name] = path.resolve().parent / table[name]
        if not files[name].is_file():
            raise FedkimError(f"{path}: [coordinator] {name}", found="no such file", remedy="check the path")
    return Coordinator(address=table["address"], **files)


def _known(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in table:
        if name not in known:
            raise FedkimError(f"{where}: unknown key {name!r}", remedy=unknown("key", name, known).remedy)
