import json
from dataclasses import replace
from pathlib import Path

import pytest

from fedkim.errors import FedkimError
from fedkim.experiments.choosing import read_chosen
from fedkim.experiments.matrix_file import load_matrix
from fedkim.experiments.methods import METHODS, find_method
from fedkim.recipe import Recipe

ROOT = Path(__file__).parents[2]
PAPER, RESULTS = ROOT / "recipes" / "paper-matrix.toml", ROOT / "results"


@pytest.fixture(scope="module")
def matrix():
    return load_matrix(PAPER)


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_the_papers_matrix_has_its_cells_and_keeps_choosing_seeds_apart(matrix):
    groups = {}
    for cell in matrix.cells:
        groups.setdefault(cell.group, []).append(cell.seed)
    for method in (
        "fedplug",
        "fedplug-lora",
        "fedplug-lora-matched",
        "fedkim",
        "fedkim-pub",
        "without-task",
        "without-modality",
    ):
        assert groups[f"{method}--fedavg"] == [10, 11, 12, 13, 14]
    assert groups["fedkim--fedprox"] == groups["fedkim+rho-0--fedavg"] == groups["uniform--fedavg"]
    assert groups["fedkim+dirichlet-0.1--fedavg"] == [10, 11, 12]
    assert {cell.seed for cell in matrix.choice} == {0, 1}
    assert len(matrix.configurations) == 8


@pytest.mark.parametrize(
    ("name", "cells"), [("real-pack-fold", 20), ("fedkim-plus-development", 42), ("fedprox-development", 6)]
)
def test_the_other_matrices_are_understood(name, cells):
    other = load_matrix(PAPER.with_name(f"{name}.toml"))
    assert len(other.cells) == cells
    recipes = {cell.name: other.recipe(cell) for cell in other.cells}
    if name == "fedkim-plus-development":
        assert not any(recipe.evaluation.reveal_test or recipe.evaluation.unseen for recipe in recipes.values())
        assert len({recipe.digest() for recipe in recipes.values()}) == cells
        steps = {
            (
                "questions" in cell,
                (recipe.federation.rounds - recipe.injection.first_round + 1) * recipe.injection.steps_per_round,
            )
            for cell, recipe in recipes.items()
        }
        assert steps == {(False, 100), (True, 200)}  # the same number for all, and twice as many for more questions


def test_fedprox_is_chosen_for_under_the_matrixs_own_settings(matrix):
    other = load_matrix(PAPER.with_name("fedprox-development.toml"))
    (own,) = (cell for cell in matrix.cells if cell.name == "fedkim--fedprox--seed10")
    expected = matrix.recipe(own, read_chosen(matrix, RESULTS))
    for cell in other.cells:
        found = other.recipe(cell)
        assert not found.evaluation.reveal_test
        alike = ("data", "extraction", "llm", "m3oe", "injection")
        assert [getattr(found, table) for table in alike] == [getattr(expected, table) for table in alike]
        federation = replace(found.federation, proximal_mu=expected.federation.proximal_mu)
        assert federation == expected.federation


def test_methods_are_settings_of_one_recipe(matrix):
    recipes = {cell.group: matrix.recipe(cell) for cell in matrix.cells if cell.seed == 10}
    fedkim, matched = recipes["fedkim--fedavg"], recipes["fedplug-lora-matched--fedavg"]
    assert matched.m3oe.experts * matched.m3oe.rank == fedkim.m3oe.experts * fedkim.m3oe.rank == 96
    assert recipes["fedplug--fedavg"].m3oe.experts == 0
    assert recipes["fedkim-pub--fedavg"].federation.trainers == "public"
    assert recipes["without-task--fedavg"].m3oe.router_inputs == "modality"
    assert recipes["without-modality--fedavg"].m3oe.router_inputs == "task"
    assert recipes["local-only.1--fedavg"].federation.local_site == 1
    assert recipes["fedkim--fedprox"].federation.algorithm == "fedprox"
    assert recipes["fedkim+rho-0--fedavg"].data.rho == 0
    late = recipes["fedkim-plus--fedavg"]
    assert late.injection.first_round == late.federation.rounds - 1
    assert 2 * late.injection.steps_per_round == fedkim.federation.rounds * fedkim.injection.steps_per_round
    assert len({recipe.digest() for recipe in recipes.values()}) == len(recipes)


