"""A run's model on a hospital's own patients: read as in training, scored as test, nothing small shown, nothing named."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import fedkim
from fedkim.cli.app import main
from fedkim.data import hospital
from fedkim.errors import FedkimError
from fedkim.evaluation.predictions import Predictions
from fedkim.evaluation.scoring import score_at
from fedkim.evaluation.suppression import suppressed
from fedkim.evaluation.tables import decisions_line
from fedkim.modalities.signal_files import STANDARD_LEADS as LEADS
from fedkim.run import keep_result, run_recipe
from hospital_files import PATIENT, edit, write_hospital
from small_recipe import small

RECIPE = small(
    'tasks.seen=["covid","ecg_abnormal"]',
    'tasks.unseen=["pleural_effusion"]',
    "federation.rounds=1",
    "evaluation.blind=false",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    run_recipe(RECIPE, out=folder)
    return fedkim.load(folder)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Twenty-four films, mortality and no ECG."""
    return with_both_answers_in_each_ward(
        write_hospital(tmp_path_factory.mktemp("hospital"), num_patients=24, leads=LEADS)
    )


def with_both_answers_in_each_ward(path):
    """The wards take turns by two patients, the answers by one."""
    table = path.parent / "patients.csv"
    header, *lines = table.read_text().splitlines()
    moved = [line.replace(f"ward-{n % 2}", f"ward-{n // 2 % 2}") for n, line in enumerate(lines)]
    table.write_text("\n".join([header, *moved]) + "\n")
    return path


def test_an_answer_in_the_evaluation_is_the_answer_to_the_file(run, site):
    (sample, *_) = hospital.load_site(site, image_size=RECIPE.data.image_size, split="test")
    film = site.parent / "films" / f"{PATIENT}-00.png"
    asked = run.answer(task="covid", image=sample.inputs["image"])
    assert run.answer(task="covid", image=film).probabilities == asked.probabilities


@pytest.mark.parametrize("task", ["covid"])
def test_all_rows_are_scored_with_intervals_beside_the_references(run, site, task):
    before = (run.folder / "result.json").read_bytes()
    entry = run.evaluate(site)["metrics"][task]
    assert (entry["n"], entry["patients"], entry["split"]) == (24, 24, "test")
    assert {"injected", "shuffled", "small_before", "majority"} <= set(entry["rows"])
    primary = entry["rows"]["injected"]["primary"]
    assert primary["low"] <= primary["value"] <= primary["high"]
    assert entry["rows"]["injected"]["tuned"]["metrics"]["accuracy"]["value"] is not None
    assert (run.folder / "result.json").read_bytes() == before


def test_tasks_of_few_patients_and_small_wards_are_hidden(run, site):
    result = run.evaluate(site)
    assert result["meta_info"]["suppressed"]["tasks"] == ["ecg_abnormal"]  # four patients
    assert "ecg_abnormal" not in result["metrics"]
    assert set(result["metrics"]["covid"]["sites"]["by_site"]) == {"ward-0", "ward-1"}  # twelve each
    assert "patients_by_answer" not in json.dumps(result)
    assert set(result["run_info"]["seconds_by_part"]) == {"data", "answers"}


def test_a_split_column_decides_who_is_scored(run, tmp_path):
    path = with_both_answers_in_each_ward(write_hospital(tmp_path, num_patients=24, leads=LEADS))
    edit(path, 'site = "ward"', 'split = "ward"')
    edit(path, "[data.ecg]", '[data.splits]\nward-0 = "private"\nward-1 = "test"\n[data.ecg]')
    assert run.evaluate(path)["metrics"]["covid"]["n"] == 12


def test_a_task_of_a_group_that_the_data_dont_know_is_scored_over_all(run, tmp_path):
    path = with_both_answers_in_each_ward(write_hospital(tmp_path, num_patients=24, leads=LEADS))
    edit(path, "[data.labels.covid]", "[data.labels.infiltration]")  # scored within pneumonia where that is known
    entry = run.evaluate(path)["metrics"]["infiltration"]
    assert entry["within"] is None
    assert entry["rows"]["injected"]["primary"]["value"] is not None


def test_a_site_with_nothing_to_ask_is_refused(run, tmp_path):
    path = write_hospital(tmp_path, leads=LEADS)
    for table in ("covid", "ecg_abnormal"):
        text = path.read_text()
        start = text.index(f"[data.labels.{table}]")
        path.write_text(text[:start] + text[text.index("[", start + 1) :])
    with pytest.raises(FedkimError, match="no label of a task whose inputs the run has learned"):
        run.evaluate(path)


def test_ecgs_with_other_leads_than_in_the_training_are_refused(run, tmp_path):
    with pytest.raises(FedkimError, match=r"signal, found shape \(2, 1000\), expected \(12, 1000\)"):
        run.evaluate(write_hospital(tmp_path))


