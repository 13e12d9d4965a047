"""What the documents say is so: their code runs, their links and names exist, their commands parse."""

import contextlib
import io
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from PIL import Image

import fedkim
from fedkim.cli.app import app
from fedkim.cli.recipes import find_recipe
from fedkim.recipe import Recipe, load
from fedkim.report.wording import NOT_A_DEVICE, PRIVACY

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md"))
)
BLOCK = re.compile(r"(?P<before>[^\n]*)\n(?P<indent> *)```(?P<language>\w+)\n(?P<code>.*?)\n(?P=indent)```", re.DOTALL)

ELSEWHERE = {
    "docs/data/pack.md": {"pack.load(": "data_pack", "wfdb.wrsamp(": "it makes the pack from the original data sets"},
    "SYNTHETIC.md": {"PhantomSettings(": "slow"},
}
"""By document: blocks (by something in them) that need a marker, or can't be run here for the reason given."""

BEFORE = {
    "docs/m3oe.md": (
        "import torch\nfrom fedkim.injection.llms import LLMS\npath = LLMS['tiny'].prepare()\n"
        "batches = [{'input_ids': torch.tensor([[0, 5, 6, 7]]), 'labels': torch.tensor([[-100, 5, 6, 7]])}] * 2\n"
        "optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)])\n"
    )
}
"""By document: what its blocks take as given."""


def text_of(document):
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document, language):
    """``(what stands on the line above, code)`` of the document's fenced blocks of a language."""
    for match in BLOCK.finditer(text_of(document)):
        if match["language"] == language:
            indent = match["indent"]
            yield match["before"], "\n".join(line.removeprefix(indent) for line in match["code"].split("\n"))


def python_cases():
    for document in DOCUMENTS:
        for number, (before, code) in enumerate(blocks(document, "python")):
            if re.search(r"<!-- no-run: \S.* -->", before):
                continue
            why = next((why for mark, why in ELSEWHERE.get(document, {}).items() if mark in code), "")
            if " " in why:
                continue
            marks = [getattr(pytest.mark, why)] if why else []
            yield pytest.param(document, code, why, id=f"{document}-{number}", marks=marks)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a reader would stand: recipes (the smallest with half its patients), a run in ``runs/demo``, a picture."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    smoke = folder / "recipes" / "smoke.toml"
    smoke.write_text(smoke.read_text().replace("= 120", "= 60").replace("steps_per_round = 3", "steps_per_round = 1"))
    for _ in fedkim.federate(load(smoke, "federation.rounds=1"), out=folder / "runs" / "demo"):
        pass
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "chest.png")
    return folder


@pytest.mark.parametrize(("document", "code", "why"), list(python_cases()))
def test_code_in_the_documents_runs(document, code, why, folder, monkeypatch, request):
    if why == "data_pack":
        request.getfixturevalue("data_pack")
    monkeypatch.chdir(folder)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(BEFORE.get(document, "") + code, document, "exec"), {"__name__": "__main__"})
    assert ("print(" in code) == bool(said.getvalue())


def test_the_readme_has_code_that_is_run():
    assert any(case.values[0] == "README.md" and "fedkim.federate" in case.values[1] for case in python_cases())


def commands():
    for document in DOCUMENTS:
        for _, code in blocks(document, "shell"):
            for line in code.splitlines():
                words = shlex.split(line, comments=True)
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)
                if words and words[0] in ("fedkim", ".venv/bin/fedkim"):
                    yield pytest.param(words[1:], id=f"{document}: {' '.join(words)[:70]}")


@pytest.mark.parametrize("words", list(commands()))
def test_commands_in_the_documents_are_understood(words):
    command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    verb = next(word for word in words if word not in ("llm", "data", "coordinator", "site", "audit"))
    assert command.__name__.replace("_", "-").strip("-").endswith(verb)
    if words[0] == "run":
        load(ROOT / find_recipe(bound.arguments["recipe"]), *bound.arguments.get("set_", []))


def test_a_wrong_option_would_be_noticed():
    with pytest.raises(Exception, match="--no-such"):
        app.parse_args(["demo", "--no-such"], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_the_documents_make_exists(document):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text_of(document), re.MULTILINE)) <= targets


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
        path, _, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = (ROOT / document).parent / path if path else ROOT / document
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def anchors(file):
    """The anchors that a forge gives the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", "CONVENTIONS.md", "docs/paper.md", "docs/architecture.md"]
)
def test_files_and_tests_that_are_named_exist(document):
    text = text_of(document)
    named = re.findall(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|toml|md|txt|j2|css|svg))`", text)
    homes = (ROOT, ROOT / "src" / "fedkim", ROOT / "tests", ROOT / "docs", ROOT / "src" / "fedkim" / "data")
    assert [name for name in named if not any((home / name).exists() for home in homes) and "/" in name] == []
    tests = re.findall(r"`((?:\w+/)?test_\w+\.py)::(test_\w+)`", text)
    assert [t for t in tests if f"def {t[1]}(" not in (ROOT / "tests" / t[0]).read_text(encoding="utf-8")] == []


def test_the_tree_in_the_readme_names_what_exists():
    tree = text_of("README.md").split("## The tree")[1].split("```")[1]
    above, paths = [], []
    for line in filter(str.strip, tree.splitlines()):
        depth, (name, *purpose) = (len(line) - len(line.lstrip())) // 2, line.split()
        assert purpose, f"{name} has no purpose"
        above = [*above[:depth], name]
        paths.append("".join(above))
    assert len(paths) > 40
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(("page", "script"), [("tree", "tree.py"), ("recipe", "recipe_keys.py")])
def test_a_page_is_the_one_that_its_script_makes(page, script):
    made = subprocess.run([sys.executable, ROOT / "scripts" / script], capture_output=True, text=True, check=True)
    assert text_of(f"docs/{page}.md") == made.stdout, f"python scripts/{script} > docs/{page}.md"


def test_the_page_of_keys_names_the_values_that_a_key_allows():
    page = text_of("docs/recipe.md")
    for table in fields(Recipe):
        for key, kind in get_type_hints(type(getattr(Recipe(), table.name))).items():
            if get_origin(kind) is Literal:
                (row,) = re.findall(
                    rf"^\| `{key}` \|.*$", page.split(f"## [{table.name}]")[1].split("\n## ")[0], re.MULTILINE
                )
                assert [value for value in get_args(kind) if f"`{value}`" not in row.split("One of:")[1]] == []


def test_a_worked_diff_changes_lines_that_stand_in_the_code():
    ((_, code),) = blocks("docs/experiments.md", "diff")
    lines = code.splitlines()
    assert len(lines) > 20
    for line in lines:
        if line.startswith("--- "):
            text = (ROOT / line[4:].split(":")[0]).read_text(encoding="utf-8")
        elif not line.startswith("+"):
            assert line[1:] in text


def test_the_readme_says_word_for_word_what_it_must():
    text = text_of("README.md")
    assert PRIVACY in text
    assert NOT_A_DEVICE in text
    assert text.index("make demo") < text.index("make test") < 300
