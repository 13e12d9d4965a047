from dataclasses import replace

import pytest
import squares
import torch

from fedkim.data.registry import SOURCES
from fedkim.data.sample import Dataset
from fedkim.errors import FedkimError
from fedkim.run.server import load_language_model, make_injector, make_trainer, workers_of
from fedkim.run.world import build_world, can_be_asked, samples_asked
from small_recipe import small

TABLE = 'federation.table_of_sites={site-1 = ["ward-0", "ward-2"], site-2 = ["ward-1"]}'


def on_squares(*overrides):
    return small("data.source=squares", 'tasks.seen=["square"]', 'tasks.unseen=["frame"]', *overrides)


def with_source(monkeypatch, change):
    """The source ``squares`` with every sample changed (or, by None, left out)."""

    def load(recipe):
        changed = (change(sample) for sample in squares.load(recipe))
        return Dataset((sample for sample in changed if sample is not None), name="changed")

    monkeypatch.setitem(SOURCES, "squares", load)
    return on_squares


def test_private_patients_alone_are_dealt_and_each_to_one_site():
    world = build_world(on_squares())
    dealt = [sample.patient for shard in world.sites.values() for sample in shard]
    assert sorted(dealt) == sorted(sample.patient for sample in world.data.split("private"))
    assert {sample.split for shard in world.sites.values() for sample in shard} == {"private"}
    assert {sample.split for sample in world.public} == {"public"}


def test_the_deal_is_a_function_of_the_recipe():
    first, second, other = (build_world(on_squares(*o)) for o in ((), (), ("run.seed=1",)))
    deal = [{s: [x.id for x in d] for s, d in world.sites.items()} for world in (first, second, other)]
    assert deal[0] == deal[1]
    assert deal[0] != deal[2]
    assert first.initial.digest() == second.initial.digest()
    assert first.initial.digest() != other.initial.digest()


def test_an_unseen_task_has_no_decoder():
    world = build_world(on_squares())
    assert set(world.initial.components()) == {"encoder.image", "decoder.square"}
    assert [task.name for task in world.unseen] == ["frame"]
    assert world.shapes == {"image": (1, 32, 32)}


@pytest.mark.parametrize(("trainers", "split"), [("public", "public"), ("centralised", "private")])
def test_a_reference_run_has_one_stand_in_with_its_split(trainers, split):
    world = build_world(on_squares(f"federation.trainers={trainers}"))
    assert list(world.sites) == [trainers]
    assert [s.id for s in world.sites[trainers]] == [s.id for s in world.data.split(split)]


def test_a_table_gives_each_site_its_wards():
    world = build_world(on_squares("federation.partition=table", TABLE))
    wards = {site: {sample.strata["shard"] for sample in shard} for site, shard in world.sites.items()}
    assert wards == {"site-1": {"ward-0", "ward-2"}, "site-2": {"ward-1"}}


@pytest.mark.parametrize(("participation", "quorum"), [(1.0, 3), (0.5, 2)])
def test_no_round_needs_more_updates_than_it_asks_sites(participation, quorum):
    """Three sites that the data name, where the recipe counts on five."""
    recipe = on_squares("federation.sites=5", f"federation.participation={participation}", "federation.quorum=3")
    counts = {"encoder.image": 9, "decoder.square": 9}
    world = build_world(recipe, declared={f"site-{number}": counts for number in (1, 2, 3)})
    assert world.quorum == quorum


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('{site-1 = ["ward-0", "ward-2"], site-2 = ["ward-9"]}', "unknown shard of 'site-2'.*did you mean 'ward-"),
        ('{site-1 = ["ward-0", "ward-1", "ward-2"], site-2 = ["ward-1"]}', "'ward-1', found at site-1 and site-2"),
        ('{site-1 = ["ward-0"], site-2 = ["ward-1"]}', "'ward-2', found no site that holds it"),
    ],
)
def test_a_table_that_doesnt_fit_the_data_is_refused(table, message):
    with pytest.raises(FedkimError, match=message):
        build_world(on_squares("federation.partition=table", f"federation.table_of_sites={table}"))


def test_a_table_that_would_deal_a_patient_to_two_sites_is_refused(monkeypatch):
    shards = {s.patient: s.strata["shard"] for s in squares.load(on_squares()) if s.split == "private"}
    one = next(patient for patient, shard in shards.items() if shard == "ward-0")
    other = next(patient for patient, shard in shards.items() if shard == "ward-1")
    joined = with_source(monkeypatch, lambda s: replace(s, patient=one) if s.patient == other else s)
    with pytest.raises(FedkimError, match="expected every patient at one site") as caught:
        build_world(joined("federation.partition=table", TABLE))
    assert one not in str(caught.value)


