import numpy as np
import pytest

from fedkim.errors import FedkimError
from fedkim.evaluation.predictions import Predictions, pool
from fedkim.recipe import from_dict
from fedkim.run.folds import _distinct
from fedkim.run.kept_result import result_path
from fedkim.run.scores import shuffled_over_patients
from fedkim.run.world import build_world


def make_row(patients, split="test", fold=""):
    n = len(patients)
    scores = np.linspace(0.1, 0.9, n)
    return Predictions(
        task="covid",
        split=split,
        samples=tuple(f"{fold}s{i}" for i in range(n)),
        patients=tuple(patients),
        truth=tuple("Yes" if i % 2 else "No" for i in range(n)),
        answers=("No", "Yes"),
        probabilities=np.stack([1 - scores, scores], axis=1),
    )


def test_shuffled_answers_always_come_from_another_patient():
    row = make_row(["a"] * 4 + ["b"] * 3 + ["c", "d", "e"])
    owner = dict(zip(row.scores.tolist(), row.patients))
    for seed in range(20):
        shuffled = shuffled_over_patients(row, seed)
        assert sorted(shuffled.scores) == sorted(row.scores)
        assert all(owner[score] != patient for score, patient in zip(shuffled.scores.tolist(), row.patients))


def test_one_patient_alone_can_not_be_shuffled():
    assert shuffled_over_patients(make_row(["a"] * 5), 0) is None
    assert shuffled_over_patients(make_row(["a"] * 5 + ["b"] * 4), 0) is None


def test_development_patients_that_come_back_in_other_folds_can_be_pooled():
    parts = [(f"fold-{k}", make_row(["a", "b"], split="development")) for k in range(3)]
    with pytest.raises(FedkimError, match="twice"):
        pool(parts)
    assert len(pool((fold, _distinct(fold, row, "injected")) for fold, row in parts)) == 6


def test_pooled_proxy_is_ranked_within_its_fold():
    row = make_row(list("abcd"))
    ranked = _distinct("fold-0", row, "proxy")
    np.testing.assert_allclose(ranked.scores, [0.125, 0.375, 0.625, 0.875])


def test_a_site_name_that_events_can_not_hold_is_refused_before_any_training():
    recipe = from_dict(
        {
            "run": {"name": "x"},
            "data": {"image_size": 32, "image_patients": 60, "signal_patients": 60, "icu_patients": 60},
            "federation": {
                "sites": 2,
                "partition": "table",
                "table_of_sites": {"Hospital A": ["hospital-1"], "B": ["hospital-2"]},
            },
        }
    )
    with pytest.raises(FedkimError, match="site 'Hospital A'"):
        build_world(recipe)


def test_a_single_fold_never_takes_the_place_of_all_five(tmp_path):
    recipe = from_dict({"run": {"name": "real"}, "data": {"source": "pack", "fold": 2}})
    one = result_path(tmp_path, recipe, {"run_info": {}})
    five = result_path(tmp_path, recipe, {"run_info": {"folds": [0, 1, 2, 3, 4]}})
    assert one.name == "fedkim--fedavg--seed0--folds-2.json"
    assert five.name == "fedkim--fedavg--seed0.json"
