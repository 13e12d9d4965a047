"""The gate: which updates may be averaged. It rejects a site's update, never the round."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from fedkim.state import State, Update, component


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """A site whose update was left out, and why."""

    site: str
    reason: str


def gate(
    updates: Iterable[Update], *, round: int, state: State, owned: Mapping[str, Sequence[str]]
) -> tuple[list[Update], list[Rejection]]:
    """Split updates into those that may be averaged and those that may not.

    Checked: round and base digest (a stale or replayed update), exactly the tensors of the components the site owns,
    shapes without broadcasting, dtypes, finite values, example counts that are positive integers, one update a site.

    Args:
        updates: as the engine delivered them.
        round: the round under way.
        state: the state that was broadcast.
        owned: components by site, as registered at the start.
    """
    accepted: list[Update] = []
    rejected: list[Rejection] = []
    seen: set[str] = set()
    for update in updates:
        reason = "a second update in this round" if update.site in seen else _objection(update, round, state, owned)
        seen.add(update.site)
        if reason:
            rejected.append(Rejection(site=update.site, reason=reason))
        else:
            accepted.append(update)
    return accepted, rejected


def _objection(update: Update, round: int, state: State, owned: Mapping[str, Sequence[str]]) -> str | None:
    if update.site not in owned:
        return "not a registered site"
    if update.round != round:
        return f"sent for round {update.round}, this is round {round}"
    expected = state.slice(owned[update.site])
    if update.base_digest != expected.digest():
        return "trained from other weights than were broadcast"
    missing, foreign = set(expected) - set(update.state), set(update.state) - set(expected)
    if missing or foreign:
        return f"{len(missing)} tensors missing and {len(foreign)} foreign, such as {sorted(missing | foreign)[0]!r}"
    for key, tensor in update.state.items():
        if tensor.shape != expected[key].shape:
            return f"{key} has shape {tuple(tensor.shape)}, not {tuple(expected[key].shape)}"
        if tensor.dtype != expected[key].dtype:
            return f"{key} has type {tensor.dtype}, not {expected[key].dtype}"
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return f"{key} holds NaN or infinity"
    for name in sorted({component(key) for key in update.state}):
        count = update.num_examples.get(name)
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            return f"example count of {name} is not a positive integer"
    return None
