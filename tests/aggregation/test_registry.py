import pytest
import torch
from rounds_of_updates import aggregated

from fedkim.aggregation import ALGORITHMS, ROBUST, make_algorithm
from fedkim.errors import FedkimError
from fedkim.recipe import Federation


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_is_made_from_a_recipe_and_bears_its_name(name):
    assert make_algorithm(Federation(algorithm=name)).name == name


@pytest.mark.parametrize("name", ROBUST)
def test_the_penalty_and_the_rule_do_not_touch(name):
    plain = make_algorithm(Federation(algorithm=name))
    both = make_algorithm(Federation(algorithm=f"fedprox-{name}", proximal_mu=0.5))
    assert plain.penalty is None
    assert both.penalty({"w": torch.ones(4)}, {"w": torch.zeros(4)}) == pytest.approx(0.5 * 0.5 * 4)
    rows = torch.randn(7, 9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(aggregated(plain, rows), aggregated(both, rows))


def test_the_recipes_settings_reach_the_rule_with_and_without_the_penalty():
    for prefix in ("", "fedprox-"):
        assert make_algorithm(Federation(algorithm=f"{prefix}krum", byzantine=4)).least == 11
        assert make_algorithm(Federation(algorithm=f"{prefix}median", too_few="mean")).too_few == "mean"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"algorithm": "fedavg", "byzantine": 2},
            "byzantine, found 2 with algorithm 'fedavg'; leave it out, or choose",
        ),
        (
            {"algorithm": "krum", "selected": 3},
            "selected, found 3 with algorithm 'krum'; leave it out, or choose multi-krum",
        ),
        ({"algorithm": "fedprox-median", "clip_factor": 3.0}, "leave it out, or choose clipped-mean"),
        (
            {"algorithm": "fedavg", "proximal_mu": 0.5},
            "proximal_mu, found 0.5 with algorithm 'fedavg'; leave it out, or choose fedprox, fedprox-median",
        ),
        ({"algorithm": "krum", "proximal_mu": 0.5}, "fedprox-krum"),
    ],
)
def test_a_setting_that_the_algorithm_would_ignore_is_refused(settings, message):
    with pytest.raises(FedkimError) as caught:
        make_algorithm(Federation(**settings))
    assert message in str(caught.value)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(FedkimError, match="did you mean 'trimmed-mean'"):
        make_algorithm(Federation(algorithm="trimed-mean"))
