"""torch.compile: one graph without breaks, which follows a new route without being compiled again."""

import pytest
import torch
import torch._dynamo.testing

from tiny_models import EXPERTS, FAMILIES, adapted, some_route, tiny, tokens

TOLERANCE = 1e-6


@pytest.fixture
def counter():
    """A backend that traces as the real one does and counts the graphs."""
    torch._dynamo.reset()
    yield torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()


def test_compiled_layers_follow_a_new_route_without_breaking_the_graph_or_compiling_again():
    model = adapted()
    mlp = model.base_model.model.model.layers[0].mlp
    x = torch.randn(2, 5, 32)
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(mlp, backend=counter, fullgraph=True)
    with torch.no_grad():
        for seed in (4, 5, 6):
            with model.using(some_route(seed=seed)):
                torch.testing.assert_close(compiled(x), mlp(x), rtol=0, atol=1e-6)
    assert counter.frame_count == 1


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_whole_model_of_every_family_compiles_to_one_graph_for_all_routes(family, counter):
    model = adapted(tiny(family))
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    with torch.no_grad():
        for seed in (4, 5, 6):
            with model.using(some_route(seed=seed)):
                expected = model(tokens(), use_cache=False).logits
                torch.testing.assert_close(compiled(tokens(), use_cache=False).logits, expected, rtol=0, atol=TOLERANCE)
    assert counter.frame_count == 1


@pytest.mark.parametrize("rows", [1, 2])
def test_a_compiled_training_step_has_the_gradients_of_the_plain_one(rows, counter):
    model = adapted().train()
    compiled = torch.compile(model.base_model.model, backend=counter, fullgraph=True)
    trained = [p for name, p in model.named_parameters() if "m3oe_A" in name or "m3oe_B" in name]
    for seed in (4, 5):
        gradients = []
        for forward in (compiled, model.base_model.model):
            weights = torch.stack([some_route(seed=seed + row) for row in range(rows)]).requires_grad_()
            with model.using(weights):
                loss = forward(tokens(), labels=tokens(), use_cache=False).loss
                gradients.append(torch.autograd.grad(loss, [*trained, weights]))
        for ours, plain in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-5, atol=TOLERANCE)
        assert gradients[0][-1].shape == (rows, EXPERTS)
    assert counter.frame_count == 1
