"""Cells of a small matrix, run for real: kept, resumed, compared; tables come again from the predictions."""

import json
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from fedkim.cli.experiments import compare
from fedkim.errors import FedkimError
from fedkim.experiments import cells as cells_module
from fedkim.experiments.cells import run_cell, run_matrix, standing
from fedkim.experiments.choice_table import choice_tables
from fedkim.experiments.choosing import made_with, read_chosen, write_chosen
from fedkim.experiments.claims import decide
from fedkim.experiments.comparison import markdown, matrices_in, write_comparison
from fedkim.experiments.keeping import SUFFIX, cell_record, read_kept, recomputed
from fedkim.experiments.our_tables import forgetting_tables
from fedkim.experiments.scores import read_scores
from fedkim.progress import Silent
from fedkim.recipe import digest_of
from fedkim.run import federate
from small_matrix import small_matrix

pytest.importorskip("pyarrow", reason="SKIPPED, NOT RUN: needs pyarrow")

CELLS = """
[[cells]]
methods = ["fedkim", "fedplug"]
seeds = [10, 11]
[choice]
seeds = [0]
methods = ["fedkim", "fedplug"]
configurations = [
  ["injection.learning_rate=5e-4"],
  ["injection.learning_rate=1e-3", "injection.alignment_learning_rate=8e-3"],
]
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The matrix with all its cells run, in this process."""
    root = tmp_path_factory.mktemp("matrix")
    matrix = small_matrix(root, CELLS, unseen='["pleural_effusion", "slake"]')
    chosen = {
        "chosen": {"fedkim": 1, "fedplug": 0},
        "scores": {"fedkim": {"0": 0.5, "1": 0.6}, "fedplug": {"0": 0.55, "1": 0.5}},
        "configurations": [list(one) for one in matrix.configurations],
        "made_with": made_with(matrix),
    }
    (root / "results" / matrix.name).mkdir(parents=True)
    (root / "results" / matrix.name / "chosen.json").write_text(json.dumps(chosen))
    for cell in matrix.cells:
        run_cell(matrix, cell, runs=root / "runs", results=root / "results")
    return root, matrix


def test_every_table_comes_again_from_the_predictions_alone(done):
    root, _ = done
    kept = read_scores(root / "results" / "small-matrix")
    again = read_scores(root / "results" / "small-matrix", from_predictions=True)
    assert markdown(kept, decide(kept)) == markdown(again, decide(again))
    path = root / "results" / "small-matrix" / "fedkim--fedavg--seed10.json"
    assert json.loads(json.dumps(recomputed(path)["metrics"])) == read_kept(path)["metrics"]  # intervals too


def test_another_prediction_would_give_another_table(done, tmp_path):
    root, _ = done
    folder = tmp_path / "small-matrix"
    shutil.copytree(root / "results" / "small-matrix", folder)
    first, second = (folder / f"fedkim--fedavg--seed{seed}{SUFFIX}" for seed in (10, 11))
    shutil.copy(second, first)
    kept, again = read_scores(folder), read_scores(folder, from_predictions=True)
    assert markdown(kept, decide(kept)) != markdown(again, decide(again))


def test_a_kept_cell_says_how_it_was_made_and_names_no_patient(done):
    root, _ = done
    path = root / "results" / "small-matrix" / "fedkim--fedavg--seed10.json"
    record, text = read_kept(path), path.read_text()
    info = record["run_info"]
    assert info["cell"] == {
        "method": "fedkim",
        "variation": "",
        "backbone": "fedavg",
        "seed": 10,
        "configuration": None,
        "chosen": 1,
        "trained_in": "",
    }
    assert {"config", "versions", "environment", "seconds", "processor_seconds"} <= set(info)
    assert record["train_info"]["rounds"][0]["sites"]["site-1"]["bytes_sent"] > 0
    assert record["metrics"]["covid"]["rows"]["injected"]["primary"]["n"] == 9
    assert set(record["train_info"]["rounds"][0]["sites"]["site-1"]) == {"loss", "bytes_sent", "bytes_received"}
    assert "routes" not in record["train_info"]["rounds"][0]["injection"]
    assert "statistics" not in record["meta_info"]
    assert "phantom/" not in text
    assert "probabilities" not in text