def test_the_verb_prints_tables_and_nothing_of_a_patient(run, site, capsys):
    assert main(["evaluate", str(run.folder), "--data", str(site)]) == 0
    printed = capsys.readouterr()
    assert "covid" in printed.out
    assert "ecg_abnormal: fewer than 10 patients" in printed.out
    assert re.search(
        r"^covid at the threshold 0\.\d\d \(the run's, .+\): sensitivity \d\.\d\d \[.+\], specificity \d\.\d\d, precision ",
        printed.out,
        re.MULTILINE,
    )
    assert PATIENT not in printed.out + printed.err
    assert main(["evaluate", str(run.folder), "--data", str(site), "--json"]) == 0
    assert PATIENT not in json.dumps(json.loads(capsys.readouterr().out))


def test_the_line_of_decisions_has_the_specificity_that_a_count_gives():
    names = tuple(map(str, range(10)))
    said = np.array([0.9, 0.8, 0.7, 0.2, 0.6, 0.1, 0.1, 0.2, 0.3, 0.4])
    answered = Predictions(
        task="covid",
        split="test",
        samples=names,
        patients=names,
        truth=("Yes",) * 4 + ("No",) * 6,
        answers=("No", "Yes"),
        probabilities=np.stack([1 - said, said], axis=1),
    )
    tuned = {"threshold": 0.5, "source": "the run's, 0.5, not tuned", "metrics": score_at(answered, 0.5, draws=100)}
    line = decisions_line({"task": "covid", "rows": {"injected": {"tuned": tuned}}})
    assert re.sub(r" \[.*?\]", "", line).endswith("sensitivity 0.75, specificity 0.83, precision 0.75")
    assert decisions_line({"task": "covid", "rows": {"injected": {}}}) is None


def entry(counts, patients):
    score = {"value": 0.7, "low": 0.6, "high": 0.8, "reason": "", "skipped_draws": 0}
    row = {"n": 40, "patients": 40, "counts": counts, "metrics": {"auroc": score, "accuracy": score}, "primary": score}
    row |= {"patients_by_answer": dict(counts)} if counts else {}
    by_site = {site: {"n": n, "patients": n, **score} for site, n in patients.items()}
    sites = {"metric": "auroc", "by_site": by_site, "worst": {"site": "a", **score}}
    return {"rows": {"injected": row, "majority": row}, "differences": {}, "sites": sites}


def test_the_site_that_the_total_would_give_away_goes_too():
    assert set(suppressed(entry({"No": 20, "Yes": 20}, {"a": 3, "b": 12, "c": 25}))["sites"]["by_site"]) == {"c"}
    assert set(suppressed(entry({"No": 20, "Yes": 20}, {"a": 28, "b": 5, "c": 7}))["sites"]["by_site"]) == {"a"}
    for patients in (
        {"a": 3, "b": 4, "c": 33},
        {"a": 1, "b": 1, "c": 38},
    ):  # what is left of the total is theirs together
        assert suppressed(entry({"No": 20, "Yes": 20}, patients))["sites"]["by_site"] == {}
    assert len(suppressed(entry({"No": 20, "Yes": 20}, {"a": 10, "b": 30}))["sites"]["by_site"]) == 2


def test_few_patients_at_two_sites_are_no_cell_to_be_computed():
    def told(sites):
        return set(suppressed(entry({"No": 20, "Yes": 20}, sites))["sites"]["by_site"])

    assert told({"a": 13, "b": 12, "c": 18}) == set()  # 43, of 40 patients
    assert told({"a": 13, "b": 12, "c": 15}) == {"a", "b", "c"}
    assert told({"a": 18, "b": 18, "c": 18}) == {"a", "b", "c"}  # fourteen at two


def test_a_site_whose_patients_all_gave_one_answer_isnt_the_only_one_left_out():
    told = entry({"No": 28, "Yes": 12}, {"a": 20, "b": 10, "c": 10})
    told["sites"]["by_site"]["a"]["value"] = None  # 20 are more than the 12 who said Yes: all of a said No
    assert set(suppressed(told)["sites"]["by_site"]) == {"c"}


def test_of_a_rare_answer_only_ranking_scores_stay():
    rare = suppressed(entry({"No": 37, "Yes": 3}, {}))
    assert set(rare["rows"]) == {"injected"}
    assert set(rare["rows"]["injected"]["metrics"]) == {"auroc"}
    assert "counts" not in rare["rows"]["injected"]
    enough = entry({"No": 30, "Yes": 10}, {})
    assert suppressed(enough)["rows"]["injected"]["counts"] == {"No": 30, "Yes": 10}
    enough["rows"]["injected"]["patients_by_answer"] = {"No": 30, "Yes": 3}  # ten films of three patients
    assert "counts" not in suppressed(enough)["rows"]["injected"]
    del enough["rows"]["injected"]["patients_by_answer"]  # a result that tells samples alone
    assert "counts" not in suppressed(enough)["rows"]["injected"]


def test_no_score_in_full_tells_how_many_gave_the_rare_answer():
    told = {"value": 0.7123456, "low": 0.6, "high": 0.8, "reason": "", "skipped_draws": 41}
    rare = entry({"No": 37, "Yes": 3}, {"a": 20, "b": 20})
    for place in (rare["rows"]["injected"], rare["rows"]["injected"]["metrics"]):
        place["primary" if "primary" in place else "auroc"] = told
    rare["differences"]["base"] = told
    rare["sites"]["by_site"]["a"] |= told
    text = json.dumps(suppressed(rare))
    assert "0.71" in text
    assert [word for word in ("skipped_draws", "0.712") if word in text] == []
    assert suppressed(entry({"No": 40, "Yes": 0}, {})) is None  # an AUROC that doesn't exist would say so too


