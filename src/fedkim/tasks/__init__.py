"""Tasks: the clinical questions, as records."""

from fedkim.tasks.task import Task

TASKS: dict[str, Task] = {}
"""By name. Open: add your own record."""

__all__ = ["TASKS", "Task"]