def test_a_chosen_configuration_counts_for_what_it_is_compared_with_and_doubles_its_own_scale(matrix):
    cells = {cell.group: cell for cell in matrix.cells}
    chosen = {"fedkim": 7, "fedplug-lora-matched": 7}
    assert matrix.recipe(cells["fedkim--fedavg"], chosen).m3oe.lora_alpha == 16
    assert matrix.recipe(cells["without-task--fedavg"], chosen).m3oe.lora_alpha == 16
    assert matrix.recipe(cells["fedplug-lora-matched--fedavg"], chosen).m3oe.lora_alpha == 192
    assert matrix.recipe(cells["fedkim-plus--fedavg"], chosen).m3oe.lora_alpha == 8


def test_choosing_never_sees_test_patients(matrix):
    assert not any(matrix.recipe(cell).evaluation.reveal_test for cell in matrix.choice[::7])
    assert all(matrix.recipe(cell).evaluation.reveal_test for cell in matrix.cells[::20])


def test_every_method_chooses_among_the_same_eight_or_those_of_them_that_differ_for_it(matrix):
    tried = {}
    for cell in matrix.choice:
        tried.setdefault((cell.method, cell.seed), []).append(cell.configuration)
    assert len(tried) == 5 * 2
    assert all(numbers == list(range(8)) for (method, _), numbers in tried.items() if method != "fedplug")
    assert tried["fedplug", 0] == tried["fedplug", 1] == [0, 1, 2, 3, 5]  # the others differ in adapters alone


def test_a_configuration_that_changes_nothing_for_a_method_is_not_tried_twice(tmp_path):
    rate, alignment = "injection.learning_rate=1e-3", "injection.alignment_learning_rate=8e-3"
    several = [[rate], [rate, "m3oe.alpha={double_rank}"], [rate, alignment], [rate.replace("1e", "2e"), alignment]]
    text = BLOCK + f'[choice]\nseeds = [0]\nmethods = ["fedkim", "fedplug"]\nconfigurations = {json.dumps(several)}'
    own_rate = load_matrix(
        write(tmp_path, text)
    )  # the default alignment has a rate of its own: the adapters' is nothing to FedPlug
    assert [cell.configuration for cell in own_rate.choice if cell.method == "fedplug"] == [0, 2]
    assert own_rate.recipe(own_rate.choice[4]).injection == Recipe().injection
    found = load_matrix(write(tmp_path, "[base.injection]\nalignment_learning_rate = 0.0\n" + text))
    tried = [(cell.method, cell.configuration) for cell in found.choice]
    assert tried == [*(("fedkim", number) for number in range(4)), ("fedplug", 0), ("fedplug", 2)]  # no adapter
    rates = [found.recipe(cell).injection for cell in found.choice if cell.method == "fedplug"]
    assert [(one.alignment_learning_rate or one.learning_rate) for one in rates] == [1e-3, 8e-3]


def test_a_method_without_a_router_takes_the_rest_of_a_configuration(tmp_path):
    configuration = [
        "injection.learning_rate=1e-3",
        "injection.router_learning_rate=5e-3",
        "injection.alignment_learning_rate=0.0",
        "m3oe.router_spread=1.0",
    ]
    text = BLOCK.replace('"fedkim"', '"fedkim", "uniform"') + (
        '[choice]\nseeds = [0]\nmethods = ["fedkim", "fedplug", "fedplug-lora"]\n'
        f"configurations = [{json.dumps(configuration)}]"
    )
    found = load_matrix(write(tmp_path, text))
    recipes = {cell.method: found.recipe(cell, {"fedkim": 0}) for cell in (*found.choice, *found.cells)}
    assert {method: recipe.injection.learning_rate for method, recipe in recipes.items()} == dict.fromkeys(
        recipes, 1e-3
    )
    moved = {method for method, recipe in recipes.items() if recipe.injection.router_learning_rate == 5e-3}
    assert moved == {method for method, recipe in recipes.items() if recipe.m3oe.router_spread} == {"fedkim"}


