"""The laws of the pack's parts: the cache, the deal into folds, the matching, the noise."""

from collections import Counter

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score

from fedkim.data import cache
from fedkim.data.sources import folds, matching, noise
from fedkim.data.sources.yaib_tables import Course, Hourly, _course
from fedkim.errors import FedkimError
from fedkim.modalities import signal


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDKIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tensors"


def entry(value: float = 1.0) -> cache.Entry:
    return cache.Entry(
        tensors={"x": torch.full((3, 2), value), "none": torch.zeros(0, 4)}, facts={"ids": ["a", "b"], "rate": None}
    )


def never() -> cache.Entry:
    raise AssertionError("built although it was in the cache")


def test_what_was_built_once_is_read_back_and_not_built_again(cache_folder):
    first = cache.cached("thing", "k", entry)
    second = cache.cached("thing", "k", never)
    for read in (first, second):
        assert torch.equal(read.tensors["x"], entry().tensors["x"])
        assert read.tensors["none"].shape == (0, 4)
        assert read.facts == {"ids": ["a", "b"], "rate": None}
    assert [file.name for file in cache_folder.iterdir()] == ["thing-k.safetensors"]


def test_another_key_is_another_entry(cache_folder):
    cache.cached("thing", "k", entry)
    assert cache.cached("thing", "l", lambda: entry(2.0)).tensors["x"][0, 0] == 2.0
    assert cache.cached("thing", "k", never).tensors["x"][0, 0] == 1.0


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_damaged_file_is_built_again(cache_folder, damage):
    cache.cached("thing", "k", entry)
    path = cache_folder / "thing-k.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[:-5])
    elif damage == "flipped":
        content[-3] ^= 1
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        save_file(load_file(path), path)  # same tensors, no header of ours
    assert torch.equal(cache.cached("thing", "k", lambda: entry(3.0)).tensors["x"], entry(3.0).tensors["x"])
    assert torch.equal(cache.cached("thing", "k", never).tensors["x"], entry(3.0).tensors["x"])


