"""Two of ten sites send their step back in a real small federation: what the rules keep of what the honest ones learn."""

import functools

import pytest
from benchmarks.poisoning import ALLOWED, HELD_TO, auroc

clean = functools.cache(functools.partial(auroc, "fedavg", liars=0))


@pytest.mark.slow
@pytest.mark.parametrize("name", HELD_TO)
def test_two_liars_of_ten_cost_a_robust_rule_little(name):
    assert clean() - auroc(name, liars=2) <= ALLOWED


@pytest.mark.slow
def test_without_liars_something_is_learned_that_could_be_lost():
    assert clean() > 0.8
