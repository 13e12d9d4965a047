import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedkim.aggregation import NO_LIMITS, Limits, Rejection, gate, objection
from fedkim.state import State, Update

STATE = State({"encoder.image.w": torch.ones(2, 3), "decoder.covid.b": torch.ones(2)})
OWNED = {"site-1": ["encoder.image", "decoder.covid"], "site-2": ["encoder.image"]}
DECLARED = {"site-1": {"encoder.image": 5, "decoder.covid": 5}, "site-2": {"encoder.image": 5}}
GOLDEN = json.loads((Path(__file__).parent / "gate_messages.json").read_text(encoding="utf-8"))


def make_update(site="site-1", *, round=1, base=None, tensors=None, counts=None):
    owned = STATE.slice(OWNED.get(site, ["encoder.image"]))
    tensors = {key: value + 1 for key, value in owned.items()} | (tensors or {})
    return Update(
        site=site,
        round=round,
        base_digest=owned.digest() if base is None else base,
        state=State({key: value for key, value in tensors.items() if value is not None}),
        num_examples={"encoder.image": 5, "decoder.covid": 5} | (counts or {}),
    )


BAD = {
    "NaN": make_update(tensors={"encoder.image.w": torch.full((2, 3), torch.nan)}),
    "infinity": make_update(tensors={"encoder.image.w": torch.full((2, 3), torch.inf)}),
    "another shape": make_update(tensors={"encoder.image.w": torch.ones(1)}),
    "one row more": make_update(tensors={"encoder.image.w": torch.ones(3, 3)}),
    "another type": make_update(tensors={"encoder.image.w": torch.ones(2, 3, dtype=torch.float64)}),
    "a missing tensor": make_update(tensors={"encoder.image.w": None}),
    "a foreign tensor": make_update(tensors={"encoder.signal.w": torch.ones(1)}),
    "another site's component": make_update("site-2", tensors={"decoder.covid.b": torch.ones(2)}),
    "a negative count": make_update(counts={"encoder.image": -80}),
    "a count that is no number": make_update(counts={"encoder.image": float("nan")}),
    "a count of zero": make_update(counts={"encoder.image": 0}),
    "a count beyond all numbers": make_update(counts={"encoder.image": 10**5000}),
    "a count of True": make_update(counts={"encoder.image": True}),
    "more than registered": make_update(counts={"encoder.image": 10**12}),
    "another round": make_update(round=3),
    "a round that is no number": make_update(round=10**30),
    "another base": make_update(base="stale"),
    "an unregistered site": make_update("stranger"),
    "1e30": make_update(tensors={"encoder.image.w": torch.full((2, 3), 1e30)}),
}


def through(*updates, **settings):
    return gate(updates, round=1, state=STATE, owned=OWNED, declared=DECLARED, **settings)


def test_honest_updates_pass_in_name_order():
    accepted, rejected = through(make_update("site-2"), make_update())
    assert [update.site for update in accepted] == ["site-1", "site-2"]
    assert rejected == []


@pytest.mark.parametrize("name", BAD)
def test_a_bad_update_is_left_out_with_its_message_and_the_others_stay(name):
    update = BAD[name]
    honest = make_update("site-1") if update.site != "site-1" else make_update("site-2")
    accepted, rejected = through(update, honest)
    assert [update.site for update in accepted] == [honest.site]
    assert [f"{r.site}: {r.code} {r.reason}" for r in rejected] == [GOLDEN[name]]


def test_every_message_of_the_gate_is_a_golden_one():
    assert set(GOLDEN) == set(BAD) | {"unlike the first", "far from the others", "one tensor far"}


def test_the_same_message_twice_passes_in_silence_and_another_one_is_refused():
    accepted, rejected = through(make_update(), make_update())
    assert len(accepted) == 1
    assert rejected == []
    other = make_update(tensors={"encoder.image.w": STATE["encoder.image.w"] * 1.5})
    accepted, rejected = through(make_update(), other)
    assert len(accepted) == 1
    assert torch.equal(accepted[0].state["encoder.image.w"], make_update().state["encoder.image.w"])
    assert f"{rejected[0].site}: {rejected[0].code} {rejected[0].reason}" == GOLDEN["unlike the first"]


def test_a_bad_second_update_leaves_the_first():
    accepted, rejected = through(make_update(), BAD["NaN"])
    assert [update.site for update in accepted] == ["site-1"]
    assert [rejection.code for rejection in rejected] == ["E-FINITE"]


def test_a_site_that_failed_is_handed_on():
    failure = Rejection(site="site-2", code="E-DIVERGED", reason="a loss that isn't finite")
    accepted, rejected = through(make_update(), failure)
    assert [update.site for update in accepted] == ["site-1"]
    assert rejected == [failure]


# how far ---------------------------------------------------------------------------------------------------------

MANY = State({"encoder.image.w": torch.ones(400), "encoder.image.b": torch.zeros(1), "encoder.image.n": torch.ones(4)})
SITES = [f"site-{number}" for number in range(1, 8)]


