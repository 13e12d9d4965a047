"""What would leave: a site trains one round on its own, and shows each tensor that a coordinator would get. Nothing is sent."""

from dataclasses import dataclass
from typing import Any

from fedkim.engines.flower.messages import Request
from fedkim.engines.flower.wire import component_digests, encode
from fedkim.site.answering import Answering
from fedkim.site.audit import tensors_of
from fedkim.site.participant import Participant
from fedkim.site.policy import Refusal


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """One site's would-be upload."""

    site: str
    synthetic: bool
    tensors: list[dict[str, Any]]
    """Name, shape, dtype, norm, bytes and sha256 of each."""
    num_bytes: int
    """Of the message."""
    num_examples: dict[str, int]
    metrics: dict[str, float]
    refusal: Refusal | None
    """Why this site would refuse; for the policy's reasons nothing is trained."""


def dry_run(site: Participant, *, uploads: str = "float32") -> DryRun:
    """Train the first round from the recipe's first weights, as if the coordinator had asked for all the site can train."""
    answering = Answering(site, None)
    base = answering.shape
    request = Request(
        run="dry-run",
        round=1,
        site=site.name,
        nonce="0",
        recipe=site.policy.recipe_digest,
        base=base.digest(),
        components=component_digests(base),
        contributors=dict.fromkeys(base.components(), site.policy.min_contributors_per_component),
        uploads=uploads,
    )
    synthetic, refusal = answering.shard.dataset.synthetic, answering.refusal(request)
    if refusal:
        return DryRun(
            site=site.name, synthetic=synthetic, tensors=[], num_bytes=0, num_examples={}, metrics={}, refusal=refusal
        )
    update = answering.train(1, base)
    changed, _ = encode(update.state, base, uploads=uploads)
    num_bytes = len(changed.to_bytes())
    return DryRun(
        site=site.name,
        synthetic=synthetic,
        tensors=tensors_of(changed),
        num_bytes=num_bytes,
        num_examples=dict(update.num_examples),
        metrics=dict(update.metrics),
        refusal=answering.withheld(update, base, changed, num_bytes),
    )
