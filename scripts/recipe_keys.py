"""Every key of a recipe with its docstring, its values in both presets and those allowed.

``python scripts/recipe_keys.py > docs/recipe.md``
"""

import ast
import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import fedkim.recipe
from fedkim.recipe import Recipe, from_dict

HEAD = """# Every key of a recipe

A recipe is a TOML file of these tables; what it leaves out has the value of its preset, `[run] preset = "fast"` unless it says `"paper"`. Any key
can be changed for one run: `fedkim run RECIPE --set table.key=value`. Made from the tables' own docstrings by
`python scripts/recipe_keys.py > docs/recipe.md` and checked by a test. Recipes that come along: [recipes](../recipes).
"""


def main() -> None:
    """Print the page."""
    print(page(), end="")


def page() -> str:
    """The page as Markdown."""
    fast, paper = Recipe(), from_dict({"run": {"preset": "paper"}})
    documented = _docstrings()
    parts = [HEAD]
    for table in fields(Recipe):
        own, other = getattr(fast, table.name), getattr(paper, table.name)
        first, *_ = (inspect.getdoc(type(own)) or "").split("\n\n")
        parts.append(
            f"\n## [{table.name}]\n\n{' '.join(first.split())}\n\n| key | fast | paper | what |\n|---|---|---|---|\n"
        )
        types = get_type_hints(type(own))
        for field in fields(own):
            here, there = _shown(getattr(own, field.name)), _shown(getattr(other, field.name))
            said = documented[type(own).__name__, field.name].replace("``", "`").replace("|", "\\|")
            said += _allowed(types[field.name])
            parts.append(f"| `{field.name}` | {here} | {'same' if here == there else there} | {said} |\n")
    return "".join(parts)


def _docstrings() -> dict[tuple[str, str], str]:
    """By class and field, from the sources: Python drops what stands below a field."""
    found = {}
    for path in Path(fedkim.recipe.__file__).parent.glob("*_table*.py"):
        for table in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(table, ast.ClassDef):
                continue
            for field, after in zip(table.body, table.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr):
                    found[table.name, ast.unparse(field.target)] = str(ast.literal_eval(after.value))
    return found


def _allowed(kind: Any) -> str:
    """The values of a key that has only some, in words; empty for any other."""
    values = get_args(kind) if get_origin(kind) is Literal else ()
    return f" One of: {', '.join(f'`{value}`' for value in values)}." if values else ""


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value) or "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"`{value:g}`"
    if not value:
        return "–"
    return ", ".join(f"{key} `{item}`" for key, item in value.items()) if isinstance(value, dict) else f"`{value}`"


if __name__ == "__main__":
    main()