def test_alignments_rate_of_nought_is_the_adapters_and_settings_fit_who_shares_them(tmp_path):
    text = """
[settings]
fedkim = ["m3oe.router_spread=1.0", "injection.learning_rate=2e-3"]
fedplug = ["injection.learning_rate=4e-3", "injection.alignment_learning_rate=0"]
[[cells]]
methods = ["fedkim", "uniform", "fedplug"]
seeds = [0]
"""
    own = load_matrix(write(tmp_path, text))
    recipes = {cell.method: own.recipe(cell) for cell in own.cells}
    assert {method: recipe.m3oe.router_spread for method, recipe in recipes.items()} == {
        "fedkim": 1,
        "uniform": 0,
        "fedplug": 0,
    }
    assert [recipe.injection.learning_rate for recipe in recipes.values()] == [2e-3, 2e-3, 4e-3]


def test_smoke_has_every_block_and_two_seeds_of_the_first(matrix):
    full, smoke = matrix, load_matrix(PAPER, smoke=True)
    assert {cell.group for cell in smoke.cells} == {cell.group for cell in full.cells}
    assert {cell.seed for cell in smoke.cells if cell.group == "fedkim--fedavg"} == {10, 11}
    assert smoke.name == "paper-matrix-smoke"
    groups = {cell.group: cell for cell in smoke.cells}
    assert {smoke.recipe(cell).llm.name for cell in groups.values()} == {"tiny"}
    (other,) = (cell for cell in full.cells if cell.name == "fedkim+ten-layers--fedavg--seed10")
    assert full.recipe(other).llm.name == "smollm2-135m-10-layers"


BLOCK = '[[cells]]\nmethods = ["fedkim"]\nseeds = [1]\n'
CHOICE = BLOCK + '[choice]\nmethods = ["fedkim"]\nseeds = {seeds}\nconfigurations = {configurations}\n'


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name = 'a'", "no [[cells]]"),
        (BLOCK + BLOCK, "twice"),
        (
            BLOCK + '[choice]\nseeds = [1]\nmethods = ["fedkim"]\nconfigurations = [["injection.batch_size=8"]]',
            "flatter it",
        ),
        ('[[cells]]\nmethods = ["fedkin"]\nseeds = [1]', "did you mean 'fedkim'"),
        ('[[cells]]\nmethods = ["fedkim"]\nseeds = ["1"]', "a list of int"),
        (BLOCK + 'set = ["data.rho=0.0"]', "without a name"),
        (BLOCK + 'variation = "x"\nset = ["data.roh=0.0"]', "unknown key 'roh'"),
        (BLOCK + "sets = []", "key 'sets'"),
        (
            BLOCK.replace("fedkim", "fedkim-plus") + 'variation = "x"\nset = ["injection.evidence=none"]',
            "the method would win",
        ),
        (BLOCK + 'variation = "../x"', "lower-case"),
        (BLOCK + 'backbones = ["fedprx"]', "'fedprx'; did you mean 'fedprox'?"),
        ("[[cells]", "broken TOML"),
        (
            '[base.federation]\nalgorithm = "median"\n' + BLOCK,
            "base, found federation.algorithm, expected that where it belongs: `backbones`",
        ),
        (BLOCK + 'variation = "x"\nset = ["run.seed=3"]', "set of fedkim+x--fedavg, found run.seed"),
        (
            '[settings]\nfedkim = ["federation.algorithm=median"]\n' + BLOCK,
            "[settings] fedkim, found federation.algorithm",
        ),
        ("base = 5\n" + BLOCK, "base, found int, expected a recipe's tables"),
        (BLOCK + 'variation = "x"\nset = 5', "set, found 5, expected a list of"),
        (BLOCK + 'variation = "x"\nset = "data.rho=0"', "set, found 'data.rho=0', expected a list of"),
        (BLOCK + 'variation = "x"\nset = [1]', "set, found [1], expected a list of"),
        (BLOCK.replace('["fedkim"]', '"fedkim"'), "methods, found 'fedkim', expected a list of str"),
        (BLOCK + "variation = 5", "lower-case"),
        (CHOICE.format(seeds=3, configurations="[]"), "[choice]: seeds, found 3, expected a list of int"),
        (CHOICE.format(seeds=[3], configurations=5), "configurations, found 5, expected a list of list"),
        (CHOICE.format(seeds=[3], configurations=["a=1"]), "configurations, found ['a=1'], expected a list of list"),
        (CHOICE.format(seeds=[3], configurations=[[5]]), "configurations, found [5], expected a list of"),
        (CHOICE.format(seeds=[3], configurations=[["m3oe.alpha={double}"]]), "m3oe"),
        (CHOICE.format(seeds=[3], configurations=[["federation.rounds=2"]]), "compared on the same ground"),
        (BLOCK + '[settings]\nfedkim = ["data.rho=0.1"]', "compared on the same ground"),
    ],
)
def test_mistakes_are_named_before_the_first_cell(tmp_path, text, word):
    with pytest.raises(FedkimError) as caught:
        load_matrix(write(tmp_path, text))
    assert word in str(caught.value)