def test_a_failed_build_leaves_nothing_behind(cache_folder):
    with pytest.raises(AssertionError):
        cache.cached("thing", "k", never)
    assert not cache_folder.exists() or not list(cache_folder.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FEDKIM_CACHE", str(tmp_path / "file"))
    with pytest.raises(FedkimError, match="FEDKIM_CACHE"):
        cache.cached("thing", "k", entry)


def test_the_key_follows_contents_names_settings_and_rules(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("a")
    two.write_text("a")
    key = cache.content_key([one], 64)
    assert key == cache.content_key([one], 64)
    others = [
        cache.content_key([two], 64),
        cache.content_key([one], 32),
        cache.content_key([one, two], 64),
        cache.content_key([one], 64, rules=[noise]),
    ]
    one.write_text("b")
    assert len({key, *others, cache.content_key([one], 64)}) == 6
    with pytest.raises(FedkimError, match="no such file"):
        cache.content_key([tmp_path / "three"])


def test_the_deal_gives_each_part_its_share_of_each_stratum():
    strata = {f"p{n}": ("rare" if n % 9 == 0 else "common") for n in range(437)}
    parts = folds.deal(strata, 10, seed=0, purpose="x")
    assert parts.keys() == strata.keys()
    sizes = Counter(parts.values())
    rare = Counter(part for patient, part in parts.items() if strata[patient] == "rare")
    assert max(sizes.values()) - min(sizes.values()) <= 1
    assert max(rare.values()) - min(rare.values()) <= 1


def test_the_deal_is_a_pure_function_of_patients_seed_and_purpose():
    strata = {f"p{n}": n % 3 for n in range(100)}
    backwards = dict(reversed(strata.items()))
    assert folds.deal(strata, 10, 0, "x") == folds.deal(backwards, 10, 0, "x")
    assert folds.deal(strata, 10, 0, "x") != folds.deal(strata, 10, 1, "x")
    assert folds.deal(strata, 10, 0, "x") != folds.deal(strata, 10, 0, "y")


def test_folds_rotate_seven_one_one_one_and_test_no_decile_twice():
    for fold in range(folds.NUM_FOLDS):
        counts = Counter(folds.split_of_decile(decile, fold) for decile in range(folds.NUM_DECILES))
        assert counts == {"private": 7, "public": 1, "development": 1, "test": 1}
    tested = [d for d in range(10) for fold in range(5) if folds.split_of_decile(d, fold) == "test"]
    assert len(tested) == len(set(tested)) == 5


def test_each_cell_is_held_out_in_one_fold_four_for_the_test_to_one_for_development():
    for cell in range(folds.NUM_CELLS):
        assert sum(folds.split_of_cell(cell, fold) is not None for fold in range(folds.NUM_FOLDS)) == 1
    for fold in range(folds.NUM_FOLDS):
        counts = Counter(folds.split_of_cell(cell, fold) for cell in range(folds.NUM_CELLS))
        assert (counts["test"], counts["development"]) == (4, 1)


def test_each_row_of_the_record_table_holds_all_nine_and_the_first_is_the_published_one():
    for row in folds.RECORDS:
        assert sorted((*row.private, *row.public, *row.development, *row.test)) == sorted(
            ("100", "102", "104", "105", "108", "114", "119", "123", "200")
        )
        assert len(set(row.public) & {"105", "108", "114", "119", "200"}) == 1  # one rich, one poor
    assert [row.test for row in folds.RECORDS] == [("114",), ("105",), ("108",), ("119",), ("200",)]
    assert folds.RECORDS[0].public == ("200", "104")


def test_matching_leaves_nothing_to_the_length():
    generator = np.random.default_rng(0)
    courses = {}
    for stay in range(400):
        last = int(generator.integers(10, 80))
        courses[f"s{stay}"] = Course(last_hour=last, onset=last - 6 if stay % 3 == 0 else None)
    pools = [[stay for stay in courses if int(stay[1:]) % 4 == pool] for pool in range(4)]
    for controls in (1, 2):
        windows = matching.match(pools, courses, controls, seed=0, purpose="x")
        assert windows == matching.match([list(reversed(pool)) for pool in pools], courses, controls, 0, "x")
        assert len({window.stay for window in windows}) == len(windows)
        assert sum(not w.case for w in windows) == controls * sum(w.case for w in windows)
        assert roc_auc_score([w.case for w in windows], [w.until_hour for w in windows]) == pytest.approx(0.5)
        assert all(courses[w.stay].last_hour >= w.until_hour for w in windows)
        assert all((courses[w.stay].onset is not None) == w.case for w in windows)


def test_matching_serves_every_case_that_can_be_served():
    courses = {
        "late": Course(last_hour=60, onset=50),
        "early": Course(last_hour=20, onset=10),
        "long": Course(last_hour=70, onset=None),
        "short": Course(last_hour=12, onset=None),
    }
    for seed in range(10):
        pairs = matching.match([list(courses)], courses, 1, seed, "x")
        assert [(w.stay, w.until_hour) for w in pairs] == [("late", 50), ("long", 50), ("early", 10), ("short", 10)]


def test_controls_never_come_from_another_pool():
    courses = {"case": Course(last_hour=20, onset=10), "control": Course(last_hour=90, onset=None)}
    assert matching.match([["case"], ["control"]], courses, 1, 0, "x") == []


def test_onset_is_six_hours_after_the_label_turns_true():
    labels = np.zeros(40, dtype=bool)
    labels[20:33] = True
    assert _course(labels).onset == 26
    assert _course(labels[:33]) == Course(last_hour=32, onset=26)
    assert _course(np.zeros(5, dtype=bool)).onset is None


def test_an_onset_that_the_admission_cuts_off_is_not_used():
    assert not _course(np.array([True] * 9 + [False] * 4)).usable
    assert _course(np.array([True] * 13)).usable  # whole: onset at hour 6


def test_a_window_ends_before_its_hour_and_is_padded_in_front():
    stay = Hourly(values={"s": np.arange(30.0)[:, None].repeat(48, axis=1)})
    day, early, late = (stay.window("s", hour)[:, 0] for hour in (24, 6, 28))
    assert day.tolist() == list(range(24))
    assert np.isnan(early[:18]).all()
    assert early[18:].tolist() == list(range(6))
    assert late.tolist() == list(range(4, 28))


@pytest.mark.parametrize("kind", noise.KINDS)
def test_noise_depends_on_the_window_alone_and_scales_with_it(kind):
    wave = np.sin(np.arange(3600) / 20)[None]
    noisy = noise.add_noise(wave, 360, kind, 0, "w")
    assert np.array_equal(noisy, noise.add_noise(wave, 360, kind, 0, "w"))
    assert not np.array_equal(noisy, noise.add_noise(wave, 360, kind, 0, "v"))
    assert not np.array_equal(noisy, noise.add_noise(wave, 360, kind, 1, "w"))
    np.testing.assert_allclose(noise.add_noise(7 * wave, 360, kind, 0, "w"), 7 * noisy, rtol=1e-9)
    changed = signal.prepare(noisy, 360) - signal.prepare(wave, 360)
    assert 0.02 < float(changed.abs().mean()) < 1


def test_kinds_of_noise_look_as_their_names_say():
    wave = np.sin(np.arange(3600) / 20)[None]
    added = {kind: noise.add_noise(wave, 360, kind, 0, "w")[0] - wave[0] for kind in noise.KINDS}
    slow = {kind: np.abs(np.fft.rfft(x)[:10]).sum() / np.abs(np.fft.rfft(x)).sum() for kind, x in added.items()}
    assert max(slow, key=slow.get) == "baseline drift"
    second = {kind: np.abs(x).reshape(10, 360).mean(1) for kind, x in added.items()}
    spread = {kind: x.max() / (x.min() + 1e-9) for kind, x in second.items()}
    assert spread["static noise"] < 3 < 30 < spread["burst noise"]
    with pytest.raises(FedkimError, match="did you mean 'static noise'"):
        noise.add_noise(wave, 360, "static noyse", 0, "w")
