"""Words of messages."""


def counted(number: int, one: str) -> str:
    """``1 row``, ``2,000 rows``."""
    return f"{number:,} {one if number == 1 else one + 's'}"