def test_a_finished_cell_is_not_run_again(done, monkeypatch):
    root, _ = done
    monkeypatch.setattr(cells_module, "Processes", lambda: None)  # whatever started a process would fail
    outcome = run_matrix(root / "small.toml", runs=root / "runs", results=root / "results")
    assert (outcome.done, outcome.stored, outcome.left) == ((), 4, 0)


def test_a_cell_that_fails_is_told_and_stops_no_other(tmp_path, monkeypatch):
    matrix = small_matrix(tmp_path, CELLS.split("[choice]")[0])

    def command(path, runs, results, smoke, keep, batch):
        (cell,) = batch
        file = str(results / "small-matrix" / f"{cell.name}.json")
        info = {"cell": cell_record(cell), "config": matrix.recipe(cell).to_toml()}
        record = json.dumps({"run_info": info, "metrics": {"covid": {}}})
        code = "import sys, pathlib; p = pathlib.Path(sys.argv[1]); p.parent.mkdir(parents=True, exist_ok=True); "
        fails = "print('no disk', file=sys.stderr); sys.exit(2)"
        writes = "p.write_text(sys.argv[2])"
        return [sys.executable, "-c", code + (fails if cell.method == "fedplug" else writes), file, record]

    told = []
    progress = Silent()
    progress.line = told.append
    monkeypatch.setattr(cells_module, "_command", command)
    folders = {"runs": tmp_path / "runs", "results": tmp_path / "results"}
    first = run_matrix(tmp_path / "small.toml", **folders, at_most=3, progress=progress)
    assert sorted(first.done) == ["fedkim--fedavg--seed10", "fedkim--fedavg--seed11"]
    assert first.failed == ("fedplug--fedavg--seed10",)
    assert "fedplug--fedavg--seed10: failed; no disk" in told
    again = run_matrix(tmp_path / "small.toml", **folders, progress=progress)
    assert (again.stored, len(again.failed), again.left) == (2, 2, 2)


def test_a_killed_cell_resumes_at_its_round_and_ends_with_the_same_bits(done, tmp_path):
    root, matrix = done
    cell = matrix.cells[0]
    (tmp_path / "results" / matrix.name).mkdir(parents=True)
    shutil.copy(root / "results" / matrix.name / "chosen.json", tmp_path / "results" / matrix.name)
    recipe = matrix.recipe(cell, read_chosen(matrix, tmp_path / "results"))
    rounds = federate(recipe, out=tmp_path / "runs" / matrix.name / cell.name)
    next(rounds)
    rounds.close()  # as a kill after the first round's commit
    run_cell(matrix, cell, runs=tmp_path / "runs", results=tmp_path / "results")
    name = f"{matrix.name}/{cell.name}.json"
    whole, resumed = (read_kept(folder / "results" / name) for folder in (root, tmp_path))
    assert whole["train_info"]["digest"] == resumed["train_info"]["digest"]
    assert whole["metrics"] == resumed["metrics"]


def test_a_cell_begins_anew_where_a_version_with_other_settings_had_begun(done, tmp_path):
    root, matrix = done
    cell = matrix.cells[0]
    folder = tmp_path / "runs" / matrix.name / cell.name
    shutil.copytree(root / "runs" / matrix.name / cell.name, folder)
    (tmp_path / "results" / matrix.name).mkdir(parents=True)
    shutil.copy(root / "results" / matrix.name / "chosen.json", tmp_path / "results" / matrix.name)
    (folder / "result.json").unlink()  # it was cut off
    record = json.loads((folder / "recipe.json").read_text())
    del record["recipe"]["federation"]["quorum"]  # has a default, so the tables read the same
    (folder / "recipe.json").write_text(json.dumps(record | {"digest": digest_of(record["recipe"])}))
    run_cell(matrix, cell, runs=tmp_path / "runs", results=tmp_path / "results")
    name = f"{matrix.name}/{cell.name}.json"
    assert read_kept(tmp_path / "results" / name)["metrics"] == read_kept(root / "results" / name)["metrics"]


