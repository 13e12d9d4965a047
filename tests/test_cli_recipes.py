from pathlib import Path

import pytest

from fedkim.cli.recipes import find_matrix, find_recipe
from fedkim.errors import FedkimError

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A current folder with recipes of its own, one of them under a name that comes along."""
    (tmp_path / "recipes").mkdir()
    for name in ("demo", "mine"):
        (tmp_path / "recipes" / f"{name}.toml").write_text("[run]\nplugins = ['no_such_plug_in']\n")
    (tmp_path / "recipes" / "paper-matrix.toml").write_text("[[cells]]\n")
    monkeypatch.chdir(tmp_path)


def test_a_name_is_that_of_what_comes_along_wherever_one_stands(elsewhere):
    assert find_recipe("demo").samefile(RECIPES / "demo.toml")
    assert find_matrix("paper-matrix").samefile(RECIPES / "paper-matrix.toml")
    with pytest.raises(FedkimError, match="unknown recipe 'mine'"):
        find_recipe("mine")


def test_ones_own_are_given_by_their_path(elsewhere):
    assert find_recipe("recipes/demo.toml") == Path("recipes/demo.toml")
    assert find_matrix("recipes/paper-matrix.toml") == Path("recipes/paper-matrix.toml")
