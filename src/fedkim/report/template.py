"""Pages: a template and its parts as one file that refers to nothing outside itself, in the style that all pages share."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fedkim.store.files import refused, write_text

_HERE = Path(__file__).parent


def filled(template: str, folder: Path = _HERE, **parts: Any) -> str:
    """A page as text, of a template in ``folder``; ``style`` is one of its parts."""
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(style=Markup(style()), **parts)


def style() -> str:
    """The style sheet of all pages and figures."""
    return (_HERE / "style.css").read_text(encoding="utf-8")


def write_page(path: Path, page: str) -> Path:
    """Put a page in place at once, below folders that are made where they lack; gives its path.

    Raises:
        FedkimError: the file can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refused(path, error) from None
    write_text(path, page)
    return path
