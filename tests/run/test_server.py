"""What the aggregated decoders say to the injection: a teacher's answers, and the direction in which a decoder looks."""

import numpy as np
import pytest
import torch

from fedkim.data.sample import Dataset
from fedkim.extraction import predict_proba
from fedkim.injection.batches import stack_inputs
from fedkim.run.server import make_guide, make_teacher
from fedkim.run.world import build_world
from small_recipe import small

TAUGHT = ("injection.teacher=decoder", "injection.train_encoders=false", "injection.guidance=1.0")


@pytest.fixture(scope="module")
def world():
    return build_world(small(*TAUGHT))


@pytest.fixture(scope="module")
def later(world):
    """Other weights than the first, as after some rounds."""
    generator = torch.Generator().manual_seed(0)
    return world.initial.updated(
        {
            key: value + 0.2 * torch.randn(value.shape, generator=generator)
            for key, value in world.initial.items()
            if value.is_floating_point()
        }
    )


def asked(world, state, task):
    """Samples of a task and their tokens by modality, as the injection encodes them."""
    samples = world.public.labelled(task.name).samples[:6]
    extractor = world.extractor(state).eval()
    with torch.no_grad():
        tokens = {name: extractor.encode(name, x) for name, x in stack_inputs(samples, task.modalities).items()}
    return samples, tokens


def test_a_teacher_answers_as_the_aggregated_model_does(world, later):
    teacher = make_teacher(world, later)
    for task in world.seen:
        samples, tokens = asked(world, later, task)
        with torch.no_grad():
            said = teacher(task.name, tokens).exp().double().numpy()
        np.testing.assert_allclose(said, predict_proba(world.extractor(later), Dataset(samples), task), rtol=1e-4)
        assert np.ptp(said[:, 1]) > 1e-3


def margin(decoder, task, pooled):
    """How far the last answer's logit stands above the first's, on average."""
    with torch.no_grad():
        logits = decoder.decide(pooled, task.name)
    return (logits[:, -1] - logits[:, 0]).mean().item()


def test_a_guide_looks_where_the_aggregated_models_margin_rises_fastest(world, later):
    """Along any direction the margin's slope is the guide's component."""
    guide, decoder = make_guide(world, later), world.extractor(later).double().eval()
    for task in world.seen:
        _, tokens = asked(world, later, task)
        pooled = {name: x.double().mean(1) for name, x in tokens.items()}
        directions = guide(task.name, tokens)
        assert directions.keys() == pooled.keys()
        for name, (direction,) in directions.items():  # of two answers one
            assert direction.norm() > 1e-3
            for axis in torch.eye(len(direction), dtype=torch.float64)[:5]:
                above, below = (
                    margin(decoder, task, {**pooled, name: pooled[name] + step * axis}) for step in (1e-4, -1e-4)
                )
                assert direction.double() @ axis == pytest.approx((above - below) / 2e-4, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("make", [make_teacher, make_guide])
def test_without_its_setting_there_is_none(make):
    world = build_world(small())
    assert make(world, world.initial) is None
