"""Who may be spoken to: the sites of the manifest, found again among Flower's nodes by their public keys alone."""

from collections.abc import Mapping
from dataclasses import dataclass

from flwr.serverapp import Grid

from fedkim.engines.flower.fingerprint import fingerprint


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A site as the federation's manifest registers it."""

    name: str
    public_key: str
    """One line of OpenSSH, an elliptic curve of NIST's."""
    declared: Mapping[str, int]
    """Most examples it may claim, by component: what it owns is what stands here."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A site's node while it is connected."""

    id: int
    activated: str
    """When it connected last: another time is another process, which knows nothing of messages given to the one before."""


def online(grid: Grid, sites: Mapping[str, Registered]) -> dict[str, Node]:
    """The connected nodes of the manifest's sites, by site. Nodes with any other key are passed over."""
    by_key = {fingerprint(site.public_key): name for name, site in sites.items()}
    found: dict[str, Node] = {}
    for node in grid.get_nodes():
        name = by_key.get(node.public_key)
        if name is not None:
            found[name] = Node(id=node.node_id, activated=node.last_activated_at)
    return found