def test_braces_of_a_setting_are_its_own(tmp_path):
    text = CHOICE.format(seeds=[3], configurations='[["extraction.tokens={image=4}"], []]')
    found = load_matrix(write(tmp_path, text))
    tokens = [found.recipe(cell).extraction.tokens.get("image") for cell in found.choice]
    assert tokens == [4, Recipe().extraction.tokens.get("image")]


def test_a_setting_with_braces_of_its_own_is_still_the_methods(tmp_path, monkeypatch):
    mine = replace(METHODS["fedkim"], name="mine", title="Mine", settings=("extraction.tokens={image=4}",))
    monkeypatch.setitem(METHODS, "mine", mine)
    text = BLOCK.replace("fedkim", "mine") + 'variation = "x"\nset = ["extraction.tokens={image=8}"]'
    with pytest.raises(FedkimError, match="the method would win"):
        load_matrix(write(tmp_path, text))


def test_a_method_cannot_bring_an_algorithm_that_the_backbone_would_overwrite(tmp_path, monkeypatch):
    mine = replace(METHODS["fedkim"], name="mine", title="Mine", settings=("federation.algorithm=median",))
    monkeypatch.setitem(METHODS, "mine", mine)
    with pytest.raises(FedkimError, match=r"method mine, found federation\.algorithm"):
        load_matrix(write(tmp_path, BLOCK.replace("fedkim", "mine")))


@pytest.mark.parametrize(
    ("key", "change", "word"),
    [
        ("ours/v2", {"name": "ours/v2"}, "method 'ours/v2': name, found 'ours/v2', expected lower-case letters"),
        ("ours", {"name": "ours-v2"}, "method 'ours', found the name 'ours-v2'"),
        ("ours", {"name": "ours", "compared_with": "fedkimm"}, "did you mean 'fedkim'?"),
        (
            "ours",
            {"name": "ours", "settings": "m3oe.experts=2"},
            "method 'ours': settings, found str, expected a tuple",
        ),
        ("ours", {"name": "ours", "settings": ("m3oe.experts",)}, "found 'm3oe.experts', expected \"table.key=value\""),
    ],
)
def test_a_method_of_a_plug_in_that_could_not_be_kept_or_compared_is_told_before_a_cell_runs(
    tmp_path, monkeypatch, key, change, word
):
    monkeypatch.setitem(METHODS, key, replace(METHODS["fedkim"], title="Ours", **change))
    with pytest.raises(FedkimError) as caught:
        load_matrix(write(tmp_path, BLOCK))
    assert word in str(caught.value)


