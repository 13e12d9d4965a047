"""The side channel: whose route counts, when it is missing, and that nothing mixes routes up silently."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch._dynamo.testing

from fedkim.errors import FedkimError
from fedkim.m3oe.routing import Gate
from tiny_models import EXPERTS, adapted, description, some_route, tokens


def two_routes() -> torch.Tensor:
    return torch.stack([some_route(seed=4), some_route(seed=5)])


def test_a_missing_route_is_an_error_that_says_what_to_do():
    model = adapted()
    with pytest.raises(FedkimError, match=r"no route is set for the M3OE adapter 'default'; call model.set_route"):
        model(tokens())


@pytest.mark.parametrize(
    "weights",
    [
        torch.ones(EXPERTS + 1),
        torch.ones(2, 2, EXPERTS),
        torch.ones(EXPERTS, dtype=torch.int64),
        torch.ones(0, EXPERTS),
    ],
)
def test_weights_of_another_shape_are_refused(weights):
    with pytest.raises(FedkimError, match=f"expected floats of shape \\[{EXPERTS}\\]"):
        adapted().set_route_weights(weights)


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_wherever_they_are_given(odd, tmp_path):
    model, weights = adapted(), [0.5] * (EXPERTS - 1) + [odd]
    for give in (model.set_route_weights, model.merge_route, lambda given: model.export_lora(tmp_path / "x", given)):
        with pytest.raises(FedkimError, match="route weights, found NaN or infinity, expected finite numbers"):
            give(weights)
    with pytest.raises(FedkimError, match="NaN or infinity"), model.using(weights):
        pass
    assert not (tmp_path / "x").exists()
    model.set_route_weights([2.0] * (EXPERTS - 1) + [-1.0])  # any mixture of experts else is one's own business


def test_a_route_for_another_batch_is_refused():
    model = adapted()
    for batch in (3, 4):  # a whole multiple is a beam search only without gradients
        with model.using(two_routes()), pytest.raises(FedkimError, match="route doesn't fit the batch"):
            model(tokens(batch))


def test_rows_of_a_mixed_batch_equal_each_sample_alone():
    model = adapted()
    with model.using(two_routes()):
        mixed = model(tokens()).logits
    for row, weights in enumerate(two_routes()):
        with model.using(weights):
            alone = model(tokens()[row : row + 1]).logits
        torch.testing.assert_close(mixed[row : row + 1], alone, rtol=0, atol=1e-6)
    assert (mixed[0] - mixed[1]).abs().max() > 1e-3


def test_padding_beside_a_longer_sample_changes_no_row():
    model = adapted()
    short, long = tokens(1, 5, seed=8), tokens(1, 9, seed=9)
    padded = torch.cat([torch.zeros(1, 4, dtype=torch.long), short], dim=1)
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[0, :4] = 0
    with model.using(two_routes()), torch.no_grad():
        both = model(
            torch.cat([padded, long]), attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp_min(0)
        ).logits
    for row, (alone, length) in enumerate(((short, 5), (long, 9))):
        with model.using(two_routes()[row]), torch.no_grad():
            torch.testing.assert_close(both[row : row + 1, -length:], model(alone).logits, rtol=0, atol=1e-5)


def test_a_block_puts_the_former_route_back_even_after_an_error():
    model = adapted()
    model.set_route_weights(some_route(seed=4))
    before = model(tokens()).logits
    with model.using(some_route(seed=5)):
        assert not torch.equal(model(tokens()).logits, before)
    assert torch.equal(model(tokens()).logits, before)
    with pytest.raises(IndexError), model.using(some_route(seed=5)):
        model(tokens() + 1000)
    assert torch.equal(model(tokens()).logits, before)
    model.clear_route()
    with pytest.raises(FedkimError, match="no route"):
        model(tokens())


def test_gradients_of_a_route_add_up_in_float32_on_a_bfloat16_base():
    weights = torch.full((1, EXPERTS), 1 / EXPERTS, requires_grad=True)
    gate = Gate(weights, rank=1, scaling=1.0, dtype=torch.bfloat16)
    hidden = torch.ones(1, 1, EXPERTS, dtype=torch.bfloat16)
    layers = 300  # in bfloat16 the sum would stop at 256, where adding 1 no longer changes it
    torch.stack([(hidden * gate.of(hidden)).sum() for _ in range(layers)]).float().sum().backward()
    assert torch.equal(weights.grad, torch.full((1, EXPERTS), float(layers)))


def gradients(model, which: int, generator_seed: int | None = None) -> list[torch.Tensor]:
    """Gradients of one micro-batch under its own route, dropout included."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    generator = None if generator_seed is None else torch.Generator().manual_seed(generator_seed)
    weights = model.route_weights([description(4, which)], [description(3, which + 10)])
    with model.using(weights, generator=generator):
        ids = tokens(2, 20, seed=which)
        loss = model(ids, labels=ids).loss
        return list(torch.autograd.grad(loss, trained, allow_unused=True))


