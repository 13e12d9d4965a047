import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from fedkim.errors import FedkimError
from fedkim.evaluation.baselines import choose_proxy, majority, majority_per_template
from fedkim.evaluation.blindness import question_blindness, worst_blindness
from fedkim.evaluation.predictions import Predictions, pool
from fedkim.evaluation.scoring import score_at, score_rows, score_sites, score_task
from fedkim.evaluation.tables import render_table


def classification(scores, positive, *, start=0, **more):
    scores = np.asarray(scores, dtype=float)
    n = len(scores)
    return Predictions(
        **{
            "task": "effusion",
            "split": "test",
            "samples": tuple(f"s{start + i}" for i in range(n)),
            "patients": tuple(f"p{start + i}" for i in range(n)),
            "truth": tuple("Yes" if p else "No" for p in positive),
            "answers": ("No", "Yes"),
            "probabilities": np.stack([1 - scores, scores], axis=1),
            **more,
        }
    )


def written(generated, truth, **more):
    n = len(truth)
    ids = tuple(f"s{i}" for i in range(n))
    return Predictions(
        **{"task": "vqa", "split": "test", "samples": ids, "patients": ids, "truth": tuple(truth)},
        generated=tuple(generated),
        **more,
    )


def example(n=60, seed=0, **more):
    random = np.random.default_rng(seed)
    positive = random.random(n) < 0.5
    return classification(1 / (1 + np.exp(-random.normal(size=n) - 2 * positive + 1)), positive, **more)


def test_a_row_of_scores_is_json_without_nan():
    row = score_task(classification([0.1, 0.2, 0.3, 0.2, 0.1, 0.4], [False] * 6))
    text = json.dumps(row, allow_nan=False)
    assert json.loads(text) == row
    assert row["metrics"]["auroc"]["value"] is None
    assert row["metrics"]["auroc"]["reason"] == "no sample with the answer 'Yes'"
    assert row["metrics"]["accuracy"]["value"] == 1
    assert row["metrics"]["f1"]["value"] is None


def test_mcc_and_precision_of_a_constant_answer_do_not_exist():
    row = score_task(classification([0.1] * 6, [True, False] * 3))
    assert row["metrics"]["mcc"]["value"] is None
    assert row["metrics"]["mcc"]["reason"] == "every sample was given the same answer"
    assert row["metrics"]["precision"]["value"] is None
    assert row["metrics"]["recall"]["value"] == 0
    assert row["metrics"]["auroc"]["value"] == 0.5


def test_the_tuned_threshold_comes_from_development_alone():
    development = classification([0.01, 0.02, 0.03, 0.1, 0.2, 0.3], [0, 0, 0, 1, 1, 1], start=100, split="development")
    test = example()
    upside_down = classification(test.scores, [word == "No" for word in test.truth])
    tuned = score_task(test, development, draws=50)["tuned"]
    assert tuned["threshold"] == pytest.approx(0.065)
    assert score_task(upside_down, development, draws=50)["tuned"]["threshold"] == tuned["threshold"]
    expected = np.mean((test.scores >= 0.065) == (test.labels == 1))
    assert tuned["metrics"]["accuracy"]["value"] == pytest.approx(expected)


def test_the_tuned_threshold_of_a_group_is_scored_within_it_and_shares_no_patient():
    groups = tuple(frozenset({"pneumonia"}) if i % 2 else frozenset() for i in range(60))
    test = example(groups=groups, within="pneumonia")
    development = example(seed=1, split="development", groups=groups, within="pneumonia")
    apart = replace(development, patients=tuple(f"d{i}" for i in range(60)))
    tuned = score_task(test, apart, draws=20)["tuned"]
    assert tuned["metrics"] == score_at(test, tuned["threshold"], draws=20)
    with pytest.raises(FedkimError, match="test patients among development's"):
        score_task(test, replace(development, samples=tuple(f"e{i}" for i in range(60))), draws=20)


def test_a_threshold_tuned_on_the_scored_patients_has_no_scores():
    development = example(split="development")
    tuned = score_task(development, development, draws=0)["tuned"]
    assert 0 < tuned["threshold"] < 1
    assert "metrics" not in tuned
    assert "these very patients" in tuned["reason"]


def test_the_majority_inside_a_group_is_the_groups_own():
    groups = tuple(frozenset({"pneumonia"}) if i < 40 else frozenset() for i in range(100))
    positive = [i < 30 for i in range(100)]  # 30 of 40 inside, none of 60 outside
    entry = score_rows(
        {"injected": classification([0.5] * 100, positive, groups=groups, within="pneumonia")}, seen=True, draws=0
    )
    majority_row = entry["rows"]["majority"]
    assert majority_row["metrics"]["accuracy"]["value"] == 0.7
    assert majority_row["group"]["metrics"]["accuracy"]["value"] == 0.75
    assert majority_row["primary"]["n"] == 40


def test_a_proxy_is_chosen_among_no_patients_of_a_group_without_a_crash():
    assert choose_proxy(example().take([False] * 60), {"covid": np.zeros(0)}) is None


