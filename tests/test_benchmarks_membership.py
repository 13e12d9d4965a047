"""The membership attack: its figures on constructed scores, and that it finds members where a site trains by itself."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.membership import Attack, attacks, kinds, markdown, recipe, told
from benchmarks.small_models import by_itself

from fedkim.experiments.comparison import block
from fedkim.recipe import from_dict
from fedkim.run.world import build_world

TABLES = {
    "run": {"workers": 1},
    "data": {"image_patients": 0, "signal_patients": 300, "icu_patients": 0, "further_test_patients": 200},
    "tasks": {"seen": ["ecg_abnormal"], "unseen": []},
    "federation": {"rounds": 5, "sites": 2},
    "extraction": {"local_epochs": 4},
}


def test_scores_that_know_nothing_tell_nothing_and_others_are_told():
    draw = np.random.default_rng(0)
    area, share = told(draw.normal(size=20_000), draw.normal(size=20_000))
    assert area == pytest.approx(0.5, abs=0.01)
    assert share == pytest.approx(0.01, abs=0.003)
    assert told(draw.normal(size=100) + 10, draw.normal(size=100)) == (1.0, 1.0)


@pytest.mark.slow
def test_ecgs_of_a_site_that_trains_by_itself_are_found_and_those_of_another_site_are_not():
    world = build_world(from_dict(TABLES))
    ((kind, tasks),) = kinds(world.seen).items()
    assert kind == "ECGs"
    first, second = world.sites
    alone = by_itself(world, first, tasks, world.recipe.extraction, world.recipe.federation.rounds)
    ((found, _),) = Attack(world, tasks)(first, alone)
    ((control, _),) = Attack(world, tasks)(second, alone)
    assert found > 0.65
    assert control == pytest.approx(0.5, abs=0.1)
    ((untrained, _),) = Attack(world, tasks)(first, world.initial)
    assert untrained == pytest.approx(0.5, abs=0.1)
    few = replace(world, sites={first: type(world.data)(list(world.sites[first])[:5])})
    assert Attack(few, tasks)(first, alone) == []


@pytest.mark.slow
def test_the_coordinator_finds_a_sites_own_patients_and_not_by_another_sites_update():
    found = attacks(build_world(from_dict(TABLES)))
    means = {name: np.mean([area for area, _ in every]) for (_, name), every in found.items()}
    assert means["update of another site, first round, loss"] == pytest.approx(0.5, abs=0.1)
    assert means["update of the first round, loss"] > 0.55
    assert means["update of the first round, step"] > 0.55
    assert means["the first site by itself, loss"] > means["last average alone, loss"]


def test_the_attacked_recipe_is_the_demos():
    assert (recipe(1).run.seed, recipe(1).federation.rounds) == (1, 5)


def test_the_page_shows_the_committed_figures():
    root = Path(__file__).parents[1]
    record = json.loads((root / "results" / "benchmarks" / "membership.json").read_text(encoding="utf-8"))
    page = (root / "docs" / "federation.md").read_text(encoding="utf-8")
    assert block(page, "membership")[1].strip() == markdown(record).strip()
