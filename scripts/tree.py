"""The tree of the package with each file's own first sentence: ``python scripts/tree.py > docs/tree.md``."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAD = """# Every file of the package

Each with the first sentence of its own docstring, made by `python scripts/tree.py > docs/tree.md` and checked by a test. The rooms in
reading order, and why they are as they are: [architecture.md](architecture.md).
"""


def main() -> None:
    """Print the page."""
    print(page(), end="")


def page() -> str:
    """The page as Markdown."""
    parts = [HEAD]
    folders = sorted({path.parent for path in (ROOT / "src").rglob("*.py")})
    for folder in folders:
        parts.append(f"\n## {folder.relative_to(ROOT)}\n\n{_first(folder / '__init__.py')}\n")
        lines = [f"- `{path.name}`: {_first(path)}" for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]
        parts += ["\n" + "\n".join(lines) + "\n"] if lines else []
    return "".join(parts)


def _first(path: Path) -> str:
    """The first sentence of a module's docstring."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".") + "."


if __name__ == "__main__":
    main()
