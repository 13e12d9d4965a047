"""Each recipe of recipes/sets runs on a copy of its data sets that their writers make in the published layout."""

import importlib
from collections import Counter
from pathlib import Path

import pytest

from fedkim.data.public_sets import known_sets
from fedkim.data.splits import check_disjoint
from fedkim.recipe import load
from fedkim.run import check_recipe, run_recipe
from fedkim.run.world import build_world

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes" / "sets").glob("*.toml"))
PAPER = ROOT / "recipes" / "paper-public.toml"
WRITERS = sorted(path.stem for path in (ROOT / "tests" / "fixtures" / "writers").glob("*.py") if path.stem[0] != "_")


def written(file, folder):
    """The recipe, its roots filled by the writers of the sets it names."""
    data = load(file).data
    overrides = []
    for name in data.roots:
        root = folder / name
        root.mkdir()
        version = {"version": data.versions[name]} if name in data.versions else {}
        importlib.import_module(f"fixtures.writers.{name}").write(root, **version)
        overrides.append(f"data.roots.{name}={root}")
    return load(file, *overrides)


def test_every_set_that_has_a_writer_has_a_recipe_and_is_known():
    assert [file.stem for file in RECIPES] == WRITERS
    assert set(WRITERS) <= set(known_sets())


@pytest.mark.parametrize("file", [*RECIPES, PAPER], ids=lambda file: file.stem)
def test_a_sets_recipe_finds_its_tasks_in_every_split_that_should_have_them(file, tmp_path):
    recipe = written(file, tmp_path)
    world = build_world(recipe)
    check_disjoint(world.data)
    for task in recipe.tasks.seen:
        splits = Counter(sample.split for sample in world.data.labelled(task))
        assert set(splits) == {"private", "public", "development", "test"}, task
    for task in recipe.tasks.unseen:
        assert {sample.split for sample in world.data.labelled(task)} == {"development", "test"}, task


def test_the_papers_recipe_on_public_sets_reads_all_of_them_and_passes_its_check():
    recipe = load(PAPER)
    assert set(recipe.data.roots) == set(WRITERS)
    assert recipe.data.versions == {"vqarad": "mevf"}  # 3,515 questions, of which the paper tests a tenth
    assert (recipe.tasks, recipe.m3oe) == (
        load(ROOT / "recipes" / "paper.toml").tasks,
        load(ROOT / "recipes" / "paper.toml").m3oe,
    )
    plan = check_recipe(recipe)
    assert {f"decoder.{task}" for task in recipe.tasks.seen} <= set(plan.parameters)


@pytest.mark.slow
@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_sets_recipe_runs_to_its_scores(file, tmp_path):
    recipe = written(file, tmp_path)
    result = run_recipe(recipe, out=tmp_path / "run")
    assert {*recipe.tasks.seen, *recipe.tasks.unseen} <= set(result["metrics"])
    assert len(result["train_info"]["rounds"]) == recipe.federation.rounds
