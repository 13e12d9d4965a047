"""Words of messages."""


def counted(number: int, one: str, many: str = "") -> str:
    """``1 row``, ``2 rows``, ``3 indices``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
