"""Shifts: they change what they say and nothing else, compose in order, and depend on names and seed alone."""

import pytest
import torch

from fedkim.data.sample import Dataset, Sample
from fedkim.data.shifts import SHIFTS, Shift, check_shifts, shifted
from fedkim.errors import FedkimError
from fedkim.modalities.series import CONCEPTS, prepare_values
from fedkim.recipe import Federation, Recipe, load
from fedkim.run.world import build_world

MODALITIES = sorted({shift.modality for shift in SHIFTS.values()})


def stay(modality, random):
    concepts = CONCEPTS[modality]
    z = torch.randn(24, len(concepts), generator=random).clamp(-1.5, 1.5).double().numpy()
    import numpy as np

    raw = np.array([c.mean for c in concepts]) + z * np.array([c.sd for c in concepts])
    raw = np.where([c.log for c in concepts], np.expm1(raw), raw)
    missing = (torch.rand(raw.shape, generator=random) < 0.4).numpy()
    return prepare_values(np.where(missing, np.nan, raw), concepts)


def shard(leads=12, number=6):
    random = torch.Generator().manual_seed(3)
    samples = []
    for index in range(number):
        image = torch.rand(1, 32, 32, generator=random)
        inputs = {
            "image": (image - image.mean()) / image.std(),
            "signal": torch.randn(leads, 1000, generator=random).cumsum(1) / 30,
            "vitals": stay("vitals", random),
            "labs": stay("labs", random),
        }
        labels = {"covid": ("No", "Yes")[index % 2]}
        samples.append(Sample(id=f"s{index}", patient=f"p{index // 2}", split="private", inputs=inputs, labels=labels))
    return Dataset(samples, name="cohort", synthetic=True)


def inputs(data):
    return [{name: tensor.clone() for name, tensor in sample.inputs.items()} for sample in data]


