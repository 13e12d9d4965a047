"""What a site sends is searched for what it must not hold: inputs, answers, names of samples and patients."""

import dataclasses
import json

import pytest
import torch

from fedkim.data.sample import Dataset, Sample
from fedkim.extraction import Extractor, train_site
from fedkim.extraction.extractor import owned_components
from fedkim.recipe import Extraction
from fedkim.tasks import TASKS
from private_numbers import leaks

COVID = TASKS["covid"]


@pytest.fixture(scope="module")
def shard():
    generator = torch.Generator().manual_seed(0)
    return Dataset(
        Sample(
            id=f"film-{number:03d}",
            patient=f"patient-{number:03d}",
            split="private",
            inputs={"image": torch.randn(1, 32, 32, generator=generator)},
            labels={"covid": ("No", "Yes")[number % 2]},
        )
        for number in range(12)
    )


@pytest.fixture(scope="module")
def update(shard):
    settings = Extraction(width=32, batch_size=4)
    state = Extractor(tasks=[COVID], shapes=shard.shapes(), settings=settings).state()
    return train_site(site="a", round=1, dataset=shard, state=state, tasks=[COVID], settings=settings, seed=0)


def test_no_run_of_private_numbers_stands_in_an_update(update, shard):
    assert leaks(update.state, shard) == []


def test_the_search_would_find_one(update, shard):
    key = next(key for key, tensor in update.state.items() if tensor.numel() >= 64)
    leaking = update.state[key].clone()
    leaking.view(-1)[7:39] = shard.samples[3].inputs["image"][0, 5]
    assert leaks(update.state.updated({key: leaking}), shard) == ["film-003"]


def test_beside_weights_an_update_holds_names_of_components_counts_and_means_alone(update, shard):
    rest = {field.name: getattr(update, field.name) for field in dataclasses.fields(update) if field.name != "state"}
    assert set(rest) == {"site", "round", "base_digest", "num_examples", "metrics"}
    assert dict(rest["num_examples"]) == owned_components(shard, [COVID])
    assert set(rest["metrics"]) == {"loss", "loss.covid", "steps", "seconds"}
    assert all(isinstance(value, float) for value in rest["metrics"].values())
    text = json.dumps({**rest, "num_examples": dict(rest["num_examples"]), "metrics": dict(rest["metrics"])})
    assert not [sample.id for sample in shard if sample.id in text or sample.patient in text]


def test_an_update_holds_exactly_the_tensors_it_was_given(update, shard):
    state = Extractor(tasks=[COVID], shapes=shard.shapes(), settings=Extraction(width=32)).state()
    assert set(update.state) == set(state)
    assert all(update.state[key].shape == state[key].shape for key in state)
