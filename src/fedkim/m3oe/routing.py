"""The side channel that carries the route α from the caller to every adapted layer.

# R routed rows (1, or one per sample), P experts, r rank

A route can't travel through the language model's own arguments, and hooks that inject it vanish when gradient
checkpointing recomputes a block. So each adapted layer holds a reference to one shared channel, which is neither a
module nor part of any state dict.

A route belongs to the thread that set it: two threads may train two micro-batches over one shared model, each with
its own route. A thread without a route of its own (CUDA runs the backward pass, and with it the recomputation, in a
thread of its own) takes the only one there is; where several threads hold different routes it gets an error rather
than a guess.
"""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from fedkim.errors import FedkimError
from fedkim.m3oe.dropout import thin


class Gate:
    """One adapter's route as the layers use it: ``α_p · s``, repeated over the r ranks of each expert.

    Scaled and repeated once when the route is set, because each of some two hundred layers reads it.
    """

    def __init__(self, weights: Tensor, *, rank: int, scaling: float, dtype: torch.dtype):
        self.weights = weights  # [R, P]
        self.rows = weights.shape[0]
        master = weights if weights.dtype == torch.float64 else weights.float()
        self.full = (master * scaling).repeat_interleave(rank, dim=-1).unsqueeze(1)  # [R, 1, P·r]
        self.cast = self.full.to(dtype)

    def of(self, hidden: Tensor) -> Tensor:
        """The gate that multiplies ``hidden`` [B, ..., P·r], in its dtype and on its device.

        A batch that grew by a whole factor without gradients is a beam search (or several returned sequences):
        each row is repeated as ``generate`` repeats its inputs.
        """
        if self.full.device != hidden.device and not self.full.requires_grad:
            self.full, self.cast = self.full.to(hidden.device), self.cast.to(hidden.device)  # once, not in each layer
        value = self.full
        if not (value.requires_grad and torch.is_grad_enabled()):
            value = self.cast
        # α's gradient is a sum over some two hundred layers: cast per layer, so that it adds up in float32
        if value.dtype != hidden.dtype or value.device != hidden.device:
            value = value.to(device=hidden.device, dtype=hidden.dtype)
        if self.rows == 1:
            return value.view(-1)
        batch = hidden.shape[0]
        if hidden.dim() < 3 or batch % self.rows or (batch != self.rows and torch.is_grad_enabled()):
            raise FedkimError(
                "the route doesn't fit the batch",
                found=f"{self.rows} routes and a layer input of shape {list(hidden.shape[:-1])}",
                expected="one route, or one per sample of the batch",
            )
        if batch != self.rows:
            value = value.repeat_interleave(batch // self.rows, dim=0)
        return value if hidden.dim() == 3 else value.view(batch, *(1 for _ in hidden.shape[2:]), -1)


class Active:
    """What a thread has set: a gate per adapter and, for reproducible dropout, the seed of this block's masks."""

    def __init__(self, gates: dict[str, Gate], seed: int | None = None):
        self.gates = gates
        self.seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def dropout(self, x: Tensor, share: float, layer_seed: int) -> tuple[Tensor, float]:
        """Thinned x and its factor; with a seed the mask is a pure function of it and of the layer's name.

        Not of how often a generator was drawn from: so the recomputation under gradient checkpointing sees the same
        mask, and threads can't disturb each other.
        """
        if self.seed is None:
            return thin(x, share)
        generator = self._generators.get(x.device)
        if generator is None:
            generator = self._generators[x.device] = torch.Generator(device=x.device)
        generator.manual_seed((self.seed ^ (layer_seed * 0x9E3779B97F4A7C15)) & 0x7FFFFFFFFFFFFFFF)
        return thin(x, share, generator)


class _Slot:
    """One thread's place in the channel; it vanishes with its thread."""

    def __init__(self) -> None:
        self.active: Active | None = None


_NOTHING = Active({})


class RouteChannel:
    """Routes by thread, with the only one there is as everybody's fallback."""

    def __init__(self) -> None:
        self.fixed: dict[str, Gate] = {}
        """Adapters that need no route: a single expert, or the uniform mixture."""
        self.shared = _NOTHING
        """What was set last by any thread; compiled code reads this, since it can't look at threads."""
        self._local = threading.local()
        self._slots: weakref.WeakSet[_Slot] = weakref.WeakSet()
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, object]) -> "RouteChannel":
        """A copied model gets an empty channel of its own, shared by its own layers."""
        copy = RouteChannel()
        copy.fixed = dict(self.fixed)
        memo[id(self)] = copy
        return copy

    def __reduce__(self) -> tuple[type, tuple[()], dict[str, object]]:
        return RouteChannel, (), {"fixed": self.fixed}

    def own(self) -> Active | None:
        """What this thread has set itself."""
        slot = getattr(self._local, "slot", None)
        return None if slot is None else slot.active

    def set(self, active: Active | None) -> None:
        """Set or (None) clear this thread's route."""
        slot = getattr(self._local, "slot", None)
        if slot is None:
            slot = self._local.slot = _Slot()
            with self._lock:
                self._slots.add(slot)
        slot.active = active
        self.shared = _NOTHING if active is None else active

    @contextmanager
    def using(self, active: Active) -> Iterator[None]:
        """Hold a route for the length of a block, backward pass included, and put the former one back."""
        before = self.own()
        self.set(active)
        try:
            yield
        finally:
            self.set(before)

    def current(self) -> Active:
        """This thread's own, else the only one any thread has set; empty where there is none."""
        if torch.compiler.is_compiling():
            return self.shared
        own = self.own()
        if own is not None:
            return own
        with self._lock:
            others = {id(slot.active): slot.active for slot in self._slots if slot.active is not None}
        if len(others) > 1:
            raise FedkimError(
                "this thread has set no route and several other threads hold different ones",
                remedy="set the route in this thread; with CUDA and gradient checkpointing train in one thread",
            )
        return next(iter(others.values()), _NOTHING)

    def gate(self, active: Active, adapter: str) -> Gate:
        """The gate of an adapter, or the error that says how to set one."""
        gate = active.gates.get(adapter) or self.fixed.get(adapter)
        if gate is None:
            raise FedkimError(
                f"no route is set for the M3OE adapter {adapter!r}",
                remedy="call model.set_route(...) or use `with model.using(weights):` until backward has finished",
            )
        return gate
