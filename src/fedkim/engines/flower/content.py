"""Header and bytes as Flower carries them: the bytes as one opaque array, cut and stored by Flower and never decoded."""

import json
from collections.abc import Mapping
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

CODEC = "fedkim.bytes"
"""Names no codec of Flower's, so that asking it for a numpy array is an error and not a decoding."""


def pack(header: Mapping[str, Any], body: bytes) -> RecordDict:
    """A message's content."""
    records: dict[str, Any] = {"header": ConfigRecord({"json": json.dumps(header, allow_nan=False)})}
    if body:
        records["body"] = ArrayRecord({"bytes": Array("uint8", (len(body),), CODEC, body)})
    return RecordDict(records)


def unpack(content: RecordDict) -> tuple[dict[str, Any], bytes]:
    """The inverse of :func:`pack`.

    Raises:
        ValueError: the content isn't of that form.
    """
    try:
        header = json.loads(str(content.config_records["header"]["json"]))
        body = content.array_records["body"]["bytes"].data if "body" in content.array_records else b""
    except (KeyError, AttributeError, TypeError, RecursionError):
        raise ValueError("a message of another form") from None
    if not isinstance(header, dict):
        raise ValueError("a message of another form")
    return header, body
