"""The curves of a run are areas under the receiver operating characteristic, of whom they say."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from fedkim.data.sample import Dataset
from fedkim.evaluation.answers import score
from fedkim.extraction import predict_proba
from fedkim.run.curves import area, injected_scores, small_scores
from fedkim.run.server import load_language_model, make_injector
from fedkim.run.world import build_world, samples_asked
from small_recipe import small


@pytest.fixture(scope="module")
def world():
    return build_world(small("evaluation.curve_samples=5"))


def by_sklearn(samples, task, probabilities):
    return roc_auc_score([sample.labels[task.name] == "Yes" for sample in samples], probabilities[:, 1])


def test_an_area_is_the_share_of_pairs_in_which_the_positive_stands_higher():
    said = np.array([[0.9, 0.1], [0.6, 0.4], [0.65, 0.35], [0.2, 0.8]])
    assert area(("No", "Yes"), ["No", "No", "Yes", "Yes"], said) == 0.75
    assert area(("No", "Yes"), ["No", "No", "No", "No"], said) is None
    assert area(("No", "Yes"), [], said[:0]) is None


def test_the_small_models_curve_is_of_the_weights_given_and_of_all_development_samples(world):
    generator = torch.Generator().manual_seed(0)
    other = world.initial.updated(
        {key: value + 0.3 * torch.randn(value.shape, generator=generator) for key, value in world.initial.items()}
    )
    for state in (world.initial, other):
        for task in world.seen:
            samples = samples_asked(world.data, task, "development")
            said = predict_proba(world.extractor(state), Dataset(samples), task)
            assert small_scores(world, state)[task.name] == pytest.approx(by_sklearn(samples, task, said))
    assert small_scores(world, other) != small_scores(world, world.initial)


def test_the_injected_models_curve_is_of_so_many_samples_as_the_recipe_grants(world):
    injector = make_injector(world, load_language_model(world.recipe))
    found = injected_scores(world, injector, workers=1)
    for task in world.seen:
        samples = samples_asked(world.data, task, "development", samples=5)
        assert len(samples) == 5 < len(samples_asked(world.data, task, "development"))
        said = score(injector, task.name, samples, batch_size=world.recipe.evaluation.batch_size, workers=1)
        assert found[task.name] == pytest.approx(by_sklearn(samples, task, said))
    assert injected_scores(build_world(small()), injector, workers=1) == {}
