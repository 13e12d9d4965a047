"""Each recipe of recipes/sets runs on a copy of its data sets that their writers make in the published layout."""

import importlib
from collections import Counter
from pathlib import Path

import pytest

from fedkim.data.public_sets import known_sets
from fedkim.data.splits import check_disjoint
from fedkim.recipe import load
from fedkim.run import run_recipe
from fedkim.run.world import build_world

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes" / "sets").glob("*.toml"))
WRITERS = sorted(path.stem for path in (ROOT / "tests" / "fixtures" / "writers").glob("*.py") if path.stem[0] != "_")


def written(file, folder):
    """The recipe, its roots filled by the writers of the sets it names."""
    names = load(file).data.roots
    overrides = []
    for name in names:
        root = folder / name
        root.mkdir()
        importlib.import_module(f"fixtures.writers.{name}").write(root)
        overrides.append(f"data.roots.{name}={root}")
    return load(file, *overrides)


def test_every_set_that_has_a_writer_has_a_recipe_and_is_known():
    assert [file.stem for file in RECIPES] == WRITERS
    assert set(WRITERS) <= set(known_sets())


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_sets_recipe_finds_its_tasks_in_every_split_that_should_have_them(file, tmp_path):
    recipe = written(file, tmp_path)
    world = build_world(recipe)
    check_disjoint(world.data)
    for task in recipe.tasks.seen:
        splits = Counter(sample.split for sample in world.data.labelled(task))
        assert set(splits) == {"private", "public", "development", "test"}, task
    for task in recipe.tasks.unseen:
        assert {sample.split for sample in world.data.labelled(task)} == {"development", "test"}, task


@pytest.mark.slow
@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_sets_recipe_runs_to_its_scores(file, tmp_path):
    recipe = written(file, tmp_path)
    result = run_recipe(recipe, out=tmp_path / "run")
    assert {*recipe.tasks.seen, *recipe.tasks.unseen} <= set(result["metrics"])
    assert len(result["train_info"]["rounds"]) == recipe.federation.rounds
