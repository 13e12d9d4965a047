"""Participant: a hospital that takes part in a federation, as its ``site.toml`` says.

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

import os
import ssl
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedkim.data.hospital import load_site_file
from fedkim.data.hospital.site_file import HospitalData
from fedkim.errors import FedkimError
from fedkim.recipe import Recipe, import_plugins, load
from fedkim.site.address import split_address
from fedkim.site.policy import Policy, policy_from
from fedkim.store.files import file_digest
from fedkim.toml_files import known_keys


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
class Participant:
    """A hospital with what it holds, what may leave it and whom it answers."""

    path: Path
    """Its site.toml."""
    name: str
    data: HospitalData
    policy: Policy
    coordinator: Coordinator | None
    """None: it can rehearse, and not join."""
    records: Path
    """Where the site keeps its audit log and logs."""
    read: tuple[str, ...]
    """:meth:`files` as they were when this was read, or earlier: whoever finds others now has to read anew."""

    @property
    def audit(self) -> Path:
        """The audit log."""
        return self.records / "audit.jsonl"

    def files(self) -> tuple[str, ...]:
        """sha256 of its site.toml and its recipe as they stand now; empty where none can be read."""
        return _digest(self.path), _digest(self.path.parent / self.policy.recipe)

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


def load_participant(path: str | Path) -> Participant:
    """Read a site's file.

    Raises:
        FedkimError: it isn't there, isn't TOML, or says something that isn't understood.
    """
    path = Path(os.path.realpath(path))  # unlike resolve() it leaves links in a circle to the reader, who tells them
    own = _digest(path)
    import_approved_plugins(path)
    file = load_site_file(path)
    if not file.policy:
        raise FedkimError(f"{path}", found="no table [policy]", expected="what may leave this site")
    policy = policy_from(file.policy, source=str(path))
    return Participant(
        path=path,
        name=file.site.name,
        data=file.data,
        policy=policy,
        coordinator=_coordinator(file.coordinator, path) if file.coordinator else None,
        records=path.parent / (file.site.folder or f"{file.site.name}-federation"),
        read=(own, _digest(path.parent / policy.recipe)),
    )


def import_approved_plugins(path: Path) -> None:
    """Import what the approved recipe of a site file names, so that a plug-in's tasks are known when the file's labels are read.

    A file or recipe that can't be read, and a recipe that isn't the approved one, is passed over: nothing of it is imported,
    and whoever reads it next says what is wrong.

    Raises:
        FedkimError: an approved plug-in can't be imported.
    """
    try:
        policy = tomllib.loads(path.read_text(encoding="utf-8-sig"))["policy"]
        recipe = load(path.parent / policy["recipe"])
        approved = recipe.digest() == policy["recipe_digest"]
    except (FedkimError, OSError, ValueError, LookupError, TypeError, RecursionError):
        return
    if approved:
        import_plugins(recipe.run.plugins)


def _digest(path: Path) -> str:
    """Empty for what can't be read: whoever reads it says why."""
    try:
        return file_digest(path) if path.is_file() else ""
    except OSError:
        return ""


def require_pem(path: Path, kind: str, where: str) -> None:
    """Refuse a ``key`` or ``certificate`` that Flower's program would hang or die on without a word.

    Raises:
        FedkimError: another file, or one that this account may not read.
    """
    expected, label = {
        "key": ("the private key that `fedkim site keys` made", b"PRIVATE KEY-----"),
        "certificate": ("the coordinator's ca.crt, in PEM", b"-----BEGIN CERTIFICATE-----"),
    }[kind]
    try:
        content = path.read_bytes()
        if kind == "certificate":
            ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        content = b""
    except OSError as error:
        raise FedkimError(
            where, found=error.strerror or type(error).__name__, remedy="give this account access"
        ) from None
    if label not in content:
        raise FedkimError(where, found="something else", expected=expected, remedy="check the path")


def _coordinator(table: Mapping[str, Any], path: Path) -> Coordinator:
    for name, value in known_keys(table, ("address", "key", "certificate"), f"{path}: [coordinator]").items():
        if not isinstance(value, str):
            raise FedkimError(f"{path}: [coordinator] {name}", expected="text in quotes")
    split_address(table.get("address", ""), f"{path}: [coordinator] address")
    files: dict[str, Path] = {}
    for name in ("key", "certificate"):
        if name not in table:
            raise FedkimError(f"{path}: [coordinator]", found=f"no {name}", expected="a file: there is no plain mode")
        files[name] = path.parent / table[name]
        if not files[name].is_file():
            raise FedkimError(f"{path}: [coordinator] {name}", found="no such file", remedy="check the path")
    return Coordinator(address=table["address"], **files)