def test_the_comparison_writes_page_tables_and_figures(done, tmp_path):
    root, _ = done
    names = {path.name for path in write_comparison(root / "results" / "small-matrix", tmp_path)}
    assert {
        "compare.html",
        "compare.md",
        "scores.csv",
        "claims.svg",
        "bytes.svg",
        "routes.svg",
        "learning.svg",
    } <= names
    page = (tmp_path / "compare.html").read_text()
    assert "Synthetic phantom data" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    text = (tmp_path / "compare.md").read_text()
    assert "| 11a. The sites gain from the language model in a round | ours |" in text
    assert "missing cells" in text  # FedPlug_L hasn't been run
    assert (tmp_path / "claims.svg").read_text().startswith('<svg xmlns="http://www.w3.org/2000/svg"')


def test_of_a_folder_of_results_every_matrix_in_it_is_compared(done, tmp_path):
    root, _ = done
    results = tmp_path / "results"
    shutil.copytree(root / "results" / "small-matrix", results / "small-matrix")
    shutil.copytree(root / "results" / "small-matrix", results / "another")
    (results / "demo").mkdir()
    (results / "demo" / "fedkim--fedavg--seed0.json").write_text('{"run_info": {}}')  # a run's result, of no matrix
    assert matrices_in(results) == [results / "another", results / "small-matrix"]
    assert matrices_in(results / "small-matrix") == [results / "small-matrix"]
    assert matrices_in(results / "demo") == [results / "demo"]
    with pytest.raises(FedkimError, match="unreadable"):
        write_comparison(results / "demo", tmp_path / "out")


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("cell", "seed", "ten"),
        ("cell", "variation", 5),
        ("cell", "backbone", None),
        ("", "config", "[run"),
        ("", "config", 5),
        ("", "environment", None),
        ("", "environment", []),
        ("", "environment", {"plugins": None}),
    ],
)
def test_a_cell_that_was_changed_by_hand_is_told_in_one_line(done, tmp_path, table, key, value):
    root, _ = done
    path = next((root / "results" / "small-matrix").glob("*--seed*.json"))
    record = json.loads(path.read_text())
    about = record["run_info"][table] if table else record["run_info"]
    about[key] = value
    (tmp_path / path.name).write_text(json.dumps(record))
    with pytest.raises(FedkimError, match="found unreadable, expected a cell's result"):
        read_kept(tmp_path / path.name)


def test_a_cell_that_is_all_brackets_is_told_in_one_line(tmp_path):
    (tmp_path / "a--b--seed1.json").write_text("[" * 200_000)
    with pytest.raises(FedkimError, match="found unreadable, expected a cell's result"):
        read_kept(tmp_path / "a--b--seed1.json")


def test_where_nothing_is_to_be_chosen_it_is_said(done, tmp_path):
    root, _ = done
    with pytest.raises(FedkimError, match=r"\[choice\] of small-matrix-smoke, found nothing to choose; .* a smoke run"):
        run_matrix(root / "small.toml", runs=tmp_path, results=tmp_path, choose=True, smoke=True)


def test_a_document_that_is_no_text_is_told_in_one_line(done, tmp_path):
    root, _ = done
    (tmp_path / "page.md").write_bytes(b"\xff\xfe")
    with pytest.raises(FedkimError, match=r"page\.md, found no text in UTF-8"):
        compare(root / "results", out=tmp_path / "out", into=tmp_path / "page.md")