def test_a_threshold_is_not_tuned_on_the_test_split():
    with pytest.raises(FedkimError, match="expected the development split"):
        score_task(example(), example(), draws=0)


def test_an_unseen_task_may_not_bring_development_predictions():
    development = example(split="development")
    with pytest.raises(FedkimError, match="would not be zero-shot"):
        score_rows({"injected": example()}, seen=False, development={"injected": development}, draws=0)


def test_the_primary_score_is_that_of_the_group():
    groups = tuple(frozenset({"pneumonia"}) if i % 2 else frozenset() for i in range(60))
    p = example(groups=groups, within="pneumonia")
    row = score_task(p, draws=20)
    inside = score_task(example().take([i % 2 == 1 for i in range(60)]), draws=20)
    assert row["primary"]["n"] == 30
    assert row["primary"]["value"] == inside["metrics"]["auroc"]["value"] == row["group"]["metrics"]["auroc"]["value"]
    assert row["metrics"]["auroc"]["value"] == score_task(example(), draws=20)["metrics"]["auroc"]["value"]
    assert row["n"] == 60


def test_scoring_never_changes_the_truth_nor_the_scores():
    probabilities = example().probabilities.copy()
    p = classification(probabilities[:, 1], [word == "Yes" for word in example().truth])
    truth = p.truth
    score_rows({"injected": p}, seen=True, draws=20)
    assert p.truth is truth
    assert (p.probabilities[:, 1] == probabilities[:, 1]).all()
    with pytest.raises(ValueError, match="read-only"):
        p.probabilities[0, 0] = 1
    answers = written(["Left lung", "normal"], ["The left lung", "No"])
    score_rows({"injected": answers}, seen=False, draws=0)
    assert answers.truth == ("The left lung", "No")


def test_later_edits_of_the_callers_array_do_not_reach_what_is_scored():
    table = np.array([[0.2, 0.8], [0.7, 0.3]])
    p = classification([0.8, 0.3], [True, False], probabilities=table)
    table[:] = 0.5
    assert p.scores.tolist() == [0.8, 0.3]


@pytest.mark.parametrize("bad", [[[np.nan, 1.0]], [[0.4, 0.4]], [[-0.5, 1.5]], [[1.0]]])
def test_probabilities_that_are_none_are_refused(bad):
    with pytest.raises(FedkimError, match="probabilities"):
        classification([0.5], [True], probabilities=np.array(bad))


def test_rows_on_other_samples_are_refused():
    with pytest.raises(FedkimError, match="different samples"):
        score_rows({"injected": example(), "blind": example(start=5)}, seen=True, draws=0)


def test_the_difference_to_a_reference_is_paired_and_has_the_right_sign():
    good, blind = example(), classification(np.full(60, 0.5), [word == "Yes" for word in example().truth])
    entry = score_rows({"injected": good, "blind": blind}, seen=True, draws=200)
    gap = entry["differences"]["blind"]
    assert gap["value"] == pytest.approx(entry["rows"]["injected"]["primary"]["value"] - 0.5)
    assert gap["low"] > 0
    assert set(entry["rows"]) == {"injected", "blind", "majority"}


def test_majority_accuracy_is_the_larger_share_and_its_area_is_a_half():
    row = score_task(majority(classification([0.9] * 8, [1, 0, 0, 0, 0, 0, 1, 0])), draws=20)
    assert row["metrics"]["accuracy"]["value"] == 0.75
    assert row["metrics"]["auroc"]["value"] == 0.5


def test_majority_per_template_answers_each_wording_alike():
    test = written(["?"] * 5, ["yes", "Yes.", "no", "left", "left"], templates=("a", "a", "a", "b", "b"))
    assert majority_per_template(test).generated == ("Yes.", "Yes.", "Yes.", "left", "left")
    assert (
        score_rows({"injected": test}, seen=False, draws=0)["rows"]["majority_per_template"]["primary"]["value"] == 0.8
    )


def test_empty_answers_count_in_n():
    row = score_task(written(["yes", "", "", "left"], ["yes", "no", "left", "left"]), draws=0)
    assert row["n"] == 4
    assert row["metrics"]["exact_match"]["value"] == 0.5
    assert row["metrics"]["empty_rate"]["value"] == 0.5
    assert row["metrics"]["meteor_no_synonyms"]["value"] == pytest.approx(0.25)


