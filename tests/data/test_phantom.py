from collections import Counter

import numpy as np
import pandas
import pytest
import torch
from scipy.signal import find_peaks
from sklearn.metrics import roc_auc_score

from fedkim.data import phantom
from fedkim.data.phantom import PhantomSettings, stay, wave
from fedkim.data.phantom.acceptance import _either_way, _scalars
from fedkim.data.phantom.factors import CHUNK, FINDINGS, draw
from fedkim.data.phantom.rendering import render
from fedkim.errors import FedkimError
from fedkim.modalities import MODALITIES, series
from fedkim.modalities.concepts import CONCEPTS
from fedkim.randomness import numpy_generator_for
from fedkim.tasks import TASKS
from fedkim.tasks.paper import SEEN, UNSEEN

SMALL = PhantomSettings(image_patients=150, signal_patients=100, icu_patients=100, rho=0.5, workers=1)
UNSEEN_FINDINGS = [task for task, finding in FINDINGS.items() if finding.partner]


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDKIM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def dataset(_own_cache):
    return phantom.load(SMALL)


def facts(dataset):
    return [(s.id, s.split, s.site, s.labels, s.questions, s.strata) for s in dataset]


def test_the_federation_has_twelve_tasks_and_seven_modalities_and_says_it_is_synthetic(dataset):
    assert dataset.synthetic
    assert dataset.name == "phantom"
    asked = {task for sample in dataset for task in sample.labels}
    assert asked == {*SEEN, *UNSEEN} <= set(TASKS)
    assert len(asked) == 12
    needed = {modality for task in asked for modality in TASKS[task].modalities}
    assert needed == set(MODALITIES)
    assert set(dataset.shapes()) == needed - {"text"}


def test_inputs_have_the_canonical_shapes_and_no_nan(dataset):
    shapes = dataset.shapes()
    assert shapes["image"] == (1, 64, 64)
    assert shapes["signal"] == (12, 1000)
    assert all(shapes[name] == (24, 2 * len(group)) for name, group in CONCEPTS.items())
    for sample in dataset:
        for tensor in sample.inputs.values():
            assert tensor.dtype == torch.float32
            assert tensor.isfinite().all()
            assert tensor.abs().max() <= 16


def test_unseen_tasks_leave_no_label_and_no_question_in_private_and_public(dataset):
    for sample in dataset:
        if sample.split in ("private", "public"):
            assert not {*sample.labels, *sample.questions} & set(UNSEEN)
    assert {task for s in dataset.split("test") for task in s.labels} == {*SEEN, *UNSEEN}


def test_a_recipe_may_train_on_any_task():
    one = phantom.load(PhantomSettings(image_patients=64, signal_patients=0, icu_patients=0, unseen_tasks=("covid",)))
    private = {task for sample in one.split("private") for task in sample.labels}
    assert "vqa_rad" in private
    assert "covid" not in private


def test_patients_split_seven_one_one_one(dataset):
    patients = {sample.patient: sample.split for sample in dataset}
    assert Counter(patients.values()) == {"private": 245, "public": 35, "development": 35, "test": 35}


def test_further_patients_are_test_patients_and_change_nobody_else(dataset):
    more = phantom.load(PhantomSettings(**{**SMALL.__dict__, "further_test_patients": 20}))
    before = {sample.id: (sample.split, sample.labels) for sample in dataset}
    after = {sample.id: (sample.split, sample.labels) for sample in more}
    assert before.items() <= after.items()
    new = {sample.patient for sample in more if sample.id not in before}
    assert len(new) == 60
    assert {sample.split for sample in more if sample.patient in new} == {"test"}
    first, again = (next(s for s in d if s.id == "phantom/image-00003").inputs["image"] for d in (dataset, more))
    assert torch.equal(first, again)


