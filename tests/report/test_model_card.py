"""The model card: pseudonyms, small counts, and what it says where a run is no federation or a score is missing."""

from dataclasses import replace

import pytest

from fedkim.report.model_card import Exported, model_card, pseudonyms
from fedkim.report.wording import NETWORKED, NOT_A_DEVICE, PRIVACY, SIMULATED, SYNTHETIC

EXPORTED = Exported(
    name="effusion", task="effusion", question="Is there fluid?", answers=("No", "Yes"), modalities=("image",),
    all_modalities=True, seen=False, merged=False, weights=(0.75, 0.25), entropy=0.811, rank=16, base="base: #1",
    base_origin="", base_licence="", dtype="float32", data="pictures of somebody's own",
)  # fmt: skip
SITES = {
    "Saint Elsewhere": {"patients": 3, "samples": 4, "components": ["decoder.effusion", "encoder.image"]},
    "County General": {"patients": 1200, "samples": 1300, "components": ["encoder.image", "encoder.labs"]},
}


def score(value, low=None, high=None, reason=""):
    return {"value": value, "low": low, "high": high, "reason": reason, "metric": "auroc", "n": 40, "patients": 38}


def result(**changes):
    entry = {
        "task": "effusion", "seen": False, "split": "test", "primary_metric": "auroc", "within": None,
        "blindness": {"pneumonia": {"pearson": 0.97, "spearman": 0.9, "n": 40, "reason": ""}},
        "rows": {
            "injected": {"primary": score(0.71, 0.6, 0.8), "metrics": {"auroc": score(0.71, 0.6, 0.8), "f1": score(None)}},
            "blind": {"primary": score(0.5, reason="fewer than 5 patients")},
        },
    }  # fmt: skip
    return {
        "run_info": {"method": "fedkim", "backbone": "fedprox", "seed": 3, "recipe": "mine"},
        "train_info": {"rounds": [{}, {}], "digest": "ab" * 32},
        "metrics": {"effusion": entry},
        "routes": {"nearest": {"effusion": {"task": "pneumonia", "total_variation": 0.25}}, "warnings": []},
        "meta_info": {"synthetic": False, "sites": SITES},
        **changes,
    }


def test_hospitals_stand_as_pseudonyms_and_small_counts_are_not_told():
    card = model_card(result(), EXPORTED)
    assert "| site-1 | 1,200 | 1,300 | image, labs |" in card
    assert "| site-2 | fewer than 10 | fewer than 10 | image |" in card
    assert not any(name in card for name in SITES)
    assert list(pseudonyms({"site-10": {}, "site-2": {}})) == ["site-2", "site-10"]


def test_what_a_hospitals_result_hides_is_hidden_and_said_so():
    hidden = {name: {**facts, "patients": None, "samples": None} for name, facts in SITES.items()}
    meta = {"synthetic": False, "sites": hidden, "suppressed": {"smallest_cell": 10, "tasks": ["effusion"]}}
    card = model_card(result(metrics={}, meta_info=meta), EXPORTED)
    assert card.count("| fewer than 10 | fewer than 10 |") == 2
    assert "Not shown: fewer than 10 patients" in card
    assert not any(name in card for name in SITES)


def test_scores_stand_with_intervals_beside_what_could_explain_them_away():
    card = model_card(result(), EXPORTED)
    assert "| this model | 40 | 38 | 0.710 [0.600, 0.800] |" in card
    assert "0.500 (fewer than 5 patients)" in card
    assert "correlate +0.970 with those of the trained question `pneumonia`" in card
    assert "nearest trained route: `pneumonia`, total variation 0.250" in card
    assert "On the test split." in card
    assert "f1" not in card.split("All scores")[1].split("\n")[0]
    assert "nothing is known about how well" in model_card(result(metrics={}), EXPORTED)


def test_simulated_hospitals_are_called_simulated():
    card = model_card(result(), EXPORTED)
    assert SIMULATED in card
    assert "knowledge of several simulated hospitals" in card


def test_hospitals_on_a_network_are_not_called_simulated():
    sites = {name: {"components": facts["components"]} for name, facts in SITES.items()}
    card = model_card(result(meta_info={"synthetic": False, "sites": sites, "network": True}), EXPORTED)
    assert NETWORKED in card
    assert "simulated" not in card
    assert "known to the site alone" in card


def test_the_synthetic_banner_stands_only_where_it_belongs():
    assert SYNTHETIC not in model_card(result(), EXPORTED)
    synthetic = result(meta_info={"synthetic": True, "sites": SITES})
    assert model_card(synthetic, EXPORTED).index(SYNTHETIC) < 400


@pytest.mark.parametrize(
    ("trainers", "words"), [("public", "No hospital took part"), ("centralised", "nothing stayed with")]
)
def test_a_reference_run_is_not_called_a_federation(trainers, words):
    card = model_card(result(), replace(EXPORTED, trainers=trainers))
    assert words in card
    assert not any(claim in card for claim in (PRIVACY, SIMULATED, "simulated hospitals"))
    assert NOT_A_DEVICE in card


def test_the_front_matter_survives_an_odd_name_and_a_merged_model_needs_no_peft():
    card = model_card(result(), replace(EXPORTED, merged=True))
    assert 'base_model: "base: #1"' in card
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "PeftModel" not in card
    assert "its licence: see its own card" in card
