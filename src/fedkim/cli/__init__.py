"""The shell: ``fedkim demo | run | evaluate | predict | export | tasks | report | llm | data``. Nothing heavy is imported before a verb runs."""

from fedkim.cli.app import main

__all__ = ["main"]
