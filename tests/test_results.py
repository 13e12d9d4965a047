"""The numbers in README and on the results page are those of the committed results, word for word."""

import json
from functools import cache
from pathlib import Path
from statistics import fmean

import pytest

from fedkim.data.phantom.settings import GENERATOR_VERSION
from fedkim.data.phantom.table import over_seeds
from fedkim.evaluation.seeds import paired_seeds
from fedkim.experiments.cells import is_done
from fedkim.experiments.choosing import seen_score
from fedkim.experiments.claims import decide
from fedkim.experiments.comparison import block, markdown, shown_figures, summary_block, tables_of
from fedkim.experiments.figures import all_figures, standalone
from fedkim.experiments.keeping import read_kept
from fedkim.experiments.matrix_file import load_matrix
from fedkim.experiments.methods import title_of
from fedkim.experiments.scores import Scores, less, processor, read_scores
from fedkim.report.markdown import results_table

ROOT = Path(__file__).parents[1]
MATRICES = ("paper-matrix", "fedprox-development", "fedkim-plus-development", "real-pack-fold")
RUN = [name for name in MATRICES if list((ROOT / "results" / name).glob("*--seed*.json"))]
PAGES = {"demo": "README.md", "real-pack": "docs/results.md"}
COMMITTED = sorted(path for path in (ROOT / "results").glob("*/*--seed0*.json") if path.parent.name not in MATRICES)


@cache
def from_predictions(name: str) -> Scores:
    """The scores of a matrix's cells, computed from their predictions once for all tests."""
    return read_scores(ROOT / "results" / name, from_predictions=True)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_a_page_shows_the_committed_result(path):
    page = (ROOT / PAGES[path.parent.name]).read_text(encoding="utf-8")
    shown = block(page, path.parent.name)[1]
    assert shown.strip() == results_table(json.loads(path.read_text(encoding="utf-8"))).strip()