def test_the_same_seed_gives_the_same_bytes_from_the_cache_and_without_it(dataset, tmp_path, monkeypatch):
    again = phantom.load(SMALL)
    monkeypatch.setenv("FEDKIM_CACHE", str(tmp_path))
    fresh = phantom.load(PhantomSettings(**{**SMALL.__dict__, "workers": 2}))
    assert facts(dataset) == facts(again) == facts(fresh)
    for one, two, three in zip(dataset, again, fresh, strict=True):
        for name, tensor in one.inputs.items():
            assert torch.equal(tensor, two.inputs[name])
            assert torch.equal(tensor, three.inputs[name])


def test_a_damaged_cache_is_built_anew(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDKIM_CACHE", str(tmp_path))
    settings = PhantomSettings(image_patients=0, signal_patients=0, icu_patients=70)
    first = phantom.load(settings).samples[3].inputs["labs"].clone()
    (file,) = tmp_path.rglob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1000] ^= 255
    file.write_bytes(content)
    assert torch.equal(phantom.load(settings).samples[3].inputs["labs"], first)


def test_more_patients_do_not_change_the_first_ones():
    few, many = (
        phantom.load(PhantomSettings(image_patients=0, signal_patients=0, icu_patients=number)) for number in (50, 130)
    )
    for one, two in zip(few, many, strict=False):
        assert one.id == two.id
        assert one.site == two.site
        assert torch.equal(one.inputs["vitals"], two.inputs["vitals"])


def test_another_seed_gives_other_patients(dataset):
    other = phantom.load(PhantomSettings(**{**SMALL.__dict__, "seed": 1}))
    assert not torch.equal(dataset.samples[0].inputs["image"], other.samples[0].inputs["image"])


@pytest.mark.parametrize("task", UNSEEN_FINDINGS)
def test_the_knob_is_the_correlation_between_an_unseen_cause_and_its_partner(task):
    factors = draw(FINDINGS[task].kind, 6400, seed=3, num_sites=5)
    partner = factors.cause(FINDINGS[task].partner, 0.0)
    for rho in (0.0, 0.5, 0.8):
        assert np.corrcoef(partner, factors.cause(task, rho))[0, 1] == pytest.approx(rho, abs=0.04)
    assert np.array_equal(factors.present(task, 1.0), partner > FINDINGS[task].threshold)


@pytest.mark.parametrize("task", UNSEEN_FINDINGS)
def test_without_a_link_no_seen_label_says_anything_about_an_unseen_one(task):
    factors = draw(FINDINGS[task].kind, 6400, seed=4, num_sites=5)
    unseen = factors.present(task, 0.0)
    for seen in (name for name in factors.causes if FINDINGS[name].partner is None):
        assert abs(np.corrcoef(factors.present(seen, 0.0), unseen)[0, 1]) < 0.05


def test_labels_have_their_prevalence_at_every_rho_and_no_site_has_more_of_them():
    for kind in ("image", "signal", "icu"):
        factors = draw(kind, 6400, seed=5, num_sites=5)
        for task in factors.causes:
            for rho in (0.0, 0.5, 1.0):
                present = factors.present(task, rho)
                assert present.mean() == pytest.approx(FINDINGS[task].prevalence, abs=0.03)
                for site in range(5):
                    assert present[factors.traits["site"] == site].mean() == pytest.approx(present.mean(), abs=0.05)


def test_what_is_rendered_bounds_every_reader_between_093_and_096():
    for kind in ("image", "signal", "icu"):
        factors = draw(kind, 12800, seed=6, num_sites=5)
        for task in factors.causes:
            for rho in (0.0, 0.5, 1.0):
                assert 0.93 <= roc_auc_score(factors.present(task, rho), factors.evidence(task, rho)) <= 0.965


@pytest.mark.parametrize("kind", ["image", "signal", "icu"])
def test_no_single_number_about_an_input_gives_a_label_away(kind):
    number = 10 * CHUNK
    settings = PhantomSettings(seed=7)
    factors = draw(kind, number, seed=7, num_sites=5)
    numbers = _scalars(kind, render(factors, settings, number))
    for task in factors.causes:
        for rho in (0.0, 1.0):
            best = max(_either_way(factors.present(task, rho), values) for values in numbers.values())
            assert best <= 0.65 + 0.05  # the band, and two standard errors of the small sample


