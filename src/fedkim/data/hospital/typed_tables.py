"""TOML tables as dataclasses, every value of the type that is declared for it; what doesn't fit becomes a finding."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from fedkim.data.findings import Findings


def broken_toml(error: Exception) -> str:
    """What a TOML parser's error says without the text it stumbled over, which may have slipped in from a table: the line."""
    line = re.search(r"at line (\d+)", str(error))
    return f"broken TOML{f' in line {line[1]}' if line else ''}"


def filled(cls: type, raw: Any, where: str, file: str, findings: Findings) -> Any:
    """A dataclass from a TOML table; None (and findings) where it doesn't fit."""
    if not isinstance(raw, Mapping):
        findings.add("E-SITE-VALUE", file=file, field=where, found=kind_of(raw), expected=f"a table, [{where}]")
        return None
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in hints:
            near = get_close_matches(key, list(hints), n=1, cutoff=0.5)
            remedy = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(hints)}"
            field_name = f"{where}.{short(key)}"
            findings.add("E-SITE-KEY", file=file, field=field_name, found="an unknown key", remedy=remedy)
            continue
        values[key] = _fitted(value, hints[key], f"{where}.{key}", file, findings)
    for item in fields(cls):
        if item.default is MISSING and item.default_factory is MISSING and item.name not in raw:
            findings.add("E-SITE-KEY", file=file, field=f"{where}.{item.name}", found="nothing", expected="a value")
            return None
    return cls(**values) if None not in values.values() else None


def _fitted(value: Any, hint: Any, where: str, file: str, findings: Findings) -> Any:
    """``value`` as the type that ``hint`` asks for; None (and a finding) if it is another."""
    if get_origin(hint) is UnionType:
        hint = next(argument for argument in get_args(hint) if argument is not type(None))
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return filled(hint, value, where, file, findings)  # type: ignore[arg-type]
    if origin is Literal:
        if isinstance(value, str) and value in arguments:
            return value
        expected = " or ".join(repr(argument) for argument in arguments)
    elif origin is tuple:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        expected = 'a list of texts, such as ["a", "b"]'
    elif origin is not None:  # a mapping
        if isinstance(value, Mapping):
            items = {
                key: _fitted(item, arguments[1], f"{where}.{short(key)}", file, findings) for key, item in value.items()
            }
            return None if None in items.values() else items
        expected = "a table"
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            expected = "a number that fits"
    elif type(value) is hint:
        return value
    else:
        expected = _KINDS.get(hint, hint.__name__)
    findings.add("E-SITE-VALUE", file=file, field=where, found=kind_of(value), expected=expected)
    return None


_KINDS: Mapping[type, str] = {
    str: "text in quotes", int: "a whole number", float: "a number", bool: "true or false", list: "a list",
    dict: "a table",
}  # fmt: skip


def kind_of(value: Any) -> str:
    """What a value is, in words; the value itself isn't repeated, it may have slipped in from a table."""
    return _KINDS.get(type(value), type(value).__name__)


def short(name: str) -> str:
    """A key as a message may show it: cut, and nothing unprintable."""
    return name if len(name) <= 40 and name.isprintable() else ascii(name[:40])[1:-1] + "…"
