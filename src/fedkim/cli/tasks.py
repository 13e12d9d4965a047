"""The verb that lists what can be asked."""

from fedkim.cli.terminal import console
from fedkim.errors import unknown


def tasks(recipe: str | None = None, /) -> None:
    """List the tasks: what each asks, what it needs, how it is answered.

    Args:
        recipe: Only this recipe's, seen and unseen.
    """
    from rich.table import Table

    from fedkim.cli.recipes import find_recipe
    from fedkim.recipe import import_plugins, load

    roles: dict[str, str] = {}
    if recipe:
        chosen = load(find_recipe(recipe))
        import_plugins(chosen.run.plugins)
        roles = dict.fromkeys(chosen.tasks.seen, "seen") | dict.fromkeys(chosen.tasks.unseen, "unseen")
    from fedkim.tasks import TASKS

    for name in roles:
        if name not in TASKS:
            raise unknown("task", name, TASKS)
    table = Table(show_edge=False, pad_edge=False)
    for column in ("task", *(["role"] if roles else []), "needs", "answers", "question"):
        table.add_column(column, no_wrap=column in ("task", "role"))
    for name in roles or TASKS:
        task = TASKS[name]
        answers = " / ".join(task.answers) if task.answers else "free text"
        role = [roles[name]] if roles else []
        table.add_row(name, *role, ", ".join(task.modalities), answers, task.question)
    console().print(table)
