"""Every code that the source can raise stands in docs/data/codes.md with its meaning, and none that it can't."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = re.compile(r"[EWI]-[A-Z0-9]+(?:-[A-Z0-9]+)*")
TAIL = re.compile(r"-?([A-Z0-9]+(?:-[A-Z0-9]+)+)")


def literals(source):
    """Every text in a module but its docstrings, parts of f-strings included."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(n.body[0].value)
        for n in ast.walk(tree)
        if isinstance(n, documented) and n.body and isinstance(n.body[0], ast.Expr)
    }
    return [
        n.value
        for n in ast.walk(tree)
        if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docstrings
    ]


def raised():
    """Whole codes, and the tails of those whose first letter is chosen while running."""
    whole, tails = set(), set()
    for file in (ROOT / "src").rglob("*.py"):
        for text in literals(file.read_text(encoding="utf-8")):
            whole |= {text} if CODE.fullmatch(text) else set()
            tails |= {match[1]} if (match := TAIL.fullmatch(text)) and not CODE.fullmatch(text) else set()
    return whole, tails


def documented():
    text = (ROOT / "docs" / "data" / "codes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    return {code: (meaning, remedy) for code, meaning, remedy in rows}


def test_every_code_in_the_source_is_documented():
    whole, _ = raised()
    assert len(whole) > 60
    assert sorted(whole - set(documented())) == []


def test_every_documented_code_is_in_the_source_and_means_something():
    whole, tails = raised()
    table = documented()
    assert [code for code in table if not CODE.fullmatch(code)] == []
    assert [code for code in table if code not in whole and code[2:] not in tails] == []
    assert all(len(meaning) > 10 and remedy for meaning, remedy in table.values())


def test_a_code_in_a_finding_or_an_error_would_be_found():
    assert set(literals('"""E-DOC"""\nadd("E-ONE-TWO")\nraise E(x, code="W-UNIT")\nf"{s}-LEAK-SET"')) >= {
        "E-ONE-TWO",
        "W-UNIT",
        "-LEAK-SET",
    }
    assert "E-DOC" not in literals('"""E-DOC"""\n')
