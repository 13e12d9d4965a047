"""Weights on the wire: only what changed, and where a federation says so in half the bytes.

With ``bfloat16`` a site sends the *difference* from the weights it received: rounded to eight bits, a difference keeps its
direction, where a rounded weight would lose a whole round's training. Broadcasts are always exact.
"""

from collections.abc import Collection

import torch
from torch import Tensor

from fedkim.engines.flower.messages import UPLOADS
from fedkim.errors import FedkimError
from fedkim.state import LONGEST_HEADER, State


def upload_form(base: State, *, unchanged: Collection[str], uploads: str) -> State:
    """A state of the names, shapes and types that an upload must have."""
    changed = base.slice(set(base.components()) - set(unchanged))
    half = uploads == "bfloat16"
    return State({key: _difference(tensor, tensor) if half else tensor for key, tensor in changed.items()})


def component_digests(state: State) -> dict[str, str]:
    """Digest by component."""
    return {name: state.slice([name]).digest() for name in state.components()}


def encode(trained: State, base: State, *, uploads: str) -> tuple[State, tuple[str, ...]]:
    """What has to be sent so that the other end, which has ``base``, can make ``trained``; and the components it needn't.

    Raises:
        FedkimError: an unknown form of uploads.
    """
    if uploads not in UPLOADS:
        raise FedkimError("uploads", found=repr(uploads), expected=" or ".join(UPLOADS))
    before = component_digests(base)
    unchanged = tuple(name for name, digest in component_digests(trained).items() if before.get(name) == digest)
    changed = trained.slice(set(trained.components()) - set(unchanged))
    if uploads == "bfloat16":
        changed = State({key: _difference(tensor, base[key]) for key, tensor in changed.items()})
    return changed, unchanged


def decode(sent: State, base: State, *, unchanged: tuple[str, ...], uploads: str) -> State:
    """The inverse of :func:`encode`.

    Raises:
        FedkimError: a difference from a tensor that isn't in ``base``, or of another shape.
    """
    if uploads == "bfloat16":
        whole = {}
        for key, tensor in sent.items():
            if key not in base or base[key].shape != tensor.shape:
                raise FedkimError("an update", found="a difference from no tensor that was broadcast")
            # what was no float32 at the site was sent whole
            differs = tensor.dtype == torch.bfloat16 and base[key].dtype == torch.float32
            whole[key] = base[key] + tensor.float() if differs else tensor
        sent = State(whole)
    return sent.updated(base.slice(set(unchanged)))


def state_from(body: bytes, *, most: int, expected: State | None = None) -> State:
    """The state in a byte string from another institution; sizes are checked before it is read.

    Args:
        body: safetensors, or empty for no tensors.
        most: bytes of tensors it may hold.
        expected: names, shapes and types that it must announce, where they are known.

    Raises:
        FedkimError: too large, no safetensors, or not what is expected.
    """
    if not body and not expected:
        return State()
    if len(body) > most + LONGEST_HEADER:
        raise FedkimError("a message", found=f"{len(body):,} bytes", expected=f"at most {most + LONGEST_HEADER:,}")
    return State.from_bytes(body, expected=expected)


def _difference(tensor: Tensor, base: Tensor) -> Tensor:
    return (tensor - base).to(torch.bfloat16) if tensor.dtype == torch.float32 else tensor