def test_readme_shows_a_row_per_method_of_the_committed_predictions():
    scores = from_predictions("paper-matrix")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert block(readme, "paper-matrix:summary")[1].strip() == summary_block(scores).strip()


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_committed_results_are_aggregates(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < 800_000
    for name in ('"samples": [', '"patients": [', '"probabilities"', '"generated"'):
        assert name not in text


def test_the_table_of_two_processors_is_of_the_committed_cells():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    first, avx2, avx512 = (from_predictions(f"paper-matrix{kind}") for kind in ("", "-avx2", "-avx512"))
    columns = [(which, "injected") for which in ("seen", "unseen", "generation")] + [("seen", "small_before")]
    for again, pair in ((avx2, (first, avx2)), (avx512, (avx512, first))):
        for cell in again.cells:
            for one, kind in zip(pair, ("AVX512", "AVX2")):
                (found,) = one.group(cell.method, variation=cell.variation)[cell.seed]
                assert processor(found.record["run_info"]) == kind
            pairs = [
                [one.by_seed(cell.method, which, row=row, variation=cell.variation)[cell.seed] for one in pair]
                for which, row in columns
            ]
            shown = " | ".join(f"{left:.1f} / {right:.1f}" for left, right in pairs)
            name = title_of(cell.method) + (f", {cell.variation}" if cell.variation else "")
            assert f"| {name}, seed {cell.seed} | {shown} |" in page


def test_the_table_of_more_questions_is_of_the_committed_cells():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    scores = from_predictions("paper-matrix")
    seen = ("lung_opacity", "covid", "ecg_abnormal", "mortality")
    pictures = ("enlarged_cardiomediastinum", "atelectasis", "pleural_effusion")
    rows = {f"`{task}`": (task,) for task in (*seen, "ectopic_beats", "sepsis")}
    for name, tasks in {**rows, "the three unseen questions about pictures": pictures}.items():
        cells = []
        for row in ("injected", "small_before" if tasks[0] in seen else "proxy"):
            gains = [_more_questions(scores, task, row) for task in tasks]
            found = paired_seeds([fmean(gain[seed] for gain in gains) for seed in sorted(gains[0])])
            bounds = ", ".join(f"{value:.1f}" for value in (found.low, found.high))
            cells.append(f"{found.mean:.1f} [{bounds}]".replace("-0.0", "0.0").replace("-", "−"))
        assert f"| {name} | {' | '.join(cells)} |" in page


def _more_questions(scores: Scores, task: str, row: str) -> dict[int, float]:
    return less(
        scores.task_by_seed("fedkim", task, row=row, variation="questions"),
        scores.task_by_seed("fedkim", task, row=row),
    )


def test_figures_on_the_results_page_are_those_of_the_committed_cells():
    page = ROOT / "docs" / "results.md"
    scores = read_scores(ROOT / "results" / "paper-matrix")
    figures = all_figures(scores, decide(scores))
    shown = shown_figures(page, "paper-matrix", figures)
    assert set(shown.values()) == {"claims", "rho", "learning", "routes"}
    for path, name in shown.items():
        assert path.read_text(encoding="utf-8") == standalone(figures[name][1])


@pytest.mark.parametrize("name", RUN)
def test_results_page_shows_what_the_committed_predictions_give(name):
    folder = ROOT / "results" / name
    scores = from_predictions(name)
    decided = decide(scores)
    tables = tables_of(folder, scores, decided)
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert block(page, name)[1].strip() == markdown(scores, decided, tables).strip()


@pytest.mark.parametrize("name", MATRICES)
def test_results_page_says_of_each_matrix_how_much_of_it_has_been_run(name):
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    inside = block(page, name)[1]
    matrix = load_matrix(ROOT / "recipes" / f"{name}.toml")
    if name not in RUN:
        assert f"Not run yet: none of its {len(matrix.cells)} cells has a result" in inside
    kept = [c for c in matrix.choice if (ROOT / "results" / "choice" / name / f"{c.name}.json").exists()]
    if matrix.choice:
        chosen = (ROOT / "results" / name / "chosen.json").exists()
        assert chosen == (len(kept) == len(matrix.choice))
        assert f"{len(kept)} of the {len(matrix.choice)} cells of its choice are done" in page


def test_committed_cells_of_the_choice_are_of_the_settings_that_the_matrix_has():
    matrix = load_matrix(ROOT / "recipes" / "paper-matrix.toml")
    kept = {path.stem for path in (ROOT / "results" / "choice" / "paper-matrix").glob("*.json")}
    assert kept == {cell.name for cell in matrix.choice if is_done(ROOT / "results", matrix, cell)}


def test_the_choice_was_made_from_the_committed_cells():
    matrix = load_matrix(ROOT / "recipes" / "paper-matrix.toml")
    path = ROOT / "results" / "paper-matrix" / "chosen.json"
    if not path.exists():
        assert "paper-matrix" not in RUN  # nothing is evaluated before its settings are chosen
        return
    record = json.loads(path.read_text(encoding="utf-8"))
    values = {}
    for cell in matrix.choice:
        kept = read_kept(ROOT / "results" / "choice" / "paper-matrix" / f"{cell.name}.json")
        assert kept["run_info"]["split"] == "development"
        values.setdefault((cell.method, str(cell.configuration)), []).append(seen_score(kept, path))
    for (method, number), scores in values.items():
        assert record["scores"][method][number] == pytest.approx(fmean(scores), abs=1e-6)
    for method, scores in record["scores"].items():
        assert scores[str(record["chosen"][method])] == max(scores.values())


def test_the_acceptance_table_is_that_of_the_committed_figures():
    record = json.loads((ROOT / "results" / "phantom" / "acceptance.json").read_text(encoding="utf-8"))
    assert record["generator"] == GENERATOR_VERSION
    assert [one["seed"] for one in record["seeds"]] == [0, 1, 2, 10, 11, 12, 13, 14]
    page = (ROOT / "SYNTHETIC.md").read_text(encoding="utf-8")
    assert block(page, "acceptance")[1].strip() == over_seeds(record["seeds"]).strip()
