"""The gate: which updates may be averaged. It rejects a site's update, never the round.

Two passes. What an update must be by itself (:func:`objection`) is checked on arrival, and by the site before it sends:
round, base, exact tensors, shapes, types, finite values, example counts. What it must be beside the others is checked when all
are there: how far it moved, against the median of the round and against the weights it started from.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from fedkim.aggregation.sums import PIECE, pieces
from fedkim.state import State, Update, component

Counts = Mapping[str, Mapping[str, int]]
"""Most examples a site may claim, by site and component."""

MOST_EXAMPLES = 1 << 53
"""Beyond it whole numbers have no float64 of their own, and shares can't be computed."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far an update may move from the broadcast. Zero switches a limit off."""

    norm: float = 5.0
    """A component may move so many times as far as the round's median, more for a site with more examples."""
    tensor_norm: float = 50.0
    """The same for a single tensor, which is allowed to move as far as its own length in any case."""
    relative: float = 10.0
    """A component may move so many times its own length, however far the others moved."""


NO_LIMITS = Limits(norm=0.0, tensor_norm=0.0, relative=0.0)
"""Any distance will do."""


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """A site whose update was left out, and why."""

    site: str
    code: str
    """``E-NORM``; the codes stand in docs/reliability.md."""
    reason: str


def gate(
    updates: Iterable[Update | Rejection],
    *,
    round: int,
    state: State,
    owned: Mapping[str, Sequence[str]],
    declared: Counts | None = None,
    limits: Limits | None = None,
) -> tuple[list[Update], list[Rejection]]:
    """Split updates into those that may be averaged and those that may not; the accepted ones come in the sites' name order.

    A site's second update with the same content is the same message twice and passes over in silence; with another content
    it is rejected, and the first one stands.

    Args:
        updates: as the engine delivered them; a Rejection stands for a site that has nothing to give, and is handed on.
        round: the round under way.
        state: the state that was broadcast.
        owned: components by site, as registered at the start.
        declared: example counts that each site registered; None: not limited.
        limits: None: the defaults.
    """
    limits = limits or Limits()
    accepted: dict[str, Update] = {}
    rejected: list[Rejection] = []
    for update in updates:
        if isinstance(update, Rejection):
            rejected.append(update)
            continue
        found = _registered(update, owned) or objection(
            update,
            round=round,
            broadcast=state.slice(owned[update.site]),
            declared=declared.get(update.site) if declared is not None else None,
        )
        earlier = accepted.get(update.site)
        if not found and earlier:
            if _content(earlier) == _content(update):
                continue
            found = Rejection(
                site=update.site, code="E-REPLAY", reason="a second update in this round, unlike the first"
            )
        if found:
            rejected.append(found)
        else:
            accepted[update.site] = update
    far = _too_far(list(accepted.values()), state, limits)
    rejected += far
    for rejection in far:
        del accepted[rejection.site]
    return [accepted[site] for site in sorted(accepted)], rejected


def objection(
    update: Update, *, round: int, broadcast: State, declared: Mapping[str, int] | None = None
) -> Rejection | None:
    """What is wrong with one update by itself; None if nothing is. The same check runs at the site before it sends.

    Args:
        update: what is to be averaged.
        round: the round under way.
        broadcast: the slice that the site received.
        declared: most examples by component; None: not limited.
    """

    def reject(code: str, reason: str) -> Rejection:
        return Rejection(site=update.site, code=code, reason=reason)

    if update.round != round:
        return reject("E-ROUND", f"sent for {_number(update.round)}, this is round {round}")
    missing, foreign = sorted(set(broadcast) - set(update.state)), sorted(set(update.state) - set(broadcast))
    if missing or foreign:
        which = f", {missing[0]!r} among them" if missing else ""
        return reject("E-KEYS", f"tensors missing: {len(missing)}{which}; not its own: {len(foreign)}")
    if update.base_digest != broadcast.digest():
        return reject("E-BASE", "trained from other weights than were broadcast")
    for key, tensor in update.state.items():
        if tensor.shape != broadcast[key].shape:
            return reject("E-SHAPE", f"{key} has shape {tuple(tensor.shape)}, not {tuple(broadcast[key].shape)}")
        if tensor.dtype != broadcast[key].dtype:
            return reject("E-DTYPE", f"{key} has type {_type(tensor.dtype)}, not {_type(broadcast[key].dtype)}")
        if not is_finite(tensor):
            return reject("E-FINITE", f"{key} holds NaN or infinity")
    for name in broadcast.components():
        count = update.num_examples.get(name)
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_EXAMPLES:
            return reject("E-COUNT", f"example count of {name} is not a positive whole number")
        if declared is not None and count > declared.get(name, 0):
            return reject("E-COUNT", f"{count:,} examples of {name}, {declared.get(name, 0):,} registered")
    return None


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether every value is: the extremes of a tensor are, and NaN is its own extreme (fifteen times as fast as looking at each)."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return all(bool(extreme.isfinite()) for extreme in tensor.aminmax())


