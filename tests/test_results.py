"""The numbers in README are those of the committed results, word for word."""

import json
from pathlib import Path

import pytest

from fedkim.report.markdown import results_table

ROOT = Path(__file__).parents[1]
COMMITTED = sorted((ROOT / "results").glob("*/*--seed0*.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_readme_shows_the_committed_result(path):
    begin, end = f"<!-- results:{path.parent.name} -->\n", f"<!-- /results:{path.parent.name} -->"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.split(begin)[1].split(end)[0]
    assert shown.strip() == results_table(json.loads(path.read_text(encoding="utf-8"))).strip()


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_committed_results_are_aggregates(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < 800_000
    for name in ('"samples": [', '"patients": [', '"probabilities"', '"generated"'):
        assert name not in text
