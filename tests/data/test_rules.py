"""What is cached is found again only if nothing that made it has changed: the modules in its key are those that it comes from."""

import ast
from pathlib import Path

import pytest

import fedkim
from fedkim.data import fingerprints, leaks
from fedkim.data.phantom import rendering
from fedkim.data.sources import pack_icu, pack_signal

ROOT = Path(fedkim.__file__).parent

SERVE = {
    "errors", "parallel", "randomness", "data.cache", "data.findings", "data.record", "data.sample",
    "modalities.modality", "modalities.temporal",
    "data.phantom.settings",  # its values are facts of the key
}  # fmt: skip
"""Modules that carry, store or train, and decide no content."""
READ = {"dicom", "series_tables", "series_columns", "units", "signal_files", "signal_csv"}
"""Of the modalities, readers of files in other forms than a maker's own."""


def imported(module):
    """Modules of fedkim that the source of ``module`` imports, as names below ``fedkim``."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fedkim."):
            name = node.module.removeprefix("fedkim.")
            for alias in node.names:
                inner = f"{name}.{alias.name}"
                found.add(inner if (ROOT / (inner.replace(".", "/") + ".py")).is_file() else name)
    return found


def reached(module):
    """``module`` and what it imports, and what that imports, without what decides no content."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in found and name not in SERVE and name.removeprefix("modalities.") not in READ:
            found.add(name)
            waiting += imported(name)
    return found


@pytest.mark.parametrize("maker", [pack_icu, pack_signal, rendering], ids=lambda maker: maker.__name__)
def test_every_module_that_the_maker_of_a_cached_entry_imports_is_in_its_key(maker):
    names = {rule.__name__.removeprefix("fedkim.") for rule in maker.RULES}
    assert reached(maker.__name__.removeprefix("fedkim.")) <= names


def test_twins_are_found_by_the_two_modules_in_their_key():
    assert reached("data.leaks") == {rule.__name__.removeprefix("fedkim.") for rule in (fingerprints, leaks)}


def test_an_import_of_an_import_is_reached():
    assert {"modalities.picture", "modalities.image"} <= reached("data.phantom.rendering")
    assert "data.sources.folds" in reached("data.sources.pack_signal")
