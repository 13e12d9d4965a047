import json
from dataclasses import replace

import pytest

from fedkim.errors import FedkimError
from fedkim.injection import LLM, LLMS, LanguageModel, load_llm
from fedkim.modalities import MODALITIES, Modality
from fedkim.run import check_recipe
from fedkim.run.server import load_language_model, make_injector
from fedkim.run.world import build_world
from fedkim.state import component
from fedkim.tasks import TASKS
from small_recipe import small
from tiny_models import FAMILIES, tiny
from toy_server import make_injector as make_toy_injector
from toy_server import tiny as tiny_llm


def tiny_tokenizer():
    return tiny_llm().tokenizer


METHODS = {
    "fedkim": (),
    "fedkim-uniform": ("m3oe.router=uniform",),
    "fedplug-lora": ("m3oe.experts=1",),
    "fedplug": ("m3oe.experts=0",),
    "fedkim-task-only": ("m3oe.router_inputs=task", "m3oe.router_width=0"),
}


@pytest.mark.parametrize("method", METHODS)
def test_the_plan_counts_what_is_really_built(method):
    recipe = small(*METHODS[method])
    plan = check_recipe(recipe)
    world = build_world(recipe)
    injector = make_injector(world, load_language_model(recipe))
    groups = injector.parameters()
    real = {
        "LLM": sum(p.numel() for n, p in injector.llm.model.named_parameters() if "m3oe" not in n),
        "alignment": sum(p.numel() for p in groups["align"].values()),
    }
    for group in ("adapter", "router"):
        if groups[group]:
            real[group] = sum(p.numel() for p in groups[group].values())
    for key, tensor in world.initial.items():
        real[component(key)] = real.get(component(key), 0) + tensor.numel()
    assert plan.parameters == real
    assert plan.method == method


def test_the_papers_targets_count_the_head_too():
    everywhere, paper = check_recipe(small()), check_recipe(small('m3oe.targets=["paper"]'))
    head = 4 * 2 * (64 + 512)
    assert paper.parameters["adapter"] - everywhere.parameters["adapter"] == head


def test_targets_with_more_of_a_path_are_counted_as_they_are_adapted():
    recipe = small('m3oe.targets=["mlp.down_proj", "layers.1.self_attn.q_proj"]')
    network = make_injector(build_world(recipe), load_language_model(recipe)).network
    built = sum(p.numel() for name, p in network.named_parameters() if "m3oe_A" in name or "m3oe_B" in name)
    assert check_recipe(recipe).parameters["adapter"] == built


def test_bytes_on_the_wire_are_those_of_a_whole_state():
    recipe = small()
    assert check_recipe(recipe).bytes_per_site_and_round == build_world(recipe).initial.num_bytes


def test_memory_is_weights_and_four_numbers_for_each_that_is_trained():
    plan = check_recipe(small())
    trained = sum(
        number for name, number in plan.parameters.items() if name != "LLM" and not name.startswith("decoder.")
    )
    assert plan.server_memory_bytes == 4 * plan.parameters["LLM"] + 16 * trained
    half = check_recipe(small("run.dtype=bfloat16"))
    assert plan.server_memory_bytes - half.server_memory_bytes == 2 * plan.parameters["LLM"]


def test_encoders_that_the_server_leaves_alone_cost_it_no_moments():
    whole, frozen = check_recipe(small()), check_recipe(small("injection.train_encoders=false"))
    encoders = sum(number for name, number in whole.parameters.items() if name.startswith("encoder."))
    assert whole.server_memory_bytes - frozen.server_memory_bytes == 12 * encoders > 0


def test_natural_sites_are_as_many_as_the_data_name():
    natural = check_recipe(small("federation.partition=natural"))
    assert natural.sites is None
    assert "as many sites as the data name," in str(natural)
    assert ", 1 site," in str(check_recipe(small("federation.trainers=centralised")))


def test_the_printed_plan_names_every_part():
    plan = check_recipe(small())
    for name, number in plan.parameters.items():
        assert f"{number:,}" in next(line for line in str(plan).splitlines() if f"  {name} " in line)


