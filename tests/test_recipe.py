import ast
import json
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedkim.recipe
from fedkim.errors import FedkimError
from fedkim.recipe import PRESETS, Recipe, Tasks, from_dict, import_plugins, load
from fedkim.tasks import TASKS

RECIPES = sorted(
    path
    for path in (Path(__file__).parents[1] / "recipes").glob("*.toml")
    if "[[cells]]" not in path.read_text(encoding="utf-8")  # those are matrices
)


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_there_are_the_recipes_the_readme_names():
    assert {"demo", "fast", "paper", "real-pack", "smoke"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_is_named_after_its_file_and_asks_known_tasks(path):
    recipe = load(path)
    assert recipe.run.name == path.stem
    assert set(recipe.tasks.seen) | set(recipe.tasks.unseen) <= set(TASKS)
    assert all(TASKS[name].answers for name in recipe.tasks.seen)


def test_the_paper_preset_holds_the_papers_settings():
    recipe = from_dict({"run": {"preset": "paper"}})
    assert (recipe.federation.sites, recipe.federation.rounds, recipe.federation.participation) == (5, 10, 1.0)
    assert (recipe.m3oe.experts, recipe.m3oe.gate_scale, recipe.m3oe.targets) == (12, "paper", ("paper",))
    assert (recipe.injection.learning_rate, recipe.extraction.learning_rate) == (5e-4, 1e-4)
    assert (recipe.extraction.batch_size, recipe.extraction.local_epochs) == (64, 1)
    assert (recipe.extraction.encoders["image"], recipe.data.image_size) == ("deit-tiny", 224)
    assert recipe.llm.name == "mmedlm2"


def test_defaults_are_the_rates_that_spare_the_encoders_and_that_were_chosen_for_fedkim():
    recipe = Recipe()
    assert recipe.m3oe.gate_scale == "experts"
    assert recipe.injection.encoder_learning_rate == 1e-4
    rates = (
        recipe.injection.learning_rate,
        recipe.injection.router_learning_rate,
        recipe.injection.alignment_learning_rate,
    )
    path = Path(__file__).parents[1] / "results" / "paper-matrix" / "chosen.json"
    record = json.loads(path.read_text())
    chosen = dict(setting.split("=") for setting in record["configurations"][record["chosen"]["fedkim"]])
    names = ("learning_rate", "router_learning_rate", "alignment_learning_rate")
    assert rates == tuple(float(chosen[f"injection.{name}"]) for name in names)
    assert recipe.m3oe.lora_alpha == recipe.m3oe.rank


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[federation]\nsites = 5\nparticipation = 0.5\nquorum = 4",
            "[federation] quorum, found 4, expected at most the number of sites in a round (3)",
        ),
        (
            "[federation]\nagorithm = 'fedprox'",
            "unknown key 'agorithm' in [federation]; did you mean 'algorithm'?",
        ),
        ("[federaton]\nrounds = 1", "unknown table [federaton]; did you mean 'federation'?"),
        ("rounds = 3", "key rounds outside the tables; put it below [federation]"),
        ("[zzz]\na = 1", "unknown table [zzz]; choose one of: data, evaluation, extraction, federation, injection, llm, "
                         "m3oe, run, tasks"),
        ("[federation]\nlearning_rate = 1.0",
         "unknown key 'learning_rate' in [federation]; it belongs below [extraction] or [injection]"),
        ("federation = 3", "federation, found a whole number (3), expected a table, [federation]"),
        ("[federation]\nrounds = 3.0", "[federation] rounds, found a number (3.0), expected a whole number"),
        ("[federation]\nrounds = true", "[federation] rounds, found true or false (true), expected a whole number"),
        ("[federation]\nrounds = '3'", "[federation] rounds, found text in quotes ('3'), expected a whole number"),
        ("[federation]\nrounds = 0", "[federation] rounds, found 0, expected at least 1"),
        (f"[federation]\nproximal_mu = 1{'0' * 400}", f"[federation] proximal_mu, found a whole number (1{'0' * 56}...), expected a finite number"),
        ("[federation]\nproximal_mu = nan", "[federation] proximal_mu, found a number (nan), expected a finite number"),
        ("[tasks]\nseen = 'covid'", "[tasks] seen, found text in quotes ('covid'), expected a list, "
                                    "for example [\"a\", \"b\"]"),
        ("[tasks]\nseen = [1]", "[tasks] seen, found a whole number (1), expected text in quotes"),
        ("[tasks]\nseen = ['covid']\nunseen = ['covid']",
         "[tasks] seen and unseen, found 'covid' in both, expected each task in one of them"),
        ("[run]\npreset = 'papr'", "[run] preset, found 'papr', expected 'fast' or 'paper'; did you mean 'paper'?"),
        ("[run]\nname = '../x'", "[run] name, found '../x', expected a folder name: letters, digits, '-', '_' or '.', "
                                 "beginning with a letter or digit"),
        ("[extraction]\nencoders = {image = 3}",
         "[extraction] encoders.image, found a whole number (3), expected text in quotes"),
        ("[extraction]\ntokens = {image = 0}", "[extraction] tokens, found {'image': 0}, "
                                               "expected at least 1 for 'image'"),
        ("[federation]\nalgorithm = 'fedprox'\nproximal_mu = 0",
         "[federation] proximal_mu, found 0.0, expected a number above 0 when algorithm is 'fedprox'"),
        ("[federation]\nmissing = 1.0", "[federation] missing, found 1.0, expected from 0 up to, not including, 1"),
        ("[data]\nimage_patients = 100000000000", "[data] image_patients, found 100000000000, "
                                                  "expected at most 1,000,000: all patients of a kind are drawn in memory"),
        ("[data]\nfurther_test_patients = 1000001", "[data] further_test_patients, found 1000001, "
                                                    "expected at most 1,000,000: all patients of a kind are drawn in memory"),
        ("[data]\nimage_size = 4097", "[data] image_size, found 4097, "
                                      "expected at most 4,096: every image is held in memory at this size"),
        ("[federation]\npartition = 'table'",
         "[federation] table_of_sites, found {}, expected at least one site when partition is 'table'"),
        ("[federation]\ntable_of_sites = {a = ['b']}",
         "[federation] table_of_sites, found {'a': ('b',)}, expected nothing, or partition = 'table'"),
        ("[m3oe]\nexperts = 0\nrouter = 'uniform'",
         "[m3oe] router, found 'uniform', expected no choice when experts is 0"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_file_table_key_found_and_expected(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(FedkimError) as error:
        load(path)
    assert str(error.value) == f"{path}: {message}"


def test_broken_toml_names_the_file_and_the_line(tmp_path):
    path = write(tmp_path, "[run]\nname = = 3\n")
    with pytest.raises(FedkimError, match=r"mine\.toml, found broken TOML .*line 2"):
        load(path)


def test_a_byte_order_mark_is_read_over(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[federation]\nrounds = 7\n", encoding="utf-8-sig")
    assert load(path).federation.rounds == 7


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_bytes(b"\xff\xfe")])
def test_a_file_that_is_none_is_refused_by_name(tmp_path, make):
    path = tmp_path / "mine.toml"
    make(path)
    with pytest.raises(FedkimError, match=r"recipe .*mine\.toml, found"):
        load(path)


def test_overrides_win_over_the_file_and_the_file_over_the_preset(tmp_path):
    path = write(tmp_path, "[run]\npreset = 'paper'\n[federation]\nrounds = 4\nsites = 3")
    recipe = load(path, "federation.rounds=2", "llm.name=tiny", "extraction.encoders.image=cnn", "tasks.unseen=[]")
    assert (recipe.federation.rounds, recipe.federation.sites) == (2, 3)
    assert (recipe.llm.name, recipe.tasks.unseen) == ("tiny", ())
    assert recipe.extraction.encoders == {"image": "cnn"}
    assert recipe.m3oe.gate_scale == "paper"


def test_the_preset_itself_may_be_overridden(tmp_path):
    assert load(write(tmp_path, ""), "run.preset=paper").llm.name == "mmedlm2"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "federation.round=2",
            "setting federation.round=2: unknown key 'round' in [federation]; did you mean 'rounds'?",
        ),
        ("rounds", "setting rounds, expected table.key=value, for example federation.rounds=3"),
        ("rounds=3", "setting rounds=3, expected table.key=value, for example federation.rounds=3"),
        ("run.seed=1\nrun.name=2", "expected table.key=value"),
        ("run.seed=-1", "[run] seed, found -1, expected at least 0"),
        ("a b.c=1", "expected table.key=value"),
    ],
)
def test_a_wrong_override_says_which(override, message):
    with pytest.raises(FedkimError) as error:
        from_dict({}, override)
    assert message in str(error.value)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_toml_and_json_forms_give_the_same_recipe_back(path):
    recipe = load(path)
    again = from_dict(tomllib.loads(recipe.to_toml()))
    assert again == recipe
    assert again.digest() == recipe.digest()
    assert from_dict(recipe.to_dict()) == recipe


