"""The Task record: a clinical question, what it needs and how it is answered."""

from collections.abc import Container
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Task:
    """One question asked of a patient's data. Whether it is *seen* (trained on) is the recipe's matter, not the task's."""

    name: str
    question: str
    """Put to the LLM word for word; for a free-text task the samples carry their own questions."""
    description: str
    """Plain English; the router's T (task description)."""
    modalities: tuple[str, ...]
    """Inputs the task needs, in prompt order."""
    answers: tuple[str, ...] | None = ("No", "Yes")
    """The closed set of answers, negative first (a binary score is the probability of the last one); None: free text."""
    within: str | None = None
    """A sample group in which the primary score is computed (``"pneumonia"``: only among pneumonia images)."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The modalities without text, which is the question itself."""
        return tuple(name for name in self.modalities if name != "text")


def has_inputs(task: Task, available: Container[str]) -> bool:
    """Whether every input that the task needs is there."""
    return all(name in available for name in task.inputs)