def test_blanks_in_a_key_make_no_other_setting_of_it(tmp_path):
    text = CHOICE.format(seeds=[3], configurations='[[], ["injection . router_learning_rate = 1e-3"]]')
    plain = CHOICE.format(seeds=[3], configurations='[[], ["injection.router_learning_rate=1e-3"]]')
    spaced, without = (load_matrix(write(tmp_path, one.replace("fedkim", "fedplug"))) for one in (text, plain))
    assert spaced == without
    assert len(spaced.choice) == 1  # FedPlug has no router
    with pytest.raises(FedkimError, match="without quotes in the key"):
        load_matrix(write(tmp_path, BLOCK + 'variation = "x"\nset = [\'"m3oe".experts=2\']'))


def test_a_choice_has_every_method_that_needs_one(tmp_path):
    text = CHOICE.format(seeds=[3], configurations="[[]]").replace('["fedkim"]', '["fedkim", "fedplug"]', 1)
    with pytest.raises(FedkimError, match=r"no fedplug in \[choice\] methods"):
        load_matrix(write(tmp_path, text))


def test_every_method_has_a_name_of_its_own():
    assert all(find_method(name).name == name for name in METHODS)
    assert len({method.title for method in METHODS.values()}) == len(METHODS)


LATE = """
[base.federation]
rounds = 10
[base.injection]
steps_per_round = {steps}
[[cells]]
methods = ["late"]
seeds = [0]
[[cells]]
methods = ["late"]
seeds = [0]
variation = "longer"
set = ["federation.rounds=20"]
"""


def test_a_late_method_takes_half_of_the_steps_that_its_own_variation_has(tmp_path):
    late = load_matrix(write(tmp_path, LATE.format(steps=4)))
    found = [late.recipe(cell) for cell in late.cells]
    assert [(one.injection.first_round, one.injection.steps_per_round) for one in found] == [(9, 20), (19, 40)]


def test_half_of_a_number_of_steps_that_is_not_given_is_refused(tmp_path):
    with pytest.raises(FedkimError, match=r"cell late--fedavg--seed0.*steps_per_round = 0"):
        load_matrix(write(tmp_path, LATE.format(steps=0)))


def test_a_backbone_has_its_own_settings_and_the_other_cells_keep_theirs(tmp_path):
    text = """
[[cells]]
methods = ["fedkim"]
backbones = ["fedavg", "fedprox"]
seeds = [0]
"""
    with_mu = load_matrix(write(tmp_path, f"[settings]\nfedprox = ['federation.proximal_mu=1e-3']\n{text}"))
    plain = load_matrix(write(tmp_path, text))
    digests = [[one.recipe(cell).digest() for cell in one.cells] for one in (plain, with_mu)]
    assert digests[0][0] == digests[1][0]
    assert [with_mu.recipe(cell).federation.proximal_mu for cell in with_mu.cells] == [0.01, 1e-3]


def test_a_method_has_its_own_settings_and_shares_them_with_its_ablations(tmp_path):
    text = """
[settings]
fedplug = ["injection.learning_rate=4e-3", "injection.alignment_learning_rate=0.0"]
fedkim = ["injection.learning_rate=1e-3"]
[[cells]]
methods = ["fedplug", "fedkim", "fedkim-pub", "fedplug-lora-matched"]
seeds = [0]
"""
    own = load_matrix(write(tmp_path, text))
    rates = {cell.method: own.recipe(cell).injection.learning_rate for cell in own.cells}
    assert rates == {"fedplug": 4e-3, "fedkim": 1e-3, "fedkim-pub": 1e-3, "fedplug-lora-matched": 5e-4}
    for wrong, word in (
        ("fedplg = []", "key 'fedplg'"),
        ("uniform = ['x=1']", "key 'uniform'"),
        ("fedplug = 1", "a list of str"),
        ("fedprox = ['federation.proximal_mu=1e-3']", "key 'fedprox'"),  # no cell has it
        ("fedkim = ['injection.learning_rate=1e-3']", "key 'fedkim'"),
    ):
        with pytest.raises(FedkimError) as caught:
            load_matrix(write(tmp_path, f"[settings]\n{wrong}\n[[cells]]\nmethods = ['fedplug']\nseeds = [0]\n"))
        assert word in str(caught.value)
