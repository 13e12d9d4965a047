"""Tasks: the clinical questions, as records."""

from fedkim.tasks.pack import PACK_TASKS
from fedkim.tasks.paper import PAPER_TASKS
from fedkim.tasks.public import PUBLIC_TASKS
from fedkim.tasks.task import Task, has_inputs

TASKS: dict[str, Task] = {**PAPER_TASKS, **PACK_TASKS, **PUBLIC_TASKS}
"""By name. Open: add your own record."""

__all__ = ["TASKS", "Task", "has_inputs"]
