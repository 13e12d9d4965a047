"""Events: what a run tells about itself, with no room for anything about a patient."""

import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedkim.store.files import cut_torn_line, json_lines, refused

FIELDS = frozenset(
    {
        "accepted",
        "bytes",
        "component",
        "digest",
        "entropy",
        "expert",
        "high",
        "leftovers",
        "loss",
        "low",
        "reason",
        "received",
        "round",
        "seconds",
        "sent",
        "site",
        "sites",
        "split",
        "step",
        "task",
        "value",
        "variation",
    }
)
"""The names an event's fields may have: an allow-list, so that nothing slips in with a new field."""

_SHORT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+\-]{0,63}")


class Events:
    """``events.jsonl``: appended line by line, each line one JSON object ``{"time", "event", …}``."""

    def __init__(self, path: Path):
        self.path = path

    def mend(self) -> None:
        """Cut off the line that a dying process left half-written."""
        cut_torn_line(self.path)

    def append(self, event: str, **fields: Any) -> None:
        """Add one line.

        Raises:
            ValueError: a field that isn't in :data:`FIELDS`, or a value that is neither number nor short name.
            FedkimError: the disk is full or refuses.
        """
        record: dict[str, Any] = {"time": round(time.time(), 3), "event": _allowed("event", event)}
        for name, value in fields.items():
            if name not in FIELDS:
                raise ValueError(f"event field {name!r} isn't in the allow-list fedkim.store.events.FIELDS")
            record[name] = _allowed(name, value)
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise refused(self.path, error) from None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return json_lines(self.path)


def _allowed(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str) and _SHORT.fullmatch(value):
        return value
    raise ValueError(f"event field {name!r} must be a number or a short name, not {type(value).__name__}")
