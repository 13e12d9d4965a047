"""Verbs of a federation on a network: ``coordinator``, ``site``, ``status``, ``stop``."""

import json
import sys
import time
from pathlib import Path
from typing import Literal

from cyclopts import App

from fedkim.cli.options import AsJson
from fedkim.errors import FedkimError

coordinator = App(name="coordinator", help="Run a federation over hospitals on a network (docs/federation.md).")
site = App(name="site", help="A hospital's side of a federation on a network (docs/federation.md).")
audit = App(name="audit", help="The record of everything that left this site.")
site.command(audit)


def _say(text: str) -> None:
    print(text, flush=True)


@coordinator.command
def start(federation: Path, /) -> None:
    """Run a federation, or resume it, until it ends. Exit status 75 if it ended with a reason; the same command resumes.

    Args:
        federation: The manifest, federation.toml.
    """
    from fedkim.coordinator.federation_file import load_federation_file
    from fedkim.coordinator.starting import start as begin

    standing = begin(load_federation_file(federation), _say)
    if standing["state"] != "finished":
        print(f"fedkim: {standing['state']}: {standing.get('reason', '')}", file=sys.stderr)
        raise SystemExit(75)
    print(f"finished; digest of the final weights {standing['digest']}")


@coordinator.command(name="keys")
def coordinator_keys(federation: Path, /, *, host: list[str]) -> None:
    """Make the coordinator's certificate in tls/ beside the manifest, and print the table that names it.

    Args:
        federation: The manifest, federation.toml; need not exist yet.
        host: A name or address by which sites reach the coordinator. May be repeated.
    """
    from fedkim.coordinator.certificates import make_certificates

    make_certificates(federation.parent / "tls", host)
    print('[tls]\nauthority = "tls/ca.crt"\ncertificate = "tls/server.pem"\nkey = "tls/server.key"')


@coordinator.command
def add_site(
    federation: Path,
    /,
    *,
    name: str,
    key: str,
    modalities: list[str],
    tasks: list[str],
    max_examples: int,
) -> None:
    """Add a site to the manifest. A running coordinator takes it in at its next start.

    Args:
        federation: The manifest, federation.toml.
        name: The site's name.
        key: Its public key, the file or the line that `fedkim site keys` printed.
        modalities: What it has: image, signal, …. May be repeated.
        tasks: What it can teach. May be repeated.
        max_examples: More than so many of any component it may not claim.
    """
    from fedkim.coordinator.manifest import add_site as add

    add(federation, name=name, key=key, modalities=modalities, tasks=tasks, max_examples=max_examples)
    print(f"{name} is in {federation}")


@coordinator.command
def remove_site(federation: Path, /, *, name: str) -> None:
    """Take a site out of the manifest; its key is refused from the coordinator's next start on.

    Args:
        federation: The manifest, federation.toml.
        name: The site's name.
    """
    from fedkim.coordinator.manifest import remove_site as remove

    remove(federation, name=name)
    print(f"{name} is in {federation} no more")


@site.command
def join(site_file: Path, /) -> None:
    """Take part in a federation until interrupted.

    Args:
        site_file: This hospital's site.toml.
    """
    from fedkim.site.joining import join as take_part
    from fedkim.site.participant import load_participant

    take_part(load_participant(site_file), _say)


@site.command
def keys(*, out: Path) -> None:
    """Make this site's key pair: OUT stays here, the printed line goes to the coordinator.

    Args:
        out: The private key's file; the public key goes beside it, with .pub.
    """
    from fedkim.site.keys import make_site_keys

    print(make_site_keys(out))


@site.command
def approve(recipe: Path, /) -> None:
    """Show a recipe as it would run, with the digest to put into policy.recipe_digest if you approve.

    Args:
        recipe: The recipe's file.
    """
    from fedkim.recipe import load

    chosen = load(recipe)
    print(chosen.to_toml())
    print(f'recipe_digest = "{chosen.digest()}"')


@site.command
def dry_run(
    site_file: Path, /, *, uploads: Literal["float32", "bfloat16"] = "float32", as_json: AsJson = False
) -> None:
    """Train one round here, and show every tensor that would leave. Nothing is sent.

    Args:
        site_file: This hospital's site.toml.
        uploads: What the coordinator's [network] uploads says.
        as_json: Print JSON.
    """
    from dataclasses import asdict

    from fedkim.site.dry_run import dry_run as rehearse
    from fedkim.site.participant import load_participant

    done = rehearse(load_participant(site_file), uploads=uploads)
    if as_json:
        print(json.dumps(asdict(done), indent=1))
        return
    print(f"{'tensor':<60} {'shape':<18} {'type':<9} {'norm':>10} {'bytes':>10}")
    for tensor in done.tensors:
        shape = "×".join(map(str, tensor["shape"])) or "one number"
        print(f"{tensor['name']:<60} {shape:<18} {tensor['dtype']:<9} {tensor['norm']:>10.4g} {tensor['bytes']:>10,}")
    print(f"{len(done.tensors)} tensors, {done.num_bytes:,} bytes in one message; besides them these numbers:")
    print(f"  examples by component: {json.dumps(done.num_examples)}")
    print(f"  means: {json.dumps({name: round(value, 4) for name, value in done.metrics.items()})}")
    print("nothing was sent" + (" (synthetic data)" if done.synthetic else ""))
    if done.refusal:
        print(f"this site would refuse: {done.refusal.code}, {done.refusal.reason}")


@audit.command
def verify(site_file: Path, /, *, head: str | None = None) -> None:
    """Follow the audit log's chain from its first line to its last.

    Args:
        site_file: This hospital's site.toml.
        head: A head that the coordinator noted: shows lines cut off at the end.
    """
    from fedkim.site.audit import verify as follow
    from fedkim.site.participant import load_participant

    found = follow(load_participant(site_file).audit, head=head)
    print(f"whole: {found.entries} lines, {found.sent} replies with {found.bytes:,} bytes left; head {found.head}")


def status(run: Path, /, *, as_json: AsJson = False, live: bool = False) -> None:
    """How a run stands, whatever its engine.

    Args:
        run: A run's folder, or a federation's manifest.
        as_json: Print JSON.
        live: Print anew every two seconds until it ends.
    """
    from fedkim.coordinator.standing import TERMINAL
    from fedkim.coordinator.status import status_of, status_text

    while True:
        found = status_of(run)
        print(json.dumps(found, indent=1) if as_json else status_text(found), flush=True)
        if not live or found["state"] in TERMINAL:
            return
        time.sleep(2.0)


def stop(federation: Path, /) -> None:
    """End a running coordinator after the round in progress is given up; committed rounds stay, and the same start resumes.

    Args:
        federation: The manifest, federation.toml.
    """
    from fedkim.coordinator.federation_file import network_folder
    from fedkim.coordinator.starting import stop as end

    process = end(network_folder(federation))
    if process is None:
        raise FedkimError(f"federation {federation}", found="no coordinator at work", expected="one")
    print(f"asked process {process} to end")
