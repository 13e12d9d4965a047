import numpy as np
import pytest

from fedkim.errors import FedkimError
from fedkim.evaluation import metrics
from fedkim.evaluation.statistics import average, difference, mean_within, patient_draws, require_same, score


def area(positive, scores):
    return lambda weights: metrics.auroc(positive, scores, weights)


def people(n):
    return [f"p{i}" for i in range(n)]


def case(n, seed=0):
    random = np.random.default_rng(seed)
    positive = random.random(n) < 0.4
    return positive, random.normal(size=n) + positive


def test_the_same_seed_gives_the_same_interval_and_another_one_does_not():
    positive, scores = case(100)
    first, again = (score(area(positive, scores), people(100), seed=1) for _ in range(2))
    assert first == again
    assert score(area(positive, scores), people(100), seed=2) != first


def test_the_interval_holds_the_true_mean_about_95_times_in_100():
    random = np.random.default_rng(0)
    trials, hits = 300, 0
    for trial in range(trials):
        sample = random.exponential(size=60)  # true mean 1
        found = score(average(sample), people(60), draws=400, seed=trial)
        hits += found.low <= 1 <= found.high
    assert 0.89 <= hits / trials <= 0.98


def test_the_interval_of_an_average_is_as_wide_as_theory_says():
    sample = np.random.default_rng(1).normal(size=400)
    found = score(average(sample), people(400), draws=4000)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * sample.std() / 20, rel=0.08)


def test_ten_images_of_each_patient_do_not_narrow_the_interval():
    positive, scores = case(40)
    once = score(area(positive, scores), people(40))
    repeated = np.repeat(np.arange(40), 10)
    by_patient = score(area(positive[repeated], scores[repeated]), [f"p{i}" for i in repeated])
    by_image = score(area(positive[repeated], scores[repeated]), people(400))
    assert by_patient.value == pytest.approx(once.value)
    assert (by_patient.low, by_patient.high) != (by_image.low, by_image.high)
    assert by_patient.high - by_patient.low > 2 * (by_image.high - by_image.low)
    assert by_patient.high - by_patient.low == pytest.approx(once.high - once.low, rel=0.1)


def test_samples_of_one_patient_are_drawn_together():
    draws = patient_draws(["a", "b", "a", "c", "b"], 50, 0)
    assert (draws[:, 0] == draws[:, 2]).all()
    assert (draws[:, 1] == draws[:, 4]).all()
    assert (draws[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_fewer_than_five_patients_give_a_value_and_no_interval():
    positive, scores = np.array([True, False] * 20), np.linspace(0, 1, 40)
    found = score(area(positive, scores), [f"p{i % 4}" for i in range(40)])
    assert found.value is not None
    assert found.low is None
    assert found.high is None
    assert "4 patients" in found.reason


def test_draws_without_a_class_are_skipped_and_counted():
    positive = np.array([True] + [False] * 19)
    found = score(area(positive, np.arange(20.0)), people(20), draws=1000)
    assert found.skipped_draws == pytest.approx(1000 * (1 - 1 / 20) ** 20, abs=60)  # the one positive is missed
    assert found.value == 0
    assert found.low is not None


def test_where_most_draws_lack_the_score_there_is_no_interval():
    def only_if_drawn_once(weights):  # in 38 of 100 draws
        return np.where(weights[:, 0] == 1, 0.7, np.nan)

    found = score(only_if_drawn_once, people(20), draws=1000)
    assert (found.value, found.low, found.high) == (0.7, None, None)
    assert found.skipped_draws == pytest.approx(1000 * (1 - (1 - 1 / 20) ** 19), abs=60)
    assert f"does not exist in {found.skipped_draws} of 1000 draws" in found.reason


def test_a_missing_class_gives_no_number_but_a_reason():
    found = score(area(np.zeros(10, bool), np.arange(10.0)), people(10), absent="no sample with the answer 'Yes'")
    assert found.value is None
    assert found.reason == "no sample with the answer 'Yes'"


def test_no_samples_give_no_number():
    assert score(average(np.array([])), []).value is None


def test_a_paired_difference_is_narrower_than_two_separate_intervals():
    positive, scores = case(150, seed=4)
    better = scores + 0.05 * np.random.default_rng(5).normal(size=150)
    gap = difference(area(positive, better), area(positive, scores), people(150))
    alone = score(area(positive, scores), people(150))
    assert gap.high - gap.low < (alone.high - alone.low) / 2


def test_the_difference_of_a_method_with_itself_is_exactly_nothing():
    positive, scores = case(50)
    gap = difference(area(positive, scores), area(positive, scores), people(50))
    assert (gap.value, gap.low, gap.high) == (0, 0, 0)


def test_the_mean_within_folds_ignores_what_separates_folds():
    positive = np.array([False, True, False, True])
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    inside = mean_within(lambda kept: area(positive[kept], scores[kept]), ["a", "a", "b", "b"])
    assert inside(np.ones((1, 4)))[0] == 1
    assert area(positive, scores)(np.ones((1, 4)))[0] == 0.75


def test_folds_of_one_patient_each_have_an_interval_around_their_mean():
    areas = [0.2, 0.4, 0.6, 0.8, 1.0]
    inside = mean_within(lambda kept: average(np.array(areas)[kept]), list("abcde"))
    found = score(inside, people(5), draws=2000)
    same = score(average(np.array(areas)), people(5), draws=2000)
    assert found.value == pytest.approx(0.6)
    assert found.low == pytest.approx(same.low)
    assert found.high == pytest.approx(same.high)


def test_methods_on_different_samples_are_not_compared():
    with pytest.raises(FedkimError, match="different samples"):
        require_same(["a", "b"], ["b", "a"], "rows")