def test_shuffled_is_kept_of_every_yes_or_no_question(done):
    root, _ = done
    path = next((root / "results" / "small-matrix").glob("*--seed*.json"))
    kept = read_kept(path)["metrics"]
    named = [entry for entry in kept.values() if entry["kind"] == "classification" and entry["n"] > 1]
    assert named
    for entry in named:
        assert entry["rows"]["shuffled"]["n"] == entry["rows"]["injected"]["n"]


def test_one_command_writes_every_matrix_that_a_document_shows(done, tmp_path, capsys):
    root, _ = done
    for name in ("small-matrix", "another"):
        shutil.copytree(root / "results" / "small-matrix", tmp_path / "results" / name)
    page = tmp_path / "page.md"
    page.write_text("<!-- results:small-matrix:summary -->\nold\n<!-- /results:small-matrix:summary -->\n")
    compare(tmp_path / "results", out=tmp_path / "out", into=page)
    assert "another: " in capsys.readouterr().err  # the page has no block for it
    assert (tmp_path / "out" / "another" / "compare.md").exists()
    assert page.read_text().count("\n| FEDKIM | ") == 1
    assert "old" not in page.read_text().split()
    assert "### Claims" not in page.read_text()


def test_a_document_gets_its_block_written_anew_and_keeps_the_rest(done, tmp_path):
    root, _ = done
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- results:small-matrix -->\nold\n<!-- /results:small-matrix -->\nafter\n")
    for _ in range(2):
        write_comparison(root / "results" / "small-matrix", tmp_path / "out", into=page)
        text = page.read_text()
        assert text.startswith("before\n<!-- results:small-matrix -->\n")
        assert text.endswith("<!-- /results:small-matrix -->\nafter\n")
        assert "old" not in text.split()
        assert text.count("### Claims") == 1
    page.write_text("nothing here")
    with pytest.raises(FedkimError, match="block of results"):
        write_comparison(root / "results" / "small-matrix", tmp_path / "out", into=page)


WHOLE = "<!-- results:small-matrix -->\nold\n<!-- /results:small-matrix -->\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (WHOLE + WHOLE, "2 beginnings and 2 ends"),
        (f"```\n{WHOLE}```\n{WHOLE}", "2 beginnings"),
        ("<!-- results:small-matrix -->\nmine\n" + WHOLE, "2 beginnings and 1 ends"),
        ("<!-- results:small-matrix -->\nmine\n", "1 beginnings and 0 ends"),
        (WHOLE.replace("old", "<!-- results:other -->\nmine\n<!-- /results:other -->"), "another marker"),
        ("<!-- /results:small-matrix -->\nmine\n<!-- results:small-matrix -->\n", "another marker"),
    ],
)
def test_a_document_whose_block_isn_t_clear_keeps_every_byte(done, tmp_path, text, found):
    root, _ = done
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(FedkimError, match=f"block of results 'small-matrix', found {found}"):
        write_comparison(root / "results" / "small-matrix", tmp_path / "out", into=page)
    assert page.read_text() == text


def test_a_sentence_may_name_the_marker_and_a_blank_may_stand_behind_it(done, tmp_path):
    root, _ = done
    page = tmp_path / "page.md"
    page.write_text("see `<!-- results:small-matrix -->`\n" + WHOLE.replace("\nold", " \nold"))
    write_comparison(root / "results" / "small-matrix", tmp_path / "out", into=page)
    assert "\nold\n" not in page.read_text()
    assert page.read_text().startswith("see `<!-- results:small-matrix -->`\n")


def test_a_document_keeps_its_line_ends_mode_and_place(done, tmp_path):
    root, _ = done
    page, link = tmp_path / "page.md", tmp_path / "link.md"
    page.write_bytes(f"before\n{WHOLE}after\n".replace("\n", "\r\n").encode())
    page.chmod(0o640)
    link.symlink_to(page)
    write_comparison(root / "results" / "small-matrix", tmp_path / "out", into=link)
    written = page.read_bytes()
    assert written.count(b"\n") == written.count(b"\r\n") > 20
    assert page.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()