@given(text=st.text(alphabet=st.characters(blacklist_categories=("Cs", "Cc")), min_size=1), rate=st.floats(1e-30, 1e30))
@settings(max_examples=100, deadline=None)
def test_any_text_and_number_survives_toml(text, rate):
    recipe = from_dict({"llm": {"name": text}, "injection": {"learning_rate": rate}, "data": {"root": text}})
    assert from_dict(tomllib.loads(recipe.to_toml())) == recipe


@given(
    deltas=st.dictionaries(
        st.sampled_from([item.name for item in fields(Recipe)]) | st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner) | st.dictionaries(st.sampled_from(["seen", "rounds", "tokens", "name"]), inner)
            ),
            max_leaves=6,
        ),
        max_size=3,
    )
)
@settings(max_examples=300, deadline=None)
def test_whatever_is_loaded_gives_a_recipe_or_a_one_line_error(deltas):
    told = ""
    try:
        from_dict(deltas)
    except FedkimError as error:
        told = str(error)
    assert told.isprintable()


@pytest.mark.parametrize(
    "override", ["run.seed=1", "run.dtype=float32", "run.device=cpu", "m3oe.experts=4", "evaluation.draws=200"]
)
def test_the_digest_changes_with_what_changes_the_numbers(override):
    assert from_dict({}, override).digest() != Recipe().digest()


