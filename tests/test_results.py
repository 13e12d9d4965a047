"""The numbers in README are those of the committed results, word for word."""

import json
from pathlib import Path

import pytest

from fedkim.experiments.claims import decide
from fedkim.experiments.comparison import block, markdown
from fedkim.experiments.matrix import load_matrix
from fedkim.experiments.our_tables import forgetting_tables
from fedkim.experiments.scores import read_scores
from fedkim.experiments.tables import all_tables
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


@pytest.mark.parametrize("folder", sorted((ROOT / "results").glob("*-matrix")), ids=lambda path: path.name)
def test_results_page_shows_what_the_committed_predictions_give(folder):
    scores = read_scores(folder, from_predictions=True)
    decided = decide(scores)
    tables = [*all_tables(scores, decided), *forgetting_tables(folder)]
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert block(page, folder.name)[1].strip() == markdown(scores, decided, tables).strip()


def test_results_page_has_a_place_for_the_matrix():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    committed = (ROOT / "results" / "paper-matrix").is_dir()
    inside = block(page, "paper-matrix")[1]
    assert ("Not run yet" in inside) != committed
    if not committed:
        matrix = load_matrix(ROOT / "recipes" / "paper-matrix.toml")
        assert f"none of its {len(matrix.cells)} cells, nor the {len(matrix.choice)} of its choice" in inside
