"""The router against the paper's formula, and its independence of padding and company."""

import copy
import math

import pytest
import torch
from torch.nn.functional import gelu, layer_norm, linear

from fedkim.errors import FedkimError
from fedkim.m3oe import TaskModalityRouter
from fedkim.m3oe.router import pad_descriptions
from tiny_models import EXPERTS, WIDTH, adapted, description


def make(**settings: object) -> TaskModalityRouter:
    torch.manual_seed(0)
    router = TaskModalityRouter(WIDTH, EXPERTS, dim=16, hidden=8, **settings)
    torch.nn.init.normal_(router.output.weight, std=2.0)
    return router


def route(router: TaskModalityRouter, tasks: list, modalities: list) -> torch.Tensor:
    task, task_mask = pad_descriptions(tasks, WIDTH)
    modality, modality_mask = pad_descriptions(modalities, WIDTH)
    return router(task, modality, task_mask, modality_mask)


@pytest.mark.parametrize("normalise", [True, False])
def test_modalities_ask_and_the_task_answers_as_the_paper_prints_it(normalise):
    router = make(normalise=normalise)
    task, modality = description(5, 1), description(3, 2)
    T, M = (layer_norm(x, (WIDTH,)) if normalise else x for x in (task, modality))
    scores = linear(M, router.query.weight) @ linear(T, router.key.weight).T / math.sqrt(16)
    beta = scores.softmax(-1) @ linear(T, router.value.weight)
    expected = router.output(gelu(router.hidden(beta.mean(0)))).softmax(-1)
    torch.testing.assert_close(route(router, [task], [modality])[0], expected, rtol=0, atol=1e-6)


def test_rows_sum_to_one_in_float32_also_under_autocast_and_on_bfloat16_weights():
    router = make()
    args = [description(5, 1), description(4, 3)], [description(3, 2), None]
    plain = route(router, *args)
    torch.testing.assert_close(plain.sum(-1), torch.ones(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(route(router, *args), plain)
    rounded = route(copy.deepcopy(router).to(torch.bfloat16), *args)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded.sum(-1), torch.ones(2))


def test_padding_and_company_do_not_change_a_route():
    router = make()
    task, modality = description(5, 1), description(3, 2)
    alone = route(router, [task], [modality])[0]
    together = route(router, [description(9, 5), task, task], [None, modality, description(8, 6)])
    torch.testing.assert_close(together[1], alone, rtol=0, atol=1e-6)
    assert (together[2] - alone).abs().max() > 1e-3


def test_whatever_stands_in_the_padding_is_ignored():
    router = make()
    task, mask = pad_descriptions([description(5, 1), description(2, 3)], WIDTH)
    modality, modality_mask = pad_descriptions([description(3, 2), None], WIDTH)
    clean = router(task, modality, mask, modality_mask)
    dirty = task.masked_fill(~mask[..., None], float("nan"))
    assert torch.equal(router(dirty, modality.masked_fill(~modality_mask[..., None], 1e9), mask, modality_mask), clean)


def test_a_sample_without_modalities_asks_with_a_learned_vector():
    router = make()
    task = description(5, 1)
    weights = route(router, [task], [None])
    torch.testing.assert_close(weights, route(router, [task], [router.absent.detach()[None]]), rtol=0, atol=1e-6)
    weights[0, 0].backward()
    assert router.absent.grad.abs().max() > 0
    empty = router(task[None], task.new_zeros(1, 0, WIDTH))
    torch.testing.assert_close(empty, weights.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "sees_task", "sees_modality"), [("both", True, True), ("task", True, False), ("modality", False, True)]
)
def test_ablations_see_one_description_with_the_same_router(inputs, sees_task, sees_modality):
    router = make(inputs=inputs)
    base = route(router, [description(5, 1)], [description(3, 2)])
    other_task = route(router, [description(5, 9)], [description(3, 2)])
    other_modality = route(router, [description(5, 1)], [description(3, 9)])
    assert ((other_task - base).abs().max() > 1e-4) == sees_task
    assert ((other_modality - base).abs().max() > 1e-4) == sees_modality
    assert sum(p.numel() for p in router.parameters()) == sum(p.numel() for p in make().parameters())


def test_model_takes_single_descriptions_batches_and_lists_alike():
    model = adapted()
    tasks, modalities = [description(5, 1), description(2, 3)], [description(3, 2), description(6, 4)]
    listed = model.route_weights(tasks, modalities)
    task, mask = pad_descriptions(tasks, WIDTH)
    modality, modality_mask = pad_descriptions(modalities, WIDTH)
    assert listed.shape == (2, EXPERTS)
    assert listed.requires_grad
    assert torch.equal(model.route_weights(task, modality, mask, modality_mask), listed)
    torch.testing.assert_close(model.route_weights(tasks[1], modalities[1]), listed[1:], rtol=0, atol=1e-6)
    assert model.route_weights(tasks[0]).shape == (1, EXPERTS)


def test_digest_names_the_weights():
    router = make()
    before = router.digest()
    assert before == make().digest()
    with torch.no_grad():
        router.key.weight[0, 0] += 1e-3
    assert router.digest() != before


@pytest.mark.parametrize(
    ("task", "modality", "message"),
    [
        (torch.zeros(3, WIDTH + 1), None, "expected \\[tokens, 32\\]"),
        (torch.zeros(3, WIDTH), [torch.zeros(1, WIDTH)] * 2, "expected 1, one per task"),
    ],
)
def test_descriptions_of_another_shape_are_refused(task, modality, message):
    with pytest.raises(FedkimError, match=message):
        adapted().route_weights(task, modality)


def test_a_spread_router_starts_every_description_elsewhere_and_none_of_them_by_habit():
    router = make()
    torch.nn.init.normal_(router.output.weight, std=0.05)  # as torch draws it: α near 1/P for all
    tasks, modalities = [description(5 + n, n) for n in range(4)], [description(3, 10 + n) for n in range(4)]
    assert route(router, tasks, modalities).max() < 1.5 / EXPERTS
    task, task_mask = pad_descriptions(tasks, WIDTH)
    modality, modality_mask = pad_descriptions(modalities, WIDTH)
    router.spread(task, modality, task_mask, modality_mask, deviation=2.0)
    logits = route(router, tasks, modalities).log()
    logits = logits - logits.mean(dim=1, keepdim=True)
    torch.testing.assert_close(logits.mean(dim=0), torch.zeros(EXPERTS), rtol=0, atol=1e-4)
    assert logits.std().item() == pytest.approx(2.0, abs=0.1)


def test_descriptions_that_are_equal_to_the_router_start_uniform():
    router = make(inputs="modality")
    task, task_mask = pad_descriptions([description(5, 1), description(7, 2)], WIDTH)
    modality, modality_mask = pad_descriptions([description(3, 3)] * 2, WIDTH)
    router.spread(task, modality, task_mask, modality_mask, deviation=2.0)
    uniform = torch.full((2, EXPERTS), 1 / EXPERTS)
    torch.testing.assert_close(router(task, modality, task_mask, modality_mask), uniform)