def same(first: list, second: list) -> bool:
    return all((a is None and b is None) or torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_two_threads_with_their_own_routes_give_the_bits_of_sequential_runs(checkpointing):
    model = adapted(lora_dropout=0.3).train()
    if checkpointing:
        model.base_model.model.activation_checkpointing_enable()
    jobs = list(range(6))
    sequential = [gradients(model, job, generator_seed=job) for job in jobs]
    assert not same(sequential[0], sequential[1])
    barrier = threading.Barrier(2)

    def work(job: int) -> list[torch.Tensor]:
        barrier.wait(timeout=60)
        return gradients(model, job, generator_seed=job)

    with ThreadPoolExecutor(2) as pool:
        parallel = list(pool.map(work, jobs))
    assert all(same(a, b) for a, b in zip(sequential, parallel, strict=True))


def test_checkpointing_leaves_gradients_as_they_are_with_either_kind_of_dropout():
    model = adapted(lora_dropout=0.3).train()
    expected = gradients(model, 0, generator_seed=7)
    torch.manual_seed(0)
    native = gradients(model, 0)
    model.base_model.model.activation_checkpointing_enable()
    assert same(gradients(model, 0, generator_seed=7), expected)
    torch.manual_seed(0)
    assert same(gradients(model, 0), native)


def test_dropout_from_a_generator_is_dropout():
    model = adapted(lora_dropout=0.3).train()
    first = gradients(model, 0, generator_seed=7)
    assert same(first, gradients(model, 0, generator_seed=7))
    assert not same(first, gradients(model, 0, generator_seed=8))
    _, layer = next(model.base_model.layers())
    with model.using(some_route(), generator=torch.Generator().manual_seed(0)):
        active = layer.routes.current()
        kept, factor = active.dropout(torch.ones(201, 199), 0.3, layer.seed)
        other, _ = active.dropout(torch.ones(201, 199), 0.3, layer.seed + 1)
    assert kept.unique().tolist() == [0, 1]
    assert factor == pytest.approx(1 / 0.7, rel=1e-4)
    assert float((kept == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(((kept == 0) & (other == 0)).float().mean()) == pytest.approx(0.09, abs=0.01)


def test_a_thread_without_a_route_takes_the_only_one():
    model = adapted()
    with model.using(some_route()), torch.no_grad():
        here = model(tokens()).logits
        with ThreadPoolExecutor(1) as pool:
            there = pool.submit(lambda: model(tokens()).logits).result()
    assert (here - there).abs().max() < 1e-6


def test_a_thread_without_a_route_is_refused_where_others_disagree():
    model = adapted()
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with model.using(some_route(seed=5)):
            entered.set()
            leave.wait(timeout=60)

    with ThreadPoolExecutor(2) as pool, model.using(some_route(seed=4)):
        waiting = pool.submit(other)
        assert entered.wait(timeout=60)
        third = pool.submit(lambda: model(tokens()))
        with pytest.raises(FedkimError, match="several other threads hold different ones"):
            third.result(timeout=60)
        leave.set()
        waiting.result(timeout=60)


def test_reentrant_checkpointing_is_refused_with_a_message():
    model = adapted().train()
    model.base_model.model.activation_checkpointing_enable({"use_reentrant": True})
    weights = model.route_weights(description(4, 1), description(3, 2))
    with (
        model.using(weights),
        pytest.raises(FedkimError, match="reentrant gradient checkpointing can't share one route"),
    ):
        model(tokens())


def test_a_copied_model_has_a_channel_of_its_own():
    model = adapted()
    twin = copy.deepcopy(model)
    with model.using(some_route(seed=4)), twin.using(some_route(seed=5)):
        assert not torch.equal(model(tokens()).logits, twin(tokens()).logits)
    with twin.using(some_route(seed=4)), model.using(some_route(seed=4)):
        assert torch.equal(model(tokens()).logits, twin(tokens()).logits)


def test_the_route_is_in_no_state_and_follows_the_router_through_training():
    model = adapted().train()
    names = set(model.state_dict())
    model.set_route_weights(some_route())
    assert set(model.state_dict()) == names
    weights = model.route_weights(description(4, 1), description(3, 2))
    with model.using(weights):
        model(tokens(), labels=tokens()).loss.backward()
    router = {name: p.grad for name, p in model.named_parameters() if "m3oe_router" in name and "absent" not in name}
    assert router
    assert all(grad.abs().max() > 0 for grad in router.values())
