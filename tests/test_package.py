"""What holds for every module: no code from data, nothing about the machine it was written on, a light import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))

MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {
    ("torch", "load"),
    ("torch", "save"),
    ("np", "load"),
    ("numpy", "load"),
    ("pandas", "read_pickle"),
    ("yaml", "load"),
    ("torch", "hub"),
}


def risky(source):
    """What in a module could run code that came as data."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".")[0]
            found += [module] * (module in MODULES)
            found += [f"{module}.{alias.name}" for alias in node.names if (module, alias.name) in CALLS]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found += [f"{node.value.id}.{node.attr}"] * ((node.value.id, node.attr) in CALLS)
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                found += [node.func.id] * (node.func.id in BUILTINS)
            trusting = [word.arg for word in node.keywords if word.arg in ("allow_pickle", "trust_remote_code")]
            found += [name for name in trusting if name]
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from shelve import open",
        "import torch\ntorch.load('x')",
        "from torch import load",
        "import numpy as np\nnp.load('x.npy')",
        "eval('1')",
        "exec(text)",
        "f(x, allow_pickle=True)",
        "from_pretrained(x, trust_remote_code=True)",
    ],
)
def test_the_search_finds_what_it_looks_for(source):
    assert risky(source)


def test_the_search_lets_safetensors_and_evaluation_mode_pass():
    assert not risky("import safetensors.torch\nsafetensors.torch.load(data)\nmodel.eval()\nstate.load(x)")


def test_no_module_runs_code_from_data():
    found = {str(path.relative_to(ROOT)): risky(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert len(found) > 100
    assert {path: names for path, names in found.items() if names} == {}


def test_nothing_tells_where_it_was_written():
    words = [
        "/work" + "/main",
        "/work" + "/shared",
        "shared" + "/reference",
        "SPEC" + ".md",
        "SPEC" + " 2",
        "/tmp" + "/w/",
    ]
    folders = ("src", "docs", "examples", "recipes", "benchmarks", "results")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*") if file.suffix != ".pyc"]
    files += [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("*.cff"), ROOT / "Makefile"]
    told = {
        f"{file.relative_to(ROOT)}: {word}"
        for file in files
        if file.is_file()
        for word in words
        if word in file.read_text(encoding="utf-8", errors="replace")
    }
    assert told == set()


def test_importing_the_package_loads_no_torch():
    code = "import sys, fedkim; print(fedkim.__version__, [m for m in ('torch', 'numpy', 'transformers') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "0.2.0.dev0 []"