def test_of_a_plug_ins_modality_the_plan_says_that_only_the_data_know(monkeypatch):
    before = check_recipe(small('tasks.seen=["ecg_abnormal"]'))
    spectrum = Modality(name="spectrum", description="A spectrum.", tokens=2, encoders={"linear": lambda *_: None})
    monkeypatch.setitem(MODALITIES, "spectrum", spectrum)
    both, alone = (
        replace(TASKS["ecg_abnormal"], modalities=names) for names in (("signal", "spectrum"), ("spectrum",))
    )
    monkeypatch.setitem(TASKS, "ecg_abnormal", both)
    plan = check_recipe(small('tasks.seen=["ecg_abnormal"]'))
    assert plan.unknown == ("encoder.spectrum",)
    assert plan.parameters["encoder.signal"] == before.parameters["encoder.signal"]
    assert plan.parameters["alignment"] == 2 * before.parameters["alignment"]
    monkeypatch.setitem(TASKS, "ecg_abnormal", alone)
    plan = check_recipe(small('tasks.seen=["ecg_abnormal"]'))
    assert plan.unknown == ("decoder.ecg_abnormal", "encoder.spectrum")
    assert str(plan).count("known once data are read") == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("llm.name=tinny", r"unknown language model .*'tinny'; did you mean 'tiny'\?"),
        ("data.source=phantasm", r"unknown data source 'phantasm'; did you mean 'phantom'\?"),
        ("federation.algorithm=fedavgg", r"unknown algorithm 'fedavgg'; did you mean 'fedavg'\?"),
        ('tasks.seen=["lung_opacityy"]', r"unknown task 'lung_opacityy'; did you mean 'lung_opacity'\?"),
        ('tasks.seen=["ecg_qa"]', "in both|a free-text task"),
        ('extraction.encoders={image = "cnnn"}', r"unknown encoder of image 'cnnn'"),
        ('m3oe.targets=["no_such_layer"]', r"unknown layer in \[m3oe\] targets: 'no_such_layer'"),
        ("extraction.tokens={img = 4}", r"unknown modality in \[extraction\] tokens: 'img'; did you mean 'image'\?"),
        ('extraction.encoders={signl = "cnn"}', r"unknown modality in \[extraction\] encoders: 'signl'; did you mean"),
        ('run.plugins=["no_such_plugin"]', r"plug-in 'no_such_plugin', found ModuleNotFoundError"),
    ],
)
def test_names_that_nothing_bears_are_refused_before_anything_is_loaded(override, message):
    with pytest.raises(FedkimError, match=message) as caught:
        check_recipe(small(override))
    assert "\n" not in str(caught.value)


SHIFTED = 'federation.shifts={{ {} = ["{}"] }}'


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([SHIFTED.format("site-9", "ecg-hum")], "unknown site in .*'site-9'; did you mean 'site-"),
        ([SHIFTED.format("site-1", "ecg-hmm")], "unknown shift of 'site-1' .*'ecg-hmm'; did you mean 'ecg-hum'"),
        ([SHIFTED.format("site-9", "ecg-hum"), "federation.trainers=centralised"], "unknown site"),
        (["federation.algorithm=krum", "federation.sites=4"], "sites, found 4 in a round, expected at least 5"),
        (
            ["federation.algorithm=median", "federation.trainers=local"],
            "sites, found 1 in a round, expected at least 3",
        ),
        (["data.image_patients=0", "data.signal_patients=0"], "image_patients, found 0"),
        (["extraction.width=1"], "width, found 1, expected a multiple of 4, at least 8"),
        (["extraction.width=10"], "width, found 10, expected a multiple of 4"),
    ],
)
def test_the_check_refuses_what_a_run_would_refuse_whatever_its_data(overrides, message):
    for refuse in (check_recipe, build_world):
        with pytest.raises(FedkimError, match=message) as caught:
            refuse(small(*overrides))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("source", "key"), [("hospital", "root"), ("public", "roots")])
def test_the_check_asks_where_the_data_lie(source, key):
    for refuse in (check_recipe, build_world):
        with pytest.raises(FedkimError, match=rf"\[data\] {key}, found no"):
            refuse(small(f"data.source={source}"))


def test_sites_that_only_the_data_name_are_left_to_the_run():
    natural = ("federation.partition=natural", "federation.algorithm=krum", "federation.sites=2")
    check_recipe(small(SHIFTED.format("ward-7", "ecg-hum"), *natural))
    with pytest.raises(FedkimError, match="unknown shift of 'ward-7'"):
        check_recipe(small(SHIFTED.format("ward-7", "ecg-hmm"), *natural))
    check_recipe(small(SHIFTED.format("site-9", "ecg-hum"), "federation.trainers=public"))