def test_a_copy_of_a_cell_is_refused_and_takes_no_seed_away(done, tmp_path):
    root, matrix = done
    folder = tmp_path / matrix.name
    shutil.copytree(root / "results" / matrix.name, folder)
    shutil.copy(folder / "fedkim--fedavg--seed10.json", folder / "fedkim--fedavg--seed10 (old).json")
    with pytest.raises(
        FedkimError, match=r"\(old\)\.json, found the cell fedkim--fedavg--seed10, expected that of its name"
    ):
        read_scores(folder)


def test_results_on_other_ground_are_neither_compared_nor_joined(done, tmp_path):
    root, matrix = done
    shutil.copytree(root / "results", tmp_path / "results")
    folder = tmp_path / "results" / matrix.name
    other = folder / "uniform--fedavg--seed10.json"  # a method that the matrix lists no more
    record = json.loads((folder / "fedkim--fedavg--seed10.json").read_text())
    record["run_info"]["cell"]["method"] = "uniform"
    other.write_text(json.dumps(record))
    read_scores(folder)
    rounds = f"rounds = {tomllib.loads(record['run_info']['config'])['federation']['rounds']}"
    record["run_info"]["config"] = record["run_info"]["config"].replace(rounds, "rounds = 9")
    other.write_text(json.dumps(record))
    with pytest.raises(FedkimError, match=r"uniform--fedavg--seed10\.json, found federation\.rounds = 9"):
        read_scores(folder)
    with pytest.raises(FedkimError, match=r"uniform--fedavg--seed10\.json, found federation\.rounds = 9"):
        run_matrix(root / "small.toml", runs=tmp_path, results=tmp_path / "results")


def test_forgetting_stands_beside_the_scores_where_it_was_measured(done, tmp_path):
    root, _ = done
    folder = tmp_path / "small-matrix"
    shutil.copytree(root / "results" / "small-matrix", folder)
    assert forgetting_tables(folder) == []
    (folder / "forgetting").mkdir()
    part = {"value": 0.5, "low": 0.4, "high": 0.6}
    for low, word in ((-0.02, "reached"), (-0.04, "missed")):
        change = {"value": 0.0, "low": low, "high": 0.04}
        record = {"llm": "tiny", "pubmedqa": {"majority": 0.552, "base": part, "injected": part, "difference": change}}
        (folder / "forgetting" / "fedkim--fedavg--seed10.json").write_text(json.dumps(record))
        (table,) = forgetting_tables(folder)
        scored = [*["0.500 [0.400, 0.600]"] * 2, f"0.000 [−{-low:.3f}, 0.040]"]
        assert table.rows == [["fedkim--fedavg--seed10", "tiny", "0.552", *scored, *["–"] * 3, word]]
    for damaged in ("[", "[]", "{}", '{"llm": "tiny", "pubmedqa": 5}'):
        (folder / "forgetting" / "fedkim--fedavg--seed10.json").write_text(damaged)
        with pytest.raises(FedkimError, match=r"seed10\.json, found unreadable"):
            forgetting_tables(folder)


