"""What is said between coordinator and site: a request and a reply, each a small header beside one safetensors byte string.

A header comes from another institution, so it is checked field by field before anything is done with it.
"""

import dataclasses
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin, get_type_hints

from fedkim.errors import FedkimError

UPLOADS = ("float32", "bfloat16")
"""How a federation lets weights come back."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}|")
_HEAD = re.compile(r"(?:[0-9a-f]{64})?")
"""Of an audit log."""
_MOST_ENTRIES = 512


@dataclass(frozen=True, kw_only=True)
class Request:
    """The coordinator asks a site to train one round. The body holds the components that the site lacks."""

    run: str
    """Name of this federation's run, the same after a restart."""
    round: int
    site: str
    nonce: str
    """Comes back in the reply: an answer to another question is no answer."""
    recipe: str
    """Digest of the recipe that the site must have approved."""
    base: str
    """Digest of the whole slice to start from."""
    components: Mapping[str, str]
    """The slice: digest by component."""
    contributors: Mapping[str, int]
    """How many sites at least give each component if this round comes about, the one that is asked included."""
    uploads: str = "float32"
    """How weights come back: float32 as they are, bfloat16 as differences from the base."""
    seconds: float = 3600.0
    """Until the coordinator's deadline."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The site's answer. The body holds the components that changed."""

    run: str
    round: int
    site: str
    nonce: str
    status: str
    """ok · need (the site lacks components; see ``held``) · refused (by its policy) · failed."""
    code: str = ""
    """Why it refused or failed: ``E-POLICY-…``."""
    base: str = ""
    num_examples: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    unchanged: tuple[str, ...] = ()
    """Components that training left as they were; they aren't sent."""
    held: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Digests of what the site still has, by component."""
    audit: str = ""
    """Head of the site's audit log once this reply is in it: kept by the coordinator, it shows a log cut short."""
    seconds: float = 0.0
    """The site's own time."""


def to_header(message: Request | Reply) -> dict[str, Any]:
    """A message as JSON holds it."""
    return json.loads(json.dumps(dataclasses.asdict(message), allow_nan=False))


def unanswered(header: Mapping[str, Any], status: str, code: str) -> dict[str, Any]:
    """The header of a reply to what may be no request: it repeats by what a question is known, where that has due form."""
    known: dict[str, Any] = {}
    for name in ("run", "site", "nonce", "round"):
        hint = _HINTS[Reply][name]
        try:
            known[name] = _checked(name, header.get(name), hint)
        except FedkimError:
            known[name] = hint()
    return {**known, "status": status, "code": code}


def request_from(header: Mapping[str, Any]) -> Request:
    """The request in a header.

    Raises:
        FedkimError: a field is missing, unknown, of another type or too long, or uploads in a form that isn't known.
    """
    request = Request(**_fields(Request, header))
    if request.uploads not in UPLOADS:  # rather now than when the site has trained
        raise FedkimError("field 'uploads' of a message", found=repr(request.uploads), expected=" or ".join(UPLOADS))
    return request


def reply_from(header: Mapping[str, Any]) -> Reply:
    """The reply in a header; raises as :func:`request_from`."""
    return Reply(**_fields(Reply, header))


def _fields(cls: type[Request] | type[Reply], header: Mapping[str, Any]) -> dict[str, Any]:
    hints = _HINTS[cls]
    known = {item.name: item for item in dataclasses.fields(cls)}
    needed = {name for name, item in known.items() if item.default is item.default_factory is dataclasses.MISSING}
    if not needed <= set(header) <= set(known):
        raise FedkimError(f"a {cls.__name__.lower()}'s header", found="other fields", expected=", ".join(known))
    return {name: _checked(name, value, hints[name]) for name, value in header.items()}


_HINTS = {cls: get_type_hints(cls) for cls in (Request, Reply)}


def _checked(name: str, value: Any, hint: Any) -> Any:
    if hint is str and isinstance(value, str) and (_HEAD if name == "audit" else _NAME).fullmatch(value):
        return value
    if hint is int and type(value) is int and 0 <= value < 1 << 53:
        return value
    # neither NaN nor a whole number too long for a float is within
    if hint is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    if get_origin(hint) is tuple and isinstance(value, list) and len(value) <= _MOST_ENTRIES:
        return tuple(_checked(name, item, get_args(hint)[0]) for item in value)
    if isinstance(value, dict) and get_origin(hint) is not None and len(value) <= _MOST_ENTRIES:
        inner = get_args(hint)[1]
        return {_checked(name, key, str): _checked(name, item, inner) for key, item in value.items()}
    raise FedkimError(f"field {name!r} of a message", found=type(value).__name__, expected="a short name or a number")
