"""What the tables of a recipe have in common."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

from fedkim.errors import FedkimError


@dataclass(frozen=True, kw_only=True)
class Table:
    """What all tables share: a name, and checks whose errors name table and key."""

    table: ClassVar[str]

    def _require(self, key: str, ok: bool, expected: str) -> None:
        if not ok:
            raise FedkimError(f"[{self.table}] {key}", found=_shown(getattr(self, key)), expected=expected)

    def _at_least(self, minimum: int, *keys: str) -> None:
        for key in keys:
            self._require(key, getattr(self, key) >= minimum, f"at least {minimum}")

    def _at_most(self, maximum: int, why: str, *keys: str) -> None:
        for key in keys:
            self._require(key, getattr(self, key) <= maximum, f"at most {maximum:,}: {why}")

    def _positive(self, *keys: str) -> None:
        for key in keys:
            self._require(key, getattr(self, key) > 0, "a number above 0")

    def _fraction(self, *keys: str) -> None:
        for key in keys:
            self._require(key, 0 <= getattr(self, key) <= 1, "a number between 0 and 1")

    def _distinct(self, *keys: str) -> None:
        for key in keys:
            values: Collection[str] = getattr(self, key)
            self._require(key, len(set(values)) == len(values), "each name once")


def _shown(value: Any) -> str:
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 60 else text[:57] + "..."