def test_stays_pass_through_the_preprocessing_of_real_tables():
    factors = draw("icu", CHUNK, seed=8, num_sites=5)
    settings = PhantomSettings(seed=8)
    rendered = render(factors, settings, CHUNK)
    values = stay.render(factors.chunk(0), numpy_generator_for(8, "phantom", "icu", "rendering", 0))
    for modality, concepts in CONCEPTS.items():
        table = pandas.DataFrame(values[modality][5], columns=[concept.name for concept in concepts])
        table["hour"] = range(24)
        assert torch.equal(rendered[modality][5], series.read_table(table)[modality])


def test_ecgs_beat_at_the_rate_they_were_given():
    factors = draw("signal", CHUNK, seed=9, num_sites=1)
    leads, rate = wave.render(factors.chunk(0), numpy_generator_for(9, "phantom", "signal", "rendering", 0))
    quiet = (factors.traits["noise"] == 0) & (factors.strength("ectopic_beats") < 0.3)
    errors = []
    for record, programmed in zip(leads[quiet], rate[quiet], strict=True):
        steep = np.abs(np.diff(record[10]))  # V5: the R wave is the steepest thing in it
        peaks, _ = find_peaks(steep, height=0.45 * steep.max(), distance=35)
        errors.append(abs(60 / np.median(np.diff(peaks) / 100) - programmed))
    assert len(errors) >= 5
    assert np.median(errors) < 1.5


def test_the_site_shows_in_the_picture_but_not_in_the_label():
    factors = draw("image", 4 * CHUNK, seed=10, num_sites=5)
    pictures = render(factors, PhantomSettings(seed=10), 4 * CHUNK)["image"][:, 0]
    grain = (pictures[:, 1:, :] - pictures[:, :-1, :]).abs().mean(dim=(1, 2)).numpy()
    by_site = [np.median(grain[factors.traits["site"] == site]) for site in range(5)]
    assert max(by_site) > 1.5 * min(by_site)
    coarse = grain > np.median(grain)
    assert abs(coarse[factors.present("atelectasis", 0.0)].mean() - 0.5) < 0.12


@pytest.mark.parametrize(
    ("key", "value"),
    [("rho", 1.2), ("rho", -0.1), ("image_patients", -1), ("image_size", 16), ("num_sites", 0), ("workers", 0)],
)
def test_impossible_settings_are_refused_by_name(key, value):
    with pytest.raises(FedkimError, match=f"phantom {key}"):
        PhantomSettings(**{key: value})


def test_extra_questions_come_in_opposite_pairs_for_every_split_and_only_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDKIM_CACHE", str(tmp_path))
    sizes = {"image_patients": 64, "signal_patients": 64, "icu_patients": 64}
    plain = phantom.load(PhantomSettings(**sizes))
    pairs = {"ap_view": "pa_view", "noisy": "noise_free", "map_below_65": "map_stayed_above_65"}
    more = phantom.load(PhantomSettings(**sizes, extra_tasks=("covid", *pairs, *pairs.values())))
    assert not any({*pairs, *pairs.values()} & set(sample.labels) for sample in plain)
    for one, other in pairs.items():
        asked = [sample for sample in more if one in sample.labels]
        assert {sample.split for sample in asked} == {"private", "public", "development", "test"}
        assert len({sample.labels[one] for sample in asked}) == 2
        assert all(sample.labels[one] != sample.labels[other] for sample in asked)
    kept = [
        (sample.id, sample.split, {k: v for k, v in sample.labels.items() if k not in {*pairs, *pairs.values()}})
        for sample in more
    ]
    assert kept == [(sample.id, sample.split, sample.labels) for sample in plain]