def test_a_patient_in_two_splits_is_refused_whatever_the_source(monkeypatch):
    one = next(sample for sample in squares.load(on_squares()) if sample.split == "private").patient
    moved = with_source(monkeypatch, lambda s: replace(s, patient=one) if s.split == "test" else s)
    with pytest.raises(FedkimError, match="one patient in two splits") as caught:
        build_world(moved())
    assert one not in str(caught.value)
    with pytest.raises(FedkimError, match="one patient in two splits"):
        build_world(moved("data.split=paper"))  # which is for the public sets to read


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (lambda recipe: None, "data source 'squares', found NoneType, expected a fedkim.data.sample.Dataset"),
        (lambda recipe: list(squares.load(recipe)), "data source 'squares', found list"),
        (
            lambda recipe: Dataset(
                replace(sample, inputs={name: value.double() for name, value in sample.inputs.items()})
                for sample in squares.load(recipe)
            ),
            "inputs of 'image', found float64, expected float32",
        ),
    ],
)
def test_what_a_plug_ins_source_gives_is_checked(monkeypatch, load, message):
    monkeypatch.setitem(SOURCES, "squares", load)
    with pytest.raises(FedkimError) as caught:
        build_world(on_squares())
    assert message in str(caught.value)


def test_a_site_without_a_usable_row_is_named(monkeypatch):
    def unlabelled(sample):
        return replace(sample, labels={"frame": "No"}) if sample.strata["shard"] == "ward-1" else sample

    recipe = with_source(monkeypatch, unlabelled)("federation.partition=table", TABLE)
    with pytest.raises(FedkimError, match="site 'site-2', found no usable row"):
        build_world(recipe)


def test_a_task_whose_input_no_site_has_is_named(monkeypatch):
    def blank(sample):
        return replace(sample, inputs={}) if sample.split == "private" else sample

    with pytest.raises(FedkimError, match="no usable row"):
        build_world(with_source(monkeypatch, blank)())
    recipe = small("data.signal_patients=0")
    with pytest.raises(FedkimError, match="task 'ecg_abnormal', found no site with signal"):
        build_world(recipe)


def test_an_unseen_task_whose_input_no_seen_task_teaches_is_named():
    recipe = on_squares('tasks.unseen=["frame","ectopic_beats"]')
    with pytest.raises(FedkimError, match="unseen task 'ectopic_beats', found no site that learns signal"):
        build_world(recipe)


def test_a_task_with_one_answer_in_the_public_split_is_named(monkeypatch):
    def all_well(sample):
        return replace(sample, labels=sample.labels | {"square": "No"}) if sample.split == "public" else sample

    world = build_world(with_source(monkeypatch, all_well)())
    with pytest.raises(FedkimError, match=r"task 'square', found \d+ usable public samples with fewer than two"):
        make_trainer(world, make_injector(world, load_language_model(world.recipe)))


def test_decoders_cant_teach_encoders_that_move():
    world = build_world(on_squares("injection.teacher=decoder"))
    with pytest.raises(FedkimError, match="train_encoders = true"):
        make_trainer(world, make_injector(world, load_language_model(world.recipe)))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.source=square", "unknown data source 'square'; did you mean 'squares'"),
        ("federation.algorithm=fedproxy", "unknown algorithm 'fedproxy'; did you mean 'fedprox'"),
        ('tasks.unseen=["frames"]', "unknown task 'frames'; did you mean 'frame'"),
        ('run.plugins=["no.such.module"]', "plug-in 'no.such.module'"),
    ],
)
def test_an_unknown_name_gets_a_suggestion(override, message):
    with pytest.raises(FedkimError, match=message):
        build_world(on_squares(override))


def test_a_free_text_task_cant_be_seen():
    with pytest.raises(FedkimError, match="a free-text task"):
        build_world(small('tasks.seen=["vqa_rad"]', 'tasks.unseen=["sepsis"]'))


def test_a_sample_can_be_asked_with_its_label_and_every_input():
    world = build_world(on_squares())
    sample = world.data.samples[0]
    task = world.tasks["square"]
    assert can_be_asked(sample, task)
    assert not can_be_asked(replace(sample, labels={}), task)
    assert not can_be_asked(replace(sample, inputs={}), task)


def test_a_capped_selection_is_spread_over_the_split():
    world = build_world(on_squares())
    task = world.tasks["square"]
    everyone = samples_asked(world.data, task, "test")
    assert [s.split for s in everyone] == ["test"] * 12
    assert samples_asked(world.data, task, "test", samples=4) == everyone[::3]
    assert samples_asked(world.data, task, "test", samples=99) == everyone
    twice = Dataset([*world.data, *(replace(sample, id=f"{sample.id}-again") for sample in world.data)])
    kept = samples_asked(twice, task, "test", patients=4)
    assert [sample.patient for sample in kept] == [sample.patient for sample in everyone[::3]] * 2  # all that they have


@pytest.mark.parametrize(("device", "workers"), [("cpu", 3), ("cuda", 1)])
def test_a_language_model_on_a_gpu_takes_one_batch_at_a_time(device, workers):
    assert workers_of(small("run.workers=3"), torch.device(device)) == workers


def test_a_site_by_itself_holds_what_it_holds_in_the_federation():
    together = build_world(small()).sites
    for number, site in enumerate(together, start=1):
        alone = build_world(small("federation.trainers=local", f"federation.local_site={number}")).sites
        assert list(alone) == [site]
        assert [sample.id for sample in alone[site]] == [sample.id for sample in together[site]]
    with pytest.raises(FedkimError, match="local_site"):
        small("federation.trainers=local", "federation.local_site=3")