def test_a_group_and_kinds_of_questions_are_cells_as_well():
    grouped = entry({"No": 20, "Yes": 20}, {})
    for row in grouped["rows"].values():
        few = {"No": 10, "Yes": 2}
        row["group"] = {"name": "pneumonia", "patients": 12, "counts": few, "patients_by_answer": few}
    assert "group" not in suppressed(grouped)["rows"]["injected"]
    assert "counts" not in suppressed(grouped)["rows"]["injected"]
    for row in grouped["rows"].values():
        row["group"]["patients"] = 3
    assert suppressed(grouped) is None
    asked = entry({}, {})
    asked["rows"]["injected"] |= {"closed": {"n": 2, "patients": 2}, "open": {"n": 38, "patients": 38}}
    assert not {"closed", "open"} & set(suppressed(asked)["rows"]["injected"])  # one is the total less the other
    asked["rows"]["injected"] |= {"closed": {"n": 12, "patients": 12}, "open": {"n": 28, "patients": 28}}
    assert {"closed", "open"} <= set(suppressed(asked)["rows"]["injected"])
    asked["rows"]["injected"] |= {"closed": {"n": 12, "patients": 3}}
    assert not {"closed", "open"} & set(suppressed(asked)["rows"]["injected"])


def test_what_is_kept_of_a_hospitals_run_describes_no_few(tmp_path):
    def entry(patients):
        row = {
            "n": patients,
            "patients": patients,
            "metrics": {"auroc": {"value": 0.7}},
            "counts": {"No": 20, "Yes": 30},
        }
        by_site = {"ward-a": {"patients": 40, "value": 0.7}, "ward-b": {"patients": 9, "value": 0.6}}
        return {
            "patients": patients,
            "rows": {"injected": row},
            "differences": {},
            "sites": {"by_site": by_site, "worst": {"site": "ward-b", **by_site["ward-b"]}},
        }

    (tmp_path / "home" / "models").mkdir(parents=True)
    recipe = replace(
        RECIPE,
        data=replace(RECIPE.data, source="hospital", root=str(tmp_path / "home" / "site.toml")),
        llm=replace(RECIPE.llm, name=str(tmp_path / "home" / "models")),
    )
    result = {
        "run_info": {"folds": [0], "config": recipe.to_toml(), "llm": recipe.llm.name},
        "train_info": {
            "rounds": [{"round": 1, "sites": {"ward-b": {"loss": 0.5, "num_examples": {"encoder.image": 7}}}}]
        },
        "metrics": {"covid": entry(50), "mortality": entry(9)},
        "meta_info": {"sites": {"ward-a": {"patients": 40, "samples": 50}, "ward-b": {"patients": 3, "samples": 12}}},
    }
    kept = json.loads(keep_result(tmp_path, recipe, result).read_text())
    assert "home" not in json.dumps(kept)
    assert re.fullmatch("models-[0-9a-f]{8}", kept["run_info"]["llm"])
    keep_result(tmp_path, recipe, result)  # the same recipe's: it may take that place again
    assert list(kept["metrics"]) == ["covid"]
    assert kept["metrics"]["covid"]["sites"]["by_site"] == {}  # the total would give the other away
    assert kept["meta_info"]["sites"] == {
        "ward-a": {"patients": None, "samples": None},  # a total would give ward-b's three away
        "ward-b": {"patients": None, "samples": None},
    }
    assert kept["train_info"]["rounds"] == [{"round": 1, "sites": {"ward-b": {}}}]  # three patients' loss
    assert kept["meta_info"]["suppressed"] == {"smallest_cell": 10, "tasks": ["mortality"]}
    path = keep_result(tmp_path / "synthetic", RECIPE, result)
    assert json.loads(path.read_text())["metrics"].keys() == {"covid", "mortality"}


def test_the_patients_outside_of_a_group_are_no_cell_to_be_computed():
    def grouped(total, group):
        told = entry(total, {})
        for row in told["rows"].values():
            row |= {"patients": sum(total.values())}
            row["group"] = {"name": "pneumonia", "patients": sum(group.values()), "counts": group}
            row["group"]["patients_by_answer"] = group
        return told

    assert suppressed(grouped({"No": 48, "Yes": 72}, {"No": 43, "Yes": 72})) is None  # five outside
    assert suppressed(grouped({"No": 80, "Yes": 72}, {"No": 40, "Yes": 72})) is None  # forty outside, all No
    assert suppressed(grouped({"No": 80, "Yes": 72}, {"No": 40, "Yes": 69})) is None  # three of them Yes
    assert suppressed(grouped({"No": 80, "Yes": 72}, {"No": 40, "Yes": 42})) is not None
    assert suppressed(grouped({"No": 40, "Yes": 42}, {"No": 40, "Yes": 42})) is not None  # nobody outside