@pytest.mark.parametrize(
    "override", ["run.name=x", "run.workers=7", "run.threads=2", "data.root=/x", "llm.allow_download=true"]
)
def test_the_digest_ignores_what_changes_no_number(override):
    assert from_dict({}, override).digest() == Recipe().digest()


def test_the_digest_ignores_how_the_recipe_was_written():
    assert from_dict({"federation": {"participation": 1}, "run": {"seed": 0}}).digest() == Recipe().digest()


@pytest.mark.parametrize(
    ("overrides", "method"),
    [
        ([], "fedkim"),
        (["m3oe.experts=0"], "fedplug"),
        (["m3oe.experts=1"], "fedplug-lora"),
        (["federation.trainers=public"], "fedkim-pub"),
        (["federation.trainers=centralised"], "fedkim-centralised"),
        (["m3oe.router_inputs=task"], "fedkim-task-only"),
        (["m3oe.router=uniform"], "fedkim-uniform"),
        (["m3oe.router_spread=1.0"], "fedkim-spread"),
        (["extraction.task_weights=gradient"], "fedkim-weighed"),
        (["injection.first_round=2"], "fedkim-late"),
    ],
)
def test_a_method_of_the_paper_is_a_point_in_the_settings(overrides, method):
    assert from_dict({}, *overrides).method == method


@pytest.mark.parametrize("name", ["question_tables", "site_tables", "server_tables", "evaluation_table"])
def test_every_field_is_documented_in_a_line(name):
    source = ast.parse((Path(fedkim.recipe.__file__).parent / f"{name}.py").read_text())
    tables = [node for node in source.body if isinstance(node, ast.ClassDef)]
    assert tables
    for table in tables:
        for field, after in zip(table.body, table.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and "ClassVar" not in ast.dump(field.annotation):
                said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and after.value.value
                assert 0 < len(said or "") <= 130, f"{table.name}.{field.target.id}"


def test_presets_are_themselves_strictly_checked():
    for name, deltas in PRESETS.items():
        assert isinstance(from_dict({"run": {"preset": name}} | dict(deltas)), Recipe)


def test_a_table_made_in_python_is_checked_too():
    with pytest.raises(FedkimError, match=r"\[tasks\] seen, found \[\], expected at least one task"):
        Tasks(seen=())


def test_a_missing_plug_in_is_named(tmp_path, monkeypatch):
    with pytest.raises(FedkimError, match="plug-in 'no_such_module'"):
        import_plugins(["no_such_module"])
    (tmp_path / "my_fedkim_plugin.py").write_text("seen = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    import_plugins(["my_fedkim_plugin"])
    assert sys.modules["my_fedkim_plugin"].seen


def test_recipes_load_without_torch():
    code = "import sys, fedkim.recipe as r; r.Recipe().digest(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