def test_the_narrowest_extractor_that_is_accepted_can_be_built():
    seen = 'tasks.seen=["lung_opacity","ecg_abnormal","mortality"]'
    for width in (8, 12):
        assert check_recipe(small(seen, f"extraction.width={width}")).parameters["encoder.vitals"]


def test_tokens_of_a_plug_ins_modality_are_no_mistake(monkeypatch):
    spectrum = Modality(name="spectrum", description="A spectrum.", tokens=2, encoders={"linear": lambda *_: None})
    monkeypatch.setitem(MODALITIES, "spectrum", spectrum)
    assert check_recipe(small("extraction.tokens={spectrum = 4}"))


def test_a_local_folder_is_planned_from_its_config_alone(tmp_path):
    from transformers import LlamaConfig

    config = LlamaConfig(
        vocab_size=100, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    config.save_pretrained(tmp_path / "model")
    plan = check_recipe(small(f"llm.name={tmp_path / 'model'}"))
    attention, mlp, norms = 4 * 16 * 16, 3 * 16 * 32, 3 * 16
    assert plan.parameters["LLM"] == 2 * 100 * 16 + attention + mlp + norms
    assert plan.parameters["adapter"] == 4 * 2 * (4 * (16 + 16) + 3 * (16 + 32))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("targets", ["all", "paper"])
def test_the_plan_of_a_folder_of_any_family_counts_what_is_really_built(family, targets, tmp_path):
    model = tiny(family, vocab_size=512)
    model.config.save_pretrained(tmp_path)
    recipe = small(f"llm.name={tmp_path}", f'm3oe.targets=["{targets}"]')
    plan = check_recipe(recipe)
    assert plan.parameters["LLM"] == sum(p.numel() for p in model.parameters())
    injector = make_toy_injector(
        llm=LanguageModel(family, model, tiny_tokenizer()),
        experts=recipe.m3oe.experts,
        rank=recipe.m3oe.rank,
        targets=(targets,),
    )
    groups = injector.parameters()
    assert plan.parameters["adapter"] == sum(p.numel() for p in groups["adapter"].values())
    assert plan.parameters["router"] == sum(p.numel() for p in groups["router"].values())
    trained = sum(n for name, n in plan.parameters.items() if name != "LLM" and not name.startswith("decoder."))
    assert plan.server_memory_bytes == 4 * plan.parameters["LLM"] + 16 * trained


def test_a_registered_model_of_another_family_is_planned_as_that_family(monkeypatch):
    shape = {"model_type": "gpt_neox", "vocab_size": 96, "hidden_size": 16, "intermediate_size": 64}
    record = LLM(name="neo", prepare=lambda: None, config={**shape, "num_hidden_layers": 1, "num_attention_heads": 2})
    monkeypatch.setitem(LLMS, "neo", record)
    plan = check_recipe(small("llm.name=neo"))
    rank = 4 * 2
    assert plan.parameters["adapter"] == rank * ((16 + 48) + (16 + 16) + (16 + 64) + (64 + 16))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "internlm2", "auto_map": {}}, r"InternLM's own layout.* fedkim llm convert .* --to DIR"),
        ({"model_type": "internlm", "architectures": ["InternLM2ForCausalLM"]}, "InternLM's own layout"),
        ({"model_type": "homemade", "auto_map": {"AutoConfig": "configuration_homemade.Config"}}, "never run"),
        ({"model_type": "gemma3", "text_config": {}}, "sees or hears.* text checkpoint"),
    ],
)
def test_a_folder_that_could_only_fail_later_is_refused_with_the_way_out(config, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    for refuse in (lambda name: check_recipe(small(f"llm.name={name}")), load_llm):
        with pytest.raises(FedkimError, match=message) as caught:
            refuse(str(tmp_path))
        assert "\n" not in str(caught.value)


def test_a_model_of_a_family_without_a_list_of_layers_asks_for_their_names(tmp_path):
    from transformers import GPT2Config

    GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50).save_pretrained(tmp_path / "model")
    with pytest.raises(FedkimError, match="unknown language model family"):
        check_recipe(small(f"llm.name={tmp_path / 'model'}"))