def far(step=0.1, *, times=(), counts=(), single=0.0, limits=None):
    """The gate's verdict on seven sites that move every weight by ``step``, some of them ``times`` as far."""
    updates = []
    for index, site in enumerate(SITES):
        factor = times[index] if index < len(times) else 1.0
        moved = {key: value + step * factor for key, value in MANY.items()}
        if index == 0 and single:
            moved["encoder.image.n"] = MANY["encoder.image.n"] + single
        count = counts[index] if index < len(counts) else 10
        updates.append(
            Update(
                site=site,
                round=1,
                base_digest=MANY.digest(),
                state=State(moved),
                num_examples={"encoder.image": count},
            )
        )
    owned = {site: ["encoder.image"] for site in SITES}
    return gate(updates, round=1, state=MANY, owned=owned, limits=limits)


def test_who_moved_far_from_the_others_is_left_out_and_a_wide_spread_is_honest():
    _, rejected = far(times=(4.9, 0.2, 3.0))
    assert rejected == []
    accepted, rejected = far(times=(-11.0,))
    assert [r.site for r in rejected] == ["site-1"]
    assert len(accepted) == 6
    assert f"{rejected[0].site}: {rejected[0].code} {rejected[0].reason}" == GOLDEN["far from the others"]


def test_a_site_with_more_examples_may_move_further_in_proportion():
    _, rejected = far(times=(12.0,), counts=(30,))
    assert rejected == []
    _, rejected = far(times=(16.0,), counts=(30,))
    assert [r.code for r in rejected] == ["E-NORM"]


@pytest.mark.parametrize(("weight", "rejected"), [(1.1, []), (-8.0, ["site-1"])])
def test_a_buffer_that_counts_neither_condemns_the_honest_nor_hides_who_strays(weight, rejected):
    before = State({"encoder.image.w": torch.ones(9), "encoder.image.batches": torch.tensor(0)})
    updates = [
        Update(
            site=site,
            round=1,
            base_digest=before.digest(),
            state=State(
                {
                    "encoder.image.w": torch.full((9,), weight if site == "site-1" else 1.1),
                    "encoder.image.batches": torch.tensor(1000),
                }
            ),
            num_examples={"encoder.image": 10},
        )
        for site in SITES
    ]
    _, found = gate(updates, round=1, state=before, owned={site: ["encoder.image"] for site in SITES})
    assert [(r.site, r.code) for r in found] == [(site, "E-NORM") for site in rejected]


def test_one_tensor_that_moves_further_than_its_own_length_is_noticed():
    _, rejected = far(step=0.01, single=0.9, limits=Limits(norm=100.0))
    assert rejected == []  # ninety times the others, but no further than it is long
    _, rejected = far(step=0.05, single=3.0, limits=Limits(norm=100.0))
    assert f"{rejected[0].site}: {rejected[0].code} {rejected[0].reason}" == GOLDEN["one tensor far"]


def test_the_weights_themselves_are_a_measure_where_there_are_no_others():
    moved = State({key: value * -10.5 for key, value in STATE.items()})
    accepted, rejected = through(replace(make_update(), state=moved))
    assert accepted == []
    assert [r.code for r in rejected] == ["E-NORM"]


def test_the_last_values_of_a_long_tensor_are_measured_too():
    before = State({"encoder.image.w": torch.ones(300_000)})
    end = before["encoder.image.w"].clone()
    end[-1] += 1e7
    update = Update(
        site="site-1",
        round=1,
        base_digest=before.digest(),
        state=State({"encoder.image.w": end}),
        num_examples={"encoder.image": 5},
    )
    _, rejected = gate([update], round=1, state=before, owned={"site-1": ["encoder.image"]})
    assert [r.code for r in rejected] == ["E-NORM"]


def test_a_limit_of_zero_is_none():
    unlimited = Limits(norm=0.0, tensor_norm=0.0, relative=0.0)
    accepted, _ = far(times=(1e6,), limits=unlimited)
    assert len(accepted) == len(SITES)


def test_in_a_round_where_nobody_moved_nobody_is_too_far():
    accepted, rejected = far(step=0.0, times=(1.0,))
    assert (len(accepted), rejected) == (7, [])


# the site's own gate -----------------------------------------------------------------------------------------------


def test_a_site_refuses_to_send_what_the_coordinator_would_refuse():
    for name in ("NaN", "another shape", "a missing tensor", "another type", "a negative count"):
        found = objection(BAD[name], round=1, broadcast=STATE)
        assert f"{found.site}: {found.code} {found.reason}" == GOLDEN[name]
    assert objection(make_update(), round=1, broadcast=STATE) is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["site-1", "site-2"]), st.sampled_from([1, 1, 2]), st.sampled_from(["", "stale"])),
        max_size=12,
    )
)
def test_whatever_is_repeated_reordered_or_replayed_a_site_counts_once_at_most(messages):
    updates = [make_update(site, round=number, base=base or None) for site, number, base in messages]
    accepted, rejected = through(*updates)
    good = {site for site, number, base in messages if number == 1 and not base}
    assert [update.site for update in accepted] == sorted(good)
    assert len(rejected) == sum(number != 1 or bool(base) for _, number, base in messages)


def test_without_limits_any_distance_will_do():
    updates = [
        make_update(f"site-{n}", tensors={"encoder.image.w": STATE["encoder.image.w"] * 49 ** (n == 1)}) for n in (1, 2)
    ]
    assert [r.code for r in through(*updates)[1]] == ["E-NORM"]
    assert through(*updates, limits=NO_LIMITS)[1] == []
