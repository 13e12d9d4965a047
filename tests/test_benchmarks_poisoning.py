"""Two of ten sites send their step back in a real small federation: what multi-Krum keeps of what the honest ones learn."""

import pytest
from benchmarks.poisoning import ALLOWED, auroc


@pytest.mark.slow
def test_two_liars_of_ten_cost_multi_krum_little():
    """The other rules miss that goal where sites are small: docs/aggregation.md has their figures."""
    clean = auroc("fedavg", liars=0)
    assert clean > 0.8  # there is something to lose
    assert clean - auroc("multi-krum", liars=2) <= ALLOWED
