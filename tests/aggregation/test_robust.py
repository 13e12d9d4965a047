"""Laws that every robust rule keeps, and what becomes of a component with too few contributors."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounds_of_updates import NAME, WEIGHT, aggregated, row_of, update, updates_of

from fedkim.aggregation import ROBUST, check_owners, fedavg, short_of_sites, weighted_mean
from fedkim.aggregation.robust import coordinate_mean, median, trimmed_mean
from fedkim.errors import FedkimError
from fedkim.state import State

RULES = {name: maker() for name, maker in ROBUST.items()}
every_rule = pytest.mark.parametrize("name", RULES)
rounds = st.tuples(st.integers(0, 2**31), st.integers(5, 12), st.integers(2, 40))


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@every_rule
@settings(deadline=None, max_examples=15)
@given(rounds)
def test_the_order_of_arrival_changes_no_bit(name, round):
    seed, sites, size = round
    rows, order = drawn(seed, sites, size), random.Random(seed).sample(range(sites), sites)
    assert torch.equal(aggregated(RULES[name], rows), aggregated(RULES[name], rows, order=order))


@every_rule
@settings(deadline=None, max_examples=15)
@given(rounds)
def test_moving_everything_moves_the_result_as_far(name, round):
    seed, sites, size = round
    rows, shift = drawn(seed, sites, size).double(), 3 * drawn(seed + 1, size).double()
    moved = aggregated(RULES[name], rows + shift, before=shift)
    torch.testing.assert_close(moved, aggregated(RULES[name], rows) + shift, atol=1e-9, rtol=0)


@every_rule
def test_what_all_sites_say_is_the_result_exactly(name):
    row = drawn(3, 50)
    assert torch.equal(aggregated(RULES[name], row.repeat(7, 1), before=drawn(4, 50)), row)


@every_rule
@settings(deadline=None, max_examples=15)
@given(rounds)
def test_no_coordinate_leaves_what_was_sent_and_broadcast(name, round):
    seed, sites, size = round
    rows = drawn(seed, sites, size)
    result, hull = aggregated(RULES[name], rows), torch.cat([rows, torch.zeros(1, size)])
    if name != "clipped-mean":  # the others know no broadcast
        hull = rows
    assert torch.all(result >= hull.amin(0) - 1e-6)
    assert torch.all(result <= hull.amax(0) + 1e-6)


@pytest.mark.parametrize(
    ("name", "settings_", "sites"),
    [
        ("median", {"byzantine": 4}, 9),
        ("trimmed-mean", {"trim_share": 0.45, "byzantine": 4}, 9),
        ("krum", {"byzantine": 3}, 9),
        ("multi-krum", {"byzantine": 3}, 9),
        ("clipped-mean", {"byzantine": 4, "site_share": 0.2}, 9),
    ],
)
def test_a_rule_stands_as_many_liars_as_it_says_and_falls_with_more(name, settings_, sites):
    """The breakdown point, at the least number of contributors that the rule asks for."""
    liars, algorithm = settings_["byzantine"], ROBUST[name](**settings_)
    assert algorithm.least == sites

    def farthest(number):
        rows = 1 + 0.01 * drawn(1, sites, 30)
        rows[:number] = -1e6  # together at one place, the worst for Krum
        return float((aggregated(algorithm, rows) - 1).abs().max())

    bound = 4.0 if name == "clipped-mean" else 0.1  # it bounds the harm: f·c·k·M = 4 · 0.2 · 2 · 1, and what is missing
    assert farthest(liars) <= bound
    assert farthest({"krum": 6, "multi-krum": 6}.get(name, liars + 1)) > 1e3


def test_the_median_is_the_middle_or_the_mean_of_the_middle_two():
    rows = torch.tensor([[1.0, 9.0], [5.0, 1.0], [2.0, 3.0], [100.0, 2.0]])
    assert aggregated(median(), rows).tolist() == [3.5, 2.5]
    assert aggregated(median(), rows[:3]).tolist() == [2.0, 3.0]


def test_the_trimmed_mean_leaves_out_the_ends_of_each_coordinate():
    rows = torch.tensor([[0.0, -9.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [99.0, 4.0]])
    assert aggregated(trimmed_mean(trim_share=0.2), rows).tolist() == [2.0, 2.0]


def test_claimed_counts_do_not_move_a_rule_that_ignores_them():
    rows = drawn(5, 9, 20)
    for name in set(RULES) - {"clipped-mean"}:
        assert torch.equal(aggregated(RULES[name], rows), aggregated(RULES[name], rows, [10**12, *[1] * 8]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
def test_types_are_kept_and_whole_numbers_rounded(dtype):
    rows = (10 * drawn(6, 6, 70_000)).to(dtype)
    cut = coordinate_mean([{"w": row} for row in rows], cut=1)["w"]
    expected = rows.double().sort(0).values[1:-1].mean(0)
    assert cut.dtype == dtype
    assert torch.equal(cut, expected.to(dtype) if dtype.is_floating_point else expected.round().to(dtype))


# too few ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings_", "least"),
    [
        ("median", {"byzantine": 2}, 5),
        ("trimmed-mean", {"trim_share": 0.2, "byzantine": 1}, 5),
        ("trimmed-mean", {"trim_share": 0.2, "byzantine": 2}, 10),
        (
            "trimmed-mean",
            {"trim_share": 0.29, "byzantine": 29},
            101,
        ),  # 0.29 · 100 is a little less than 29 in floating point
        ("krum", {"byzantine": 2}, 7),
        ("multi-krum", {"byzantine": 1}, 5),
        ("clipped-mean", {"byzantine": 1}, 3),
    ],
)
def test_a_rule_says_how_many_contributors_it_needs(name, settings_, least):
    assert ROBUST[name](**settings_).least == least


@every_rule
def test_a_component_with_too_few_contributors_is_kept_never_averaged_unasked(name):
    rows, before = drawn(7, RULES[name].least - 1, 20), drawn(8, 20)
    assert torch.equal(aggregated(RULES[name], rows, before=before), before)
    asked = ROBUST[name](too_few="mean")
    assert torch.equal(aggregated(asked, rows, [3] * len(rows), before=before), row_of(mean(rows, before)))


def mean(rows, before):
    return weighted_mean(State(), updates_of(rows, [3] * len(rows)))


def test_a_site_without_a_component_neither_counts_nor_votes_there():
    image = {f"site-{number}": torch.full((2,), float(number)) for number in range(6)}
    updates = [update(site, {WEIGHT: value}) for site, value in image.items()]
    updates += [update(f"other-{number}", {"encoder.signal.w": torch.full((2,), 50.0)}) for number in range(2)]
    before = State({WEIGHT: torch.zeros(2), "encoder.signal.w": torch.full((2,), 7.0)})
    after = median().aggregate(before, updates, State())[0]
    assert after[WEIGHT].tolist() == [2.5, 2.5]
    assert after["encoder.signal.w"].tolist() == [7.0, 7.0]  # two are too few
    assert short_of_sites(median(), [u.num_examples for u in updates]) == {"encoder.signal": 2}


def test_a_component_that_can_never_be_aggregated_is_refused_at_the_start():
    owned = {
        **{f"site-{number}": ("encoder.image", "decoder.covid") for number in range(5)},
        "site-0": ("encoder.image",),
    }
    check_owners(median(), owned, a_round=5)
    with pytest.raises(FedkimError, match=r"'decoder.covid', found 4 sites that own it, expected at least 5 .*'krum'"):
        check_owners(ROBUST["krum"](), owned, a_round=5)
    with pytest.raises(FedkimError, match=r"found 3 in a round, expected at least 5"):
        check_owners(ROBUST["krum"](), owned, a_round=3)
    check_owners(ROBUST["krum"](too_few="mean"), owned, a_round=3)
    check_owners(fedavg(), {"site-1": (NAME,)}, a_round=1)


@pytest.mark.parametrize("share", [0.0, 0.5, -1.0, math.nan])
def test_a_share_that_cuts_nothing_or_everything_is_refused(share):
    with pytest.raises(FedkimError, match="trim_share"):
        trimmed_mean(trim_share=share)