def test_closed_and_open_questions_are_scored_apart():
    row = score_task(written(["normal", "No", "Yes it is", "left"], ["no", "no", "yes", "left"]), draws=0)
    assert row["closed"]["n"] == 3
    assert row["closed"]["metrics"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert row["closed"]["metrics"]["unparsable_rate"]["value"] == pytest.approx(1 / 3)
    assert row["closed"]["metrics"]["exact_match"]["value"] == pytest.approx(1 / 3)
    assert row["open"] == {"n": 1, "patients": 1, "metrics": row["open"]["metrics"]}
    assert row["open"]["metrics"]["exact_match"]["value"] == 1


def test_the_worst_site_is_the_one_with_the_lowest_score():
    p = classification(
        [0.1, 0.9, 0.2, 0.8, 0.9, 0.1, 0.5, 0.5],
        [0, 1, 0, 1, 0, 1, 0, 0],
        sites=("a", "a", "a", "a", "b", "b", "c", "c"),
    )
    sites = score_sites(p)
    assert {site: entry["value"] for site, entry in sites["by_site"].items()} == {"a": 1.0, "b": 0.0, "c": None}
    assert sites["by_site"]["c"]["reason"] == "no sample with the answer 'Yes'"
    assert sites["worst"]["site"] == "b"
    assert sites["worst"]["n"] == 2


def test_pooled_folds_keep_every_sample_and_also_give_the_mean_within():
    first = classification([0.1, 0.2, 0.15, 0.25], [0, 1, 0, 1])
    second = classification([0.8, 0.9, 0.85, 0.95], [0, 1, 0, 1], start=4)
    both = pool([("1", first), ("2", second)])
    row = score_task(both, draws=50)
    assert row["n"] == 8
    assert row["metrics"]["auroc_within_folds"]["value"] == 1
    assert row["metrics"]["auroc"]["value"] == 12 / 16
    one_class = classification([0.5, 0.6], [0, 0], start=8)
    partly = score_task(pool([("1", first), ("3", one_class), ("4", first.take([False] * 4))]), draws=20)
    assert partly["metrics"]["auroc_within_folds"]["value"] == 1
    assert "1 of 2 folds" in partly["metrics"]["auroc_within_folds"]["reason"]
    with pytest.raises(FedkimError, match="a sample twice"):
        pool([("1", first), ("2", first)])


def test_question_blindness_is_one_for_a_copy_and_nothing_for_a_constant():
    scores = {f"s{i}": value for i, value in enumerate([0.1, 0.5, 0.4, 0.9])}
    table = question_blindness(
        scores,
        {
            "copy": {key: 2 * value for key, value in scores.items()},
            "mirror": {key: -(value**3) for key, value in scores.items()},
            "constant": dict.fromkeys(scores, 0.5),
            "elsewhere": {"x": 0.1},
        },
    )
    assert table["copy"]["pearson"] == pytest.approx(1)
    assert table["mirror"]["spearman"] == pytest.approx(-1)
    assert table["mirror"]["pearson"] > -1
    assert table["constant"]["pearson"] is None
    assert table["elsewhere"]["n"] == 0
    assert worst_blindness(table) == ("copy", pytest.approx(1))


def test_the_proxy_is_the_best_head_on_development():
    development = classification([0.5] * 4, [0, 0, 1, 1], split="development")
    heads = {"opacity": np.array([0.1, 0.2, 0.8, 0.9]), "covid": np.array([0.9, 0.8, 0.2, 0.1])}
    assert choose_proxy(development, heads) == "opacity"


def test_the_table_shows_each_score_with_its_interval():
    entry = score_rows({"injected": example(), "blind": example(seed=0)}, seen=True, draws=100)
    unseen = score_rows(
        {"injected": example()}, seen=False, asked={"opacity": {f"s{i}": i for i in range(60)}}, draws=0
    )
    text = score_rows({"injected": written(["yes"], ["yes"])}, seen=False, draws=0)
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    render_table({"metrics": {"a": entry, "b": unseen, "c": text}, "meta_info": {"synthetic": True}}, console)
    shown = console.export_text()
    primary = entry["rows"]["injected"]["primary"]
    assert f"{primary['value']:.2f} [{primary['low']:.2f}, {primary['high']:.2f}]" in shown
    assert f"{unseen['blindness']['opacity']['pearson']:+.2f} opacity" in shown
    assert "synthetic phantom data" in shown


def test_importing_evaluation_loads_neither_matplotlib_nor_scikit_learn():
    code = (
        "import sys, fedkim.evaluation.scoring, fedkim.evaluation.tables;"
        "print([m for m in ('matplotlib', 'sklearn', 'scipy', 'nltk', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_over_folds_the_proxy_is_compared_within_each():
    """Scores that know nothing but a fold's prevalence gain over ranks within folds when pooled; that is no transfer."""
    random = np.random.default_rng(3)
    folds = ("fold-0",) * 200 + ("fold-1",) * 200
    positive = np.concatenate([random.random(200) < 0.2, random.random(200) < 0.8])
    noise = random.random(400)
    known = np.concatenate([0.2 * noise[:200], 0.8 + 0.2 * noise[200:]])
    ranks = np.concatenate([noise[:200].argsort().argsort(), noise[200:].argsort().argsort()]) / 200
    rows = {
        "injected": classification(known, positive, folds=folds),
        "proxy": classification(ranks, positive, folds=folds),
    }
    entry = score_rows(rows, seen=False, draws=200)
    pooled = {name: row["primary"]["value"] for name, row in entry["rows"].items()}
    assert pooled["injected"] - pooled["proxy"] > 0.2
    assert entry["differences"]["proxy"]["value"] == pytest.approx(0, abs=1e-9)
    alone = score_rows({name: replace(row, folds=()) for name, row in rows.items()}, seen=False, draws=200)
    assert alone["differences"]["proxy"]["value"] == pytest.approx(pooled["injected"] - pooled["proxy"])