def test_the_choice_takes_the_better_configuration_and_dies_with_other_ones(done, tmp_path):
    root, matrix = done
    assert not list(root.glob("runs/*/*/rounds"))  # of a cell that is kept only what is small stays
    with pytest.raises(FedkimError, match="no such file"):
        write_chosen(matrix, tmp_path)
    for cell in matrix.choice:
        run_cell(matrix, cell, runs=tmp_path / "runs", results=tmp_path)
    kept = read_kept(tmp_path / "choice" / matrix.name / f"{matrix.choice[0].name}.json")
    assert set(kept["metrics"]["covid"]["rows"]["injected"]) == {"n", "patients", "primary"}
    record = json.loads(write_chosen(matrix, tmp_path).read_text())
    scores = record["scores"]["fedkim"]
    assert sorted(scores) == ["0", "1"]
    assert read_chosen(matrix, tmp_path)["fedkim"] == int(scores["1"] > scores["0"])
    (table,) = choice_tables(tmp_path / matrix.name)
    assert table.header == ["method", "5e-4", "1e-3 / 8e-3", "adapters' rate", "alignment's rate"]
    better = int(scores["1"] > scores["0"])
    assert table.rows[0][1 + better] == f"{100 * scores[str(better)]:.1f} (chosen)"
    assert table.rows[0][3:] == [("the lowest", "the highest")[better]] * 2
    assert table.rows[1][3] == "–"  # FedPlug has no adapter
    assert choice_tables(tmp_path) == []
    with pytest.raises(FedkimError, match="choose again"):
        read_chosen(small_matrix(tmp_path, CELLS.replace("1e-3", "2e-3")), tmp_path)
    unseen = '["pleural_effusion", "slake"]'
    for change in (
        CELLS.replace("seeds = [0]", "seeds = [1]"),
        CELLS + "[settings]\nfedkim = ['injection.warmup=0.2']\n",
    ):
        with pytest.raises(
            FedkimError, match=r"made with other (methods or seeds|\[settings\]) than the matrix has now"
        ):
            read_chosen(small_matrix(tmp_path, change, unseen=unseen), tmp_path)
    with pytest.raises(FedkimError, match="made with another base than the matrix has now"):
        read_chosen(small_matrix(tmp_path, CELLS), tmp_path)


def test_nothing_runs_before_its_settings_are_chosen_nor_beside_results_of_other_settings(done, tmp_path):
    root, matrix = done
    with pytest.raises(FedkimError, match="none yet; choose first"):
        run_matrix(root / "small.toml", runs=tmp_path, results=tmp_path)
    shutil.copytree(root / "results", tmp_path / "results")
    path = tmp_path / "results" / matrix.name / "chosen.json"
    path.write_text(path.read_text().replace('"fedkim": 1', '"fedkim": 0'))
    with pytest.raises(FedkimError, match="other settings than the matrix or its choice give now"):
        run_matrix(root / "small.toml", runs=tmp_path, results=tmp_path / "results")
    path.write_text(path.read_text().replace('"fedplug": 0', '"fedkim-plus": 0'))
    with pytest.raises(FedkimError, match="no choice for fedplug"):
        run_matrix(root / "small.toml", runs=tmp_path, results=tmp_path / "results")


def test_a_cell_of_other_settings_is_refused_whatever_is_selected(done, tmp_path):
    root, matrix = done
    shutil.copytree(root / "results", tmp_path / "results")
    path = tmp_path / "results" / matrix.name / "fedplug--fedavg--seed10.json"
    path.write_text(path.read_text().replace("local_epochs = 1", "local_epochs = 2"))
    (cell,) = (cell for cell in matrix.cells if cell.name == path.stem)
    assert standing(root / "results", matrix, cell) == "done"
    assert standing(tmp_path / "results", matrix, cell) == "unlike"
    with pytest.raises(FedkimError, match=r"fedplug--fedavg--seed10\.json, found made with other settings"):
        run_matrix(root / "small.toml", runs=tmp_path, results=tmp_path / "results", only="fedkim--*")


def test_a_result_that_was_deleted_is_computed_again_and_not_taken_from_the_folder(done, tmp_path):
    root, matrix = done
    (cell,) = (cell for cell in matrix.cells if cell.name == "fedplug--fedavg--seed10")
    shutil.copytree(root / "results", tmp_path / "results")
    shutil.copytree(root / "runs", tmp_path / "runs")
    kept = tmp_path / "results" / matrix.name / f"{cell.name}.json"
    before = read_kept(kept)
    kept.unlink()
    folder = tmp_path / "runs" / matrix.name / cell.name
    assert not (folder / "rounds").exists()
    stale = json.loads((folder / "result.json").read_text())
    stale["metrics"]["covid"]["rows"]["injected"]["primary"]["value"] = 0.123
    (folder / "result.json").write_text(json.dumps(stale))
    run_cell(matrix, cell, runs=tmp_path / "runs", results=tmp_path / "results")
    again = read_kept(kept)
    assert again["metrics"] == before["metrics"]
    assert again["train_info"]["digest"] == before["train_info"]["digest"]


