import itertools

import torch

from fedkim.aggregation import fedavg, fedprox, weighted_mean
from fedkim.state import State, Update


def make_update(site, seed, count, keys=("encoder.image.w", "encoder.signal.w")):
    generator = torch.Generator().manual_seed(seed)
    state = State({key: torch.randn(3, 4, generator=generator) for key in keys})
    return Update(
        site=site, round=1, base_digest="", state=state, num_examples=dict.fromkeys(state.components(), count)
    )


PREVIOUS = State({"encoder.image.w": torch.zeros(3, 4), "encoder.signal.w": torch.full((3, 4), 7.0)})


def test_mean_of_equal_states_is_that_state_exactly():
    one = make_update("site-1", 3, 10)
    same = [
        Update(
            site=f"site-{i}",
            round=1,
            base_digest="",
            state=one.state,
            num_examples={"encoder.image": i + 1, "encoder.signal": 3},
        )
        for i in range(5)
    ]
    assert weighted_mean(PREVIOUS, same).digest() == one.state.digest()


def test_arrival_order_does_not_change_a_bit():
    updates = [make_update(f"site-{i}", i, 10 + i) for i in range(5)]
    digests = {weighted_mean(PREVIOUS, order).digest() for order in itertools.permutations(updates)}
    assert len(digests) == 1


def test_weights_are_the_example_counts_and_only_their_ratio_matters():
    a, b = make_update("a", 1, 30), make_update("b", 2, 10)
    expected = 0.75 * a.state["encoder.image.w"].double() + 0.25 * b.state["encoder.image.w"].double()
    mean = weighted_mean(PREVIOUS, [a, b])
    torch.testing.assert_close(mean["encoder.image.w"].double(), expected, atol=1e-7, rtol=0)
    scaled = weighted_mean(PREVIOUS, [make_update("a", 1, 3), make_update("b", 2, 1)])
    assert scaled.digest() == mean.digest()


def test_site_without_signal_leaves_the_signal_encoder_to_the_others_exactly():
    a, b = make_update("a", 1, 30), make_update("b", 2, 10)
    c = make_update("c", 3, 500, keys=("encoder.image.w",))
    with_c, without_c = weighted_mean(PREVIOUS, [a, b, c]), weighted_mean(PREVIOUS, [a, b])
    assert torch.equal(with_c["encoder.signal.w"], without_c["encoder.signal.w"])
    assert not torch.equal(with_c["encoder.image.w"], without_c["encoder.image.w"])


def test_previous_value_stays_where_nobody_sent_one():
    mean = weighted_mean(PREVIOUS, [make_update("a", 1, 3, keys=("encoder.image.w",))])
    assert torch.equal(mean["encoder.signal.w"], PREVIOUS["encoder.signal.w"])


def test_buffers_of_integers_are_averaged_and_keep_their_type():
    states = [State({"encoder.image.steps": torch.tensor([n])}) for n in (2, 5)]
    updates = [
        Update(site=str(i), round=1, base_digest="", state=s, num_examples={"encoder.image": 1})
        for i, s in enumerate(states)
    ]
    mean = weighted_mean(states[0], updates)["encoder.image.steps"]
    assert mean.dtype == torch.int64
    assert mean.item() == 4


def test_fedprox_penalty_is_half_mu_times_squared_distance_and_grows_with_drift():
    reference = {"w": torch.zeros(4), "b": torch.ones(2)}
    penalty = fedprox(proximal_mu=0.1).penalty
    values = [float(penalty({"w": torch.full((4,), d), "b": torch.ones(2)}, reference)) for d in (0.0, 1.0, 2.0)]
    assert values[0] == 0.0
    torch.testing.assert_close(torch.tensor(values[1:]), torch.tensor([0.5 * 0.1 * 4, 0.5 * 0.1 * 16]))


def test_fedprox_penalty_pulls_back_on_every_call():
    penalty = fedprox(proximal_mu=1.0).penalty
    reference = {"w": torch.zeros(3)}
    w = torch.ones(3, requires_grad=True)
    for _ in range(3):
        (gradient,) = torch.autograd.grad(penalty({"w": w}, reference), w)
        torch.testing.assert_close(gradient, w.detach())


def test_fedavg_has_no_penalty():
    assert fedavg().penalty is None
