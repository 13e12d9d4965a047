"""Strict loading: TOML deltas on a preset, where whatever isn't understood is an error with a hint."""

import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from fedkim.errors import FedkimError, unknown
from fedkim.recipe.presets import PRESETS
from fedkim.recipe.recipe import Recipe
from fedkim.recipe.table import Table
from fedkim.toml_files import read_toml

Deltas = Mapping[str, Mapping[str, Any]]


def load(path: str | Path, *overrides: str) -> Recipe:
    """The recipe in a TOML file, with overrides such as ``"federation.rounds=3"`` on top.

    Raises:
        FedkimError: no such file, not TOML, an unknown table or key, a wrong type or an impossible value.
    """
    deltas = read_toml(Path(path), "recipe")
    return from_dict(deltas, *overrides, source=str(path))


def from_dict(deltas: Deltas, *overrides: str, source: str = "recipe") -> Recipe:
    """The recipe that ``deltas`` (tables of keys) and overrides make of the preset named in ``run.preset``.

    ``source`` is what error messages call the deltas, usually their file.
    """
    layers = [(source, deltas), *((f"setting {override}", _parse_override(override)) for override in overrides)]
    for name, layer in layers:
        _check(name, layer)
    preset = "fast"
    for _, layer in layers:
        preset = layer.get("run", {}).get("preset", preset)
    merged: dict[str, Any] = {}
    for layer in (PRESETS[preset], *(layer for _, layer in layers)):
        merged = _merged(merged, layer)
    try:
        tables: dict[str, Any] = {name: cls(**_coerced(cls, merged.get(name, {}))) for name, cls in _tables().items()}
        return Recipe(**tables)
    except FedkimError as error:
        where = source if not overrides else f"{source} with {', '.join(name for name, _ in layers[1:])}"
        raise FedkimError(
            f"{where}: {error.what}", found=error.found, expected=error.expected, remedy=error.remedy
        ) from None


def _tables() -> dict[str, type[Table]]:
    hints = get_type_hints(Recipe)
    return {table.name: hints[table.name] for table in fields(Recipe)}


def _parse_override(override: str) -> dict[str, Any]:
    """``table.key=value`` with a TOML value; a bare word is taken as text, as the shell would."""
    key, equals, value = override.partition("=")
    shape = FedkimError(f"setting {override}", expected="table.key=value, for example federation.rounds=3")
    if not equals or key.count(".") < 1 or "\n" in override:
        raise shape
    for candidate in (value, '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'):
        try:
            return tomllib.loads(f"{key.strip()} = {candidate}")
        except (ValueError, RecursionError):  # TOMLDecodeError is a ValueError; so are numbers too long to be one
            continue
    raise shape


def _check(source: str, layer: Deltas) -> None:
    """Refuse what the tables don't define: names of tables and keys, and types of values."""
    known = {name: _keys(cls) for name, cls in _tables().items()}
    for table, keys in layer.items():
        if table not in known:
            elsewhere = _holders(table, known) if not isinstance(keys, Mapping) else ""
            what = f"{source}: key {_name(table)} outside the tables" if elsewhere else ""
            remedy = f"put it below {elsewhere}" if elsewhere else unknown("table", table, known).remedy
            raise FedkimError(what or f"{source}: unknown table [{_name(table)}]", remedy=remedy)
        if not isinstance(keys, Mapping):
            raise FedkimError(f"{source}: {table}", found=_kind(keys), expected=f"a table, [{table}]")
        for key, value in keys.items():
            if key not in known[table]:
                elsewhere = _holders(key, known)
                remedy = f"it belongs below {elsewhere}" if elsewhere else unknown("key", key, known[table]).remedy
                raise FedkimError(f"{source}: unknown key {key!r} in [{table}]", remedy=remedy)
            _check_value(f"{source}: [{table}] {key}", value, known[table][key])


def _keys(cls: type[Table]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {item.name: hints[item.name] for item in fields(cls)}


def _holders(key: str, known: Mapping[str, Iterable[str]]) -> str:
    return " or ".join(f"[{table}]" for table, keys in known.items() if key in keys)


def _name(name: str) -> str:
    return name if name.isprintable() and name else repr(name)


def _check_value(where: str, value: Any, hint: Any) -> None:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        if value not in arguments:
            near = get_close_matches(str(value), arguments, n=1, cutoff=0.5)
            remedy = f"did you mean {near[0]!r}?" if near else ""
            raise FedkimError(where, found=_shown(value), expected=" or ".join(map(repr, arguments)), remedy=remedy)
    elif origin is tuple:
        if not isinstance(value, list | tuple):
            raise FedkimError(where, found=_kind(value), expected='a list, for example ["a", "b"]')
        for item in value:
            _check_value(where, item, arguments[0])
    elif origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise FedkimError(where, found=_kind(value), expected="a table of names, for example { image = … }")
        for key, item in value.items():
            _check_value(f"{where}.{_name(key)}", item, arguments[1])
    elif hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not abs(value) <= sys.float_info.max:  # neither infinite nor nan, nor a whole number beyond
            raise FedkimError(where, found=_kind(value), expected="a finite number")
    elif type(value) is not hint:
        raise FedkimError(where, found=_kind(value), expected=_NAMES[hint])


_NAMES = {int: "a whole number", str: "text in quotes", bool: "true or false", float: "a number", list: "a list"}


def _kind(value: Any) -> str:
    name = "a table" if isinstance(value, Mapping) else _NAMES.get(type(value), type(value).__name__)
    return name if isinstance(value, Mapping | list) else f"{name} ({_shown(value)})"


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(below)
    for key, value in above.items():
        old = both.get(key)
        both[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return both


def _coerced(cls: type[Table], keys: Mapping[str, Any]) -> dict[str, Any]:
    """Lists become tuples, whole numbers become floats where a float is meant."""
    hints = get_type_hints(cls)

    def coerced(value: Any, hint: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: coerced(item, get_args(hint)[1]) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return tuple(value)
        return float(value) if hint is float else value

    return {key: coerced(value, hints[key]) for key, value in keys.items()}