def equal(one, other):
    return all(
        set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_changes_its_modality_and_nothing_else(name):
    before, original = shard(), inputs(shard())
    after = shifted(before, [name], site="site-2", seed=0)
    assert equal(inputs(before), original)  # tensors are shared, so they must stay
    for old, new in zip(before, after, strict=True):
        assert (old.id, old.patient, old.split, old.labels) == (new.id, new.patient, new.split, new.labels)
        for modality, tensor in old.inputs.items():
            changed = not torch.equal(tensor, new.inputs[modality])
            assert changed == (modality == SHIFTS[name].modality)
            assert new.inputs[modality].shape == tensor.shape
            assert new.inputs[modality].dtype == torch.float32
            assert new.inputs[modality].isfinite().all()
            assert float(new.inputs[modality].abs().max()) < 12
    assert after.synthetic
    assert after.name == "cohort"


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_depends_on_seed_and_site_and_not_on_the_order_of_samples(name):
    def changed(data, site="site-2", seed=0):
        return {sample.id: sample.inputs for sample in shifted(data, [name], site=site, seed=seed)}

    once = changed(shard())
    turned = changed(Dataset(reversed(shard().samples)))
    assert equal([once[id] for id in sorted(once)], [turned[id] for id in sorted(turned)])
    if name not in ("icu-units",):
        others = [changed(shard(), site=f"site-{n}", seed=n) for n in range(3, 9)]
        assert not all(equal([once[id] for id in sorted(once)], [o[id] for id in sorted(o)]) for o in others)


def test_shifts_compose_in_the_order_of_their_names():
    names = ["scanner-gamma", "scanner-noise", "ecg-hum", "icu-sparse-vitals"]
    at_once = shifted(shard(), names, site="a", seed=1)
    stepwise = shard()
    for name in names:
        stepwise = shifted(stepwise, [name], site="a", seed=1)
    assert equal(inputs(at_once), inputs(stepwise))
    turned = shifted(shard(), ["scanner-noise", "scanner-gamma"], site="a", seed=1)
    there = shifted(shard(), ["scanner-gamma", "scanner-noise"], site="a", seed=1)
    assert not equal(inputs(turned), inputs(there))
    assert equal(inputs(shifted(shard(), [], site="a", seed=1)), inputs(shard()))


def test_pictures_stay_standardised_and_waves_on_their_scale():
    for name in ("scanner-gamma", "scanner-window", "scanner-noise", "scanner-marker"):
        for sample in shifted(shard(), [name], site="a", seed=0):
            assert float(sample.inputs["image"].mean()) == pytest.approx(0, abs=1e-4)
            assert float(sample.inputs["image"].std(correction=0)) == pytest.approx(1, abs=1e-3)
    for name in ("ecg-rate", "ecg-hum", "ecg-lead-gain"):
        for sample in shifted(shard(), [name], site="a", seed=0):
            assert float(sample.inputs["signal"].abs().quantile(0.99)) == pytest.approx(1, abs=0.05)


def test_leads_in_another_order_are_the_same_leads():
    for old, new in zip(shard(), shifted(shard(), ["ecg-lead-order"], site="a", seed=0)):
        before, after = (sorted(map(tuple, s.inputs["signal"].tolist())) for s in (old, new))
        assert before == after


def test_a_single_lead_has_no_other_order():
    with pytest.raises(FedkimError, match="shift 'ecg-lead-order', found a single lead"):
        shifted(shard(leads=1), ["ecg-lead-order"], site="a", seed=0)


def test_a_hum_stands_where_it_folds_to():
    quiet = shard(leads=1)
    loud = shifted(quiet, ["ecg-hum"], site="a", seed=0)
    power = [torch.fft.rfft(d.samples[0].inputs["signal"][0]).abs() for d in (quiet, loud)]
    gained = (power[1] - power[0]).argmax() / 10  # ten seconds: a tenth of a hertz a bin
    assert float(gained) in (40.0, 50.0)


def test_sparse_vitals_keep_some_of_the_measurements_and_undeclared_units_none_that_are_implausible():
    number = len(CONCEPTS["vitals"])
    for old, new in zip(shard(), shifted(shard(), ["icu-sparse-vitals"], site="a", seed=0)):
        before, after = (s.inputs["vitals"][:, number:] for s in (old, new))
        assert 0 < after.sum() < 0.7 * before.sum()
        assert bool((after <= before).all())
        kept = after > 0
        torch.testing.assert_close(
            new.inputs["vitals"][:, :number][kept], old.inputs["vitals"][:, :number][kept], atol=1e-4, rtol=0
        )
    labs, number = [concept.name for concept in CONCEPTS["labs"]], len(CONCEPTS["labs"])
    glucose, sodium = labs.index("glu"), labs.index("na")
    for old, new in zip(shard(), shifted(shard(), ["icu-units"], site="a", seed=0)):
        old, new = old.inputs["labs"], new.inputs["labs"]
        torch.testing.assert_close(new[:, sodium], old[:, sodium], atol=1e-4, rtol=0)
        assert not torch.equal(new[:, glucose], old[:, glucose])


def test_a_missing_lab_is_missing_for_everyone():
    number = len(CONCEPTS["labs"])
    gone = [
        (s.inputs["labs"][:, number:].sum(0) == 0).tolist()
        for s in shifted(shard(number=20), ["icu-missing-labs"], site="a", seed=0)
    ]
    always = [all(column) for column in zip(*gone)]
    assert 0 < sum(always) < number


def test_mistakes_are_told_by_name():
    with pytest.raises(FedkimError, match="did you mean 'scanner-gamma'"):
        shifted(shard(), ["scanner-gama"], site="a", seed=0)
    with pytest.raises(FedkimError, match="did you mean 'site-2'"):
        check_shifts({"site2": ("ecg-hum",)}, ["site-1", "site-2"])
    with pytest.raises(FedkimError, match="did you mean 'ecg-hum'"):
        check_shifts({"site-1": ("ecghum",)}, ["site-1"])


SMALL = ("data.image_patients=60", "data.signal_patients=40", "data.icu_patients=40")


def small(*overrides):
    from pathlib import Path

    return load(Path(__file__).parents[2] / "recipes" / "smoke.toml", *SMALL, *overrides)


def test_a_recipe_shifts_the_sites_it_names_and_the_centralised_reference_with_them():
    plain = build_world(small())
    name = list(plain.sites)[1]
    shifts = f'federation.shifts={{{name} = ["scanner-noise"]}}'
    world = build_world(small(shifts))
    for site, held in world.sites.items():
        changed = [
            not torch.equal(old.inputs["image"], new.inputs["image"])
            for old, new in zip(plain.sites[site], held, strict=True)
            if "image" in old.inputs
        ]
        assert changed
        assert set(changed) == {site == name}
    assert equal(inputs(plain.data.split("test")), inputs(world.data.split("test")))
    together = build_world(small(shifts, "federation.trainers=centralised")).sites["centralised"]
    noisy = {s.id: s.inputs["image"] for s in world.sites[name] if "image" in s.inputs}
    assert noisy
    assert all(torch.equal(s.inputs["image"], noisy[s.id]) for s in together if s.id in noisy)


def test_a_shift_of_ones_own_is_a_record(monkeypatch):
    def device(random, shape):
        return lambda picture, chance: -picture

    monkeypatch.setitem(SHIFTS, "negative", Shift(name="negative", modality="image", contents="", device=device))
    recipe = Recipe(federation=Federation(shifts={"site-1": ("negative",)}))
    assert load_again(recipe) == recipe
    new = shifted(shard(), ["negative"], site="site-1", seed=0)
    assert torch.equal(new.samples[0].inputs["image"], -shard().samples[0].inputs["image"])


def load_again(recipe):
    import json

    from fedkim.recipe import from_dict

    return from_dict(json.loads(json.dumps(recipe.to_dict())))
