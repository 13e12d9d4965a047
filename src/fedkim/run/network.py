"""Sites elsewhere: what a run needs to know when its hospitals are on a network rather than in this process."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedkim.federation import Exchange


@dataclass(frozen=True, kw_only=True)
class Network:
    """The sites of a manifest, and the engine that reaches them. Their data never come here."""

    declared: Mapping[str, Mapping[str, int]]
    """Most examples by site and component; what a site owns is what stands here."""
    exchange: Exchange
