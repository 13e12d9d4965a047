"""An easy question beside a hard one at a site: what weights by gradient keep of the hard one."""

import pytest
from benchmarks.crowding import EASY, HARD, auroc, recipe

from fedkim.run.world import build_world


@pytest.mark.slow
def test_weights_by_gradient_keep_a_hard_question_that_equal_weights_lose():
    world = build_world(recipe(1))
    equal, weighed = (auroc(world, (HARD, *EASY), weights, rounds=4) for weights in ("equal", "gradient"))
    assert equal[HARD] < 0.7  # there is something to win
    assert weighed[HARD] > 0.8
    assert min(weighed[name] for name in EASY) > 0.9
