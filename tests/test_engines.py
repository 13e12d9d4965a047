from dataclasses import replace

import pytest
import torch

from fedkim.data.sample import Dataset, Sample
from fedkim.engines import InProcess, inprocess, participants
from fedkim.extraction import Extractor, owned_components, train_site
from fedkim.recipe import Extraction
from fedkim.recipe.site_tables import sites_in_a_round
from fedkim.state import component
from fedkim.tasks import Task
from private_numbers import leaks

IMAGE = Task(name="square", question="Square?", description="A square.", modalities=("image",))
SIGNAL = Task(name="wave", question="Wave?", description="A wave.", modalities=("signal",))
TASKS = (IMAGE, SIGNAL)
SETTINGS = Extraction(width=32, batch_size=4)
NAMES = [f"site-{number}" for number in range(1, 6)]


def shard(site: str, kinds=("image", "signal"), number: int = 6) -> Dataset:
    random = torch.Generator().manual_seed(sum(map(ord, site)))
    samples = []
    for index in range(number):
        word = "Yes" if index % 2 else "No"
        inputs = {
            name: torch.randn(shape, generator=random)
            for name, shape in (("image", (1, 32, 32)), ("signal", (1, 1000)))
            if name in kinds
        }
        patient = f"{site}/{index}"
        labels = {"square": word, "wave": word}
        samples.append(Sample(id=patient, patient=patient, split="private", inputs=inputs, labels=labels))
    return Dataset(samples)


def engine(sites, *, participation=1.0, workers=1):
    owned = {site: tuple(owned_components(data, TASKS)) for site, data in sites.items()}
    return InProcess(
        sites,
        owned=owned,
        tasks=TASKS,
        settings=SETTINGS,
        penalty=None,
        participation=participation,
        workers=workers,
        seed=0,
    )


@pytest.fixture(scope="module")
def federation():
    """Three sites, the second without images, and the updates of one round."""
    sites = {"site-1": shard("site-1"), "site-2": shard("site-2", kinds=("signal",)), "site-3": shard("site-3")}
    state = Extractor(
        tasks=TASKS, shapes={"image": (1, 32, 32), "signal": (1, 1000)}, settings=SETTINGS, seed=0
    ).state()
    return sites, state, list(engine(sites)(1, state))


def test_the_draw_of_participants_is_a_function_of_seed_and_round():
    draws = [participants(NAMES, share=0.6, seed=0, round=number) for number in range(1, 9)]
    assert draws == [participants(NAMES[::-1], share=0.6, seed=0, round=number) for number in range(1, 9)]
    assert all(len(draw) == 3 and draw == sorted(draw) for draw in draws)
    assert len({tuple(draw) for draw in draws}) > 1
    assert draws != [participants(NAMES, share=0.6, seed=1, round=number) for number in range(1, 9)]


def test_every_site_takes_part_in_the_long_run():
    assert {site for number in range(30) for site in participants(NAMES, share=0.2, seed=0, round=number)} == set(NAMES)


@pytest.mark.parametrize(("share", "expected"), [(1.0, 5), (0.5, 3), (0.3, 2), (0.01, 1)])
def test_a_share_is_rounded_half_up_and_at_least_one_site_takes_part(share, expected):
    assert len(participants(NAMES, share=share, seed=0, round=1)) == expected


def test_halves_are_rounded_up_whatever_the_parity():
    assert [sites_in_a_round(0.5, number) for number in (1, 3, 5)] == [1, 2, 3]
    assert sites_in_a_round(0.34, 10) == 3


def test_updates_come_in_the_sites_name_order_and_name_the_weights_they_started_from(federation):
    sites, state, updates = federation
    assert [update.site for update in updates] == ["site-1", "site-2", "site-3"]
    for update in updates:
        assert update.base_digest == state.slice(owned_components(sites[update.site], TASKS)).digest()
        assert update.round == 1


def test_a_site_without_a_modality_sends_nothing_of_it(federation):
    _, state, updates = federation
    assert {component(key) for key in updates[1].state} == {"encoder.signal", "decoder.wave"}
    assert set(updates[1].num_examples) == {"encoder.signal", "decoder.wave"}
    assert set(updates[0].state) == set(state)


def test_a_site_without_a_modality_is_given_nothing_of_it(federation, monkeypatch):
    sites, state, _ = federation
    given = {}

    def spy(*, site, state, **rest):
        given[site] = set(state.components())
        return train(site=site, state=state, **rest)

    import fedkim.engines.inprocess as module

    train = module.train_site
    monkeypatch.setattr(module, "train_site", spy)
    list(engine(sites)(1, state))
    assert given["site-2"] == {"encoder.signal", "decoder.wave"}


def test_the_number_of_workers_changes_no_bit_of_an_update(federation):
    sites, state, updates = federation
    for one, two in zip(updates, engine(sites, workers=2)(1, state)):
        assert one.state.digest() == two.state.digest()


def test_a_sites_update_doesnt_depend_on_who_else_takes_part(federation):
    sites, state, updates = federation
    (alone,) = engine({"site-3": sites["site-3"]})(1, state)
    assert alone.state.digest() == updates[2].state.digest()


def test_only_the_drawn_sites_train(federation, monkeypatch):
    sites, state, _ = federation
    trained = []

    def recorded(**given):
        trained.append(given["site"])
        return train_site(**given)

    monkeypatch.setattr(inprocess, "train_site", recorded)
    chosen = [update.site for update in engine(sites, participation=0.34)(1, state)]
    assert chosen == trained == participants(list(sites), share=0.34, seed=0, round=1)
    assert len(chosen) == 1


@pytest.mark.parametrize("workers", [1, 3])
def test_a_site_whose_training_diverges_is_left_out_and_the_others_send_what_they_would(federation, workers):
    sites, state, updates = federation
    broken = Dataset(
        replace(sample, inputs={name: x * torch.nan for name, x in sample.inputs.items()}) for sample in sites["site-1"]
    )
    failed, *others = engine({**sites, "site-1": broken}, workers=workers)(1, state)
    assert (failed.site, failed.code) == ("site-1", "E-DIVERGED")
    assert [other.state.digest() for other in others] == [update.state.digest() for update in updates[1:]]


def test_no_patients_numbers_leave_a_site(federation):
    """Nor any patient's name."""
    sites, state, updates = federation
    for update in updates:
        assert leaks(update.state, sites[update.site]) == []
        assert all(tensor.shape == state[key].shape for key, tensor in update.state.items())
        words = {
            update.site,
            update.base_digest,
            *update.state,
            *update.num_examples,
            *update.metrics,
        }
        told = [*update.num_examples.values(), *update.metrics.values()]
        assert all(isinstance(value, int | float) for value in told)
        for sample in sites[update.site]:
            assert not any(sample.id in word or sample.patient in word for word in words)


def test_the_search_for_patients_numbers_would_find_them(federation):
    sites, _, updates = federation
    for modality, first in (("image", 32), ("signal", 160)):
        patient = sites["site-1"].samples[2]
        key = next(key for key, tensor in updates[0].state.items() if tensor.numel() >= 64)
        leaking = updates[0].state[key].clone()
        leaking.view(-1)[7:39] = patient.inputs[modality].flatten()[first : first + 32]
        assert leaks(updates[0].state.updated({key: leaking}), sites["site-1"]) == [patient.id]
