"""The shell: the verbs of ``fedkim``, each in the room of what it is about. Nothing heavy is imported before a verb runs."""

from fedkim.cli.app import main

__all__ = ["main"]