def _registered(update: Update, owned: Mapping[str, Sequence[str]]) -> Rejection | None:
    if update.site in owned:
        return None
    return Rejection(site="unregistered", code="E-SITE", reason="not a registered site")


def _content(update: Update) -> tuple[str, dict[str, int]]:
    return update.state.digest(), dict(update.num_examples)


def _number(value: object) -> str:
    return f"round {value}" if isinstance(value, int) and abs(value) < 10**9 else "no round"


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# how far ---------------------------------------------------------------------------------------------------------


def _too_far(updates: Sequence[Update], state: State, limits: Limits) -> list[Rejection]:
    """The updates that moved absurdly far; at most one objection a site."""
    moved = {update.site: _moved(update, state) for update in updates}
    lengths = {key: _norm(tensor) for key, tensor in state.items() if any(key in moves for moves in moved.values())}
    rejections: list[Rejection] = []
    for update in updates:
        reason = _strayed(update, updates, moved, lengths, limits)
        if reason:
            rejections.append(Rejection(site=update.site, code="E-NORM", reason=reason))
    return rejections


def _strayed(
    update: Update,
    updates: Sequence[Update],
    moved: Mapping[str, Mapping[str, float]],
    lengths: Mapping[str, float],
    limits: Limits,
) -> str:
    own = moved[update.site]
    for name in update.state.components():
        keys = [key for key in own if component(key) == name]
        peers = [other for other in updates if name in other.num_examples and keys[0] in moved[other.site]]
        weights = [key for key in keys if update.state[key].is_floating_point()]  # a counter's steps are no distance
        distances = [_together(moved[peer.site][key] for key in weights) for peer in peers]
        distance, length = _together(own[key] for key in weights), _together(lengths[key] for key in weights)
        if limits.relative and distance > limits.relative * length > 0:
            return f"{name} moved {distance / length:.3g} times its own length, at most {limits.relative:g} are allowed"
        if len(peers) < 3:
            continue  # the median of two is half one's own
        median = statistics.median(distances)
        counts = [peer.num_examples[name] for peer in peers]
        # a site with ten times the examples takes ten times the steps
        share = max(1.0, update.num_examples[name] / statistics.median(counts))
        if limits.norm and distance > limits.norm * share * median > 0:
            times = distance / median
            return f"{name} moved {times:.3g} times the round's median, at most {limits.norm * share:.3g} are allowed"
        if not limits.tensor_norm:
            continue
        for key in keys:
            middle = statistics.median(moved[peer.site][key] for peer in peers)
            if own[key] > max(limits.tensor_norm * share * middle, lengths[key]) and middle > 0:
                return (
                    f"{key} moved {own[key] / middle:.3g} times the round's median and more than its own length, "
                    f"at most {limits.tensor_norm * share:.3g} are allowed"
                )
    return ""


def _moved(update: Update, state: State) -> dict[str, float]:
    """Distance of each tensor from the broadcast, by key."""
    return {key: _norm(tensor, state[key]) for key, tensor in update.state.items()}


def _norm(tensor: torch.Tensor, origin: torch.Tensor | None = None) -> float:
    """Euclidean length in float64, piece by piece; from ``origin`` if given."""
    total = 0.0
    flat = tensor.reshape(-1)
    start = origin.reshape(-1) if origin is not None else None
    for piece in pieces(flat.numel(), PIECE):
        moved = flat[piece].to(torch.float64)
        if start is not None:
            moved = moved - start[piece].to(torch.float64)
        total += float(moved.dot(moved))
    return total**0.5


def _together(norms: Iterable[float]) -> float:
    return sum(norm * norm for norm in norms) ** 0.5