def test_a_folder_of_other_settings_is_begun_anew_unless_its_weights_were_kept(done, tmp_path):
    root, matrix = done
    (cell,) = (cell for cell in matrix.cells if cell.name == "fedplug--fedavg--seed10")
    shutil.copytree(root / "runs" / matrix.name / cell.name, tmp_path / "runs" / matrix.name / cell.name)
    (tmp_path / "results" / matrix.name).mkdir(parents=True)
    chosen = json.loads((root / "results" / matrix.name / "chosen.json").read_text())
    chosen["chosen"]["fedplug"] = 1
    (tmp_path / "results" / matrix.name / "chosen.json").write_text(json.dumps(chosen))
    (tmp_path / "runs" / matrix.name / cell.name / "kept").touch()
    with pytest.raises(FedkimError, match="kept weights of other settings; move it, or delete it"):
        run_cell(matrix, cell, runs=tmp_path / "runs", results=tmp_path / "results")
    (tmp_path / "runs" / matrix.name / cell.name / "kept").unlink()
    record = read_kept(run_cell(matrix, cell, runs=tmp_path / "runs", results=tmp_path / "results"))
    assert "alignment_learning_rate = 0.008" in record["run_info"]["config"]


def test_thresholds_of_development_patients_and_open_questions_are_kept(done):
    root, _ = done
    record = read_kept(root / "results" / "small-matrix" / "fedkim--fedavg--seed10.json")
    tuned = record["metrics"]["covid"]["rows"]["injected"]["tuned"]
    assert 0 < tuned["threshold"] < 1
    assert {"accuracy", "f1"} <= set(tuned["metrics"])
    assert record["metrics"]["slake"]["rows"]["injected"]["closed"]["metrics"]["accuracy"]["value"] is not None


def test_development_patients_never_stand_beside_test_patients(done, tmp_path):
    root, _ = done
    folder = tmp_path / "small-matrix"
    shutil.copytree(root / "results" / "small-matrix", folder)
    path = folder / "fedkim--fedavg--seed10.json"
    path.write_text(path.read_text().replace('"split": "test"', '"split": "development"'))
    with pytest.raises(FedkimError, match="development patients beside scores of test patients"):
        read_scores(folder)


def test_an_empty_folder_and_a_pattern_without_a_cell_are_told(done, tmp_path):
    root, _ = done
    with pytest.raises(FedkimError, match="no cell"):
        read_scores(tmp_path)
    with pytest.raises(FedkimError, match="no such folder"):
        read_scores(tmp_path / "nowhere")
    with pytest.raises(FedkimError, match="none that match"):
        run_matrix(root / "small.toml", runs=tmp_path, results=tmp_path, only="nothing*")


@pytest.mark.slow
def test_the_papers_matrix_runs_whole_at_smoke_size(tmp_path):
    path = Path(__file__).parents[2] / "recipes" / "paper-matrix.toml"
    outcome = run_matrix(path, runs=tmp_path / "runs", results=tmp_path / "results", smoke=True, jobs=2)
    assert not outcome.failed
    assert outcome.left == 0
    scores = read_scores(tmp_path / "results" / "paper-matrix-smoke")
    assert len(scores.cells) == len(outcome.done)
    text = markdown(scores, decide(scores))
    for title in (
        "Zero-shot",
        "Fine-tuning",
        "Ablation",
        "Transfer",
        "Heterogeneous",
        "Routing",
        "Bytes against score",
    ):
        assert title in text
    assert write_comparison(tmp_path / "results" / "paper-matrix-smoke", tmp_path / "page")
