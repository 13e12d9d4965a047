"""``fedkim data``: the public sets there are; checking and describing data have rooms of their own."""

from cyclopts import App

from fedkim.cli.data_check import check
from fedkim.cli.data_description import splits, stats
from fedkim.cli.data_import import import_fedmeki
from fedkim.cli.terminal import console

data = App(name="data", help="Check, describe and split data sets.", help_format="plaintext")


@data.command(name="list")
def list_() -> None:
    """List the public data sets that can be read from their published layout."""
    from rich.table import Table

    from fedkim.data.public_sets import known_sets

    table = Table(show_edge=False, pad_edge=False)
    for column in ("set", "tasks", "contents"):
        table.add_column(column, no_wrap=column == "set")
    for name, known in known_sets().items():
        table.add_row(name, ", ".join(known.tasks), known.contents)
    console().print(table)


@data.command
def cards(name: str | None = None, /) -> None:
    """Tell what a public data set holds, how to cite it and where it is described; all of them without a name.

    Args:
        name: The set's name.
    """
    from fedkim.data.public_sets import find_set, known_sets

    for known in [find_set(name)] if name else known_sets().values():
        print(known.name)
        print(f"  contents  {known.contents}")
        print(f"  tasks     {', '.join(known.tasks)}")
        if known.versions:
            print(f"  versions  {', '.join(known.versions)}")
        print(f"  cite      {known.citation}")
        print(f"  described in docs/data/{known.name}.md")


for verb in (check, splits, stats, import_fedmeki):
    data.command(verb)
