import math

import numpy as np
import pytest
from scipy import stats

from fedkim.evaluation.seeds import (
    FAILS,
    HOLDS,
    MISSING,
    UNMEASURABLE,
    detectable,
    holm,
    paired_seeds,
    power,
    verdicts,
)


def test_the_interval_is_students():
    paired = paired_seeds([1.0, 2.0, 3.0, 4.0, 5.0])
    half = stats.t.ppf(0.975, 4) * math.sqrt(2.5) / math.sqrt(5)
    assert paired.mean == 3
    assert (paired.low, paired.high) == pytest.approx((3 - half, 3 + half))
    assert paired.p == pytest.approx(stats.ttest_1samp([1, 2, 3, 4, 5], 0).pvalue)


def test_the_smallest_detectable_difference_is_found_in_four_of_five_experiments():
    random = np.random.default_rng(0)
    delta = detectable(1.0, 5)
    draws = random.normal(delta, 1.0, size=(20_000, 5))
    found = stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.01)
    assert delta == pytest.approx(1.68, abs=0.01)  # the normal approximation promises 1.25


def test_more_seeds_and_less_spread_detect_smaller_differences():
    assert detectable(1.0, 10) < detectable(1.0, 5) < detectable(1.0, 2)
    assert detectable(2.0, 5) == pytest.approx(2 * detectable(1.0, 5))
    assert detectable(1.0, 1) == math.inf
    assert power(1e-6, 4) == pytest.approx(0.05, abs=1e-3)


def test_holm_multiplies_the_smallest_by_all_and_never_falls():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_equal_differences_are_a_point_and_zero_is_no_difference():
    assert paired_seeds([2.0, 2.0, 2.0]).p == 0
    assert paired_seeds([0.0, 0.0]).p == 1
    assert paired_seeds([0.0, 0.0]).detectable == 0
    words = verdicts({"up": [2.0, 2.0, 2.0], "none": [0.0, 0.0, 0.0], "down": [-1.0, -1.0]})
    assert {name: verdict.word for name, verdict in words.items()} == {"up": HOLDS, "none": FAILS, "down": FAILS}


def test_each_verdict_has_its_case():
    words = verdicts(
        {
            "clear": [5.0, 5.2, 4.9, 5.1, 5.0],
            "small but seen": [0.1, -0.2, 0.1, 0.0, 0.1],
            "drowned": [9.0, -7.0, 3.0, -4.0, 6.0],
            "reversed": [-5.0, -5.2, -4.9, -5.1, -5.0],
            "certain but coarse": [20.0, 24.0, 21.0, 25.0, 22.0],
            "one seed": [5.0],
            "none": None,
        }
    )
    assert {name: verdict.word for name, verdict in words.items()} == {
        "clear": HOLDS,
        "small but seen": FAILS,
        "drowned": UNMEASURABLE,
        "reversed": FAILS,
        "certain but coarse": UNMEASURABLE,
        "one seed": MISSING,
        "none": MISSING,
    }
    assert words["drowned"].paired.detectable > 2
    sides = {name: verdict.side for name, verdict in words.items() if verdict.side}
    assert sides == {"clear": "above 0", "reversed": "below 0", "certain but coarse": "above 0"}
    assert words["none"].adjusted_p is None


def test_a_claim_that_holds_alone_may_not_hold_among_many():
    one = [1.0, 2.0, 0.5, 1.5, 0.4]
    assert verdicts({"a": one})["a"].word == HOLDS
    weak = {str(number): [3.0, -2.0, 1.0, -1.5, 0.2] for number in range(11)}
    assert verdicts({"a": one, **weak})["a"].word != HOLDS
