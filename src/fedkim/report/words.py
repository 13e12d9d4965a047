"""Numbers as text, the same everywhere on the page."""

from collections.abc import Mapping
from typing import Any

DASH = "–"


def figure(value: float | None, digits: int = 3) -> str:
    """A number to three places; a dash where there is none."""
    return DASH if value is None else f"{value:.{digits}f}".replace("-", "−")


def interval(score: Mapping[str, Any] | None, digits: int = 3) -> str:
    """``0.812 [0.751, 0.861]``; the value alone where there is no interval."""
    if score is None or score.get("value") is None:
        return DASH
    return f"{figure(score['value'], digits)} {bounds(score, digits)}".rstrip()


def bounds(score: Mapping[str, Any] | None, digits: int = 3) -> str:
    """``[0.751, 0.861]``; nothing where there is no interval."""
    if score is None or score.get("low") is None:
        return ""
    return f"[{figure(score['low'], digits)}, {figure(score['high'], digits)}]"


def percent(share: float | None) -> str:
    """``12.5 %`` of 0.125; a dash where there is none."""
    return DASH if share is None else f"{100 * share:.1f} %"


def shown_count(count: int | None) -> str:
    """How many; ``hidden`` where they were too few to tell."""
    return "hidden" if count is None else str(count)


def signed(value: float) -> str:
    """A difference or a correlation with its sign."""
    shown = figure(value)
    return figure(0.0) if float(f"{value:.3f}") == 0 else shown if value < 0 else f"+{shown}"


def size(num_bytes: float) -> str:
    """Bytes in the unit that keeps the figure short."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024 or unit == "GiB":
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    raise AssertionError


def duration(seconds: float) -> str:
    """Seconds, or minutes and seconds, or hours and minutes."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def listed(names: list[str]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"
