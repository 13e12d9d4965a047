"""The PEFT side: families, saving, loading, several adapters, generation, and each known trap."""

import inspect
import warnings

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from fedkim.errors import FedkimError
from fedkim.m3oe import M3OEConfig, M3OEModel
from tiny_models import EXPERTS, FAMILIES, VOCABULARY, adapted, description, some_route, tiny, tokens, waken

PROMPT = {"do_sample": False, "max_new_tokens": 6, "pad_token_id": 0, "eos_token_id": None}


@pytest.mark.parametrize("family", FAMILIES)
def test_zero_b_is_the_base_model_bit_for_bit_in_every_family(family):
    base = tiny(family)
    model = adapted(base, awake=False)
    before = {name: value.clone() for name, value in base.state_dict().items()}
    with model.using(some_route()):
        assert torch.equal(model(tokens()).logits, base(tokens()).logits)
    waken(model)
    with model.using(some_route()):
        assert (model(tokens()).logits - base(tokens()).logits).abs().max() > 1e-3
    with model.disable_adapter():
        assert torch.equal(model(tokens()).logits, base(tokens()).logits)
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_default_targets_are_all_block_projections_and_only_m3oe_trains(family):
    model = adapted(tiny(family))
    plain = [name for name, module in model.base_model.model.named_modules() if type(module) is torch.nn.Linear]
    heads = [name for name in plain if not name.endswith("base_layer")]
    assert heads in (["lm_head"], ["embed_out"])
    assert all("m3oe_" in name for name, parameter in model.named_parameters() if parameter.requires_grad)


def test_experts_begin_the_same_with_a_router_without_one_and_as_one_lora_of_their_rank():
    """Methods that differ in their route differ in nothing else, not in luck either."""
    routed, uniform = adapted(awake=False), adapted(awake=False, router="uniform")
    matched = adapted(awake=False, num_experts=1, r=EXPERTS * routed.peft_config["default"].r)
    first = {name: layer.m3oe_A["default"].detach() for name, layer in routed.base_model.layers()}
    assert len(first) > 1
    for other in (uniform, matched):
        for name, layer in other.base_model.layers():
            assert torch.equal(layer.m3oe_A["default"].reshape(-1), first[name].reshape(-1))


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
@pytest.mark.parametrize("name", ["default", "other"])
def test_saved_adapter_comes_back_bit_for_bit_under_any_name(tmp_path, name, low_cpu_mem_usage):
    base, model = tiny(), adapted()
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    assert all("m3oe_" in key for key in stored)
    assert sum(value.numel() for value in stored.values()) == sum(
        p.numel() for p in model.parameters() if p.requires_grad
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        again = PeftModel.from_pretrained(base, tmp_path, adapter_name=name, low_cpu_mem_usage=low_cpu_mem_usage)
    args = description(4, 1), description(3, 2)
    assert torch.equal(again.route_weights(*args), model.route_weights(*args))
    with model.using(some_route()), again.using(some_route()):
        assert torch.equal(again(tokens()).logits, model(tokens()).logits)


def test_loading_freezes_unless_asked_to_train(tmp_path):
    model = adapted()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    model.save_pretrained(tmp_path)
    frozen = PeftModel.from_pretrained(tiny(), tmp_path)
    assert not [name for name, p in frozen.named_parameters() if p.requires_grad]
    thawed = PeftModel.from_pretrained(tiny(), tmp_path, is_trainable=True)
    assert sum(p.numel() for p in thawed.parameters() if p.requires_grad) == trained


def test_two_adapters_switch_with_their_routers(tmp_path):
    first = adapted()
    first.save_pretrained(tmp_path)
    model = adapted(num_experts=5, r=3)
    waken(model, seed=9)
    model.load_adapter(tmp_path, adapter_name="second")  # PEFT runs no injection hook here
    args = description(4, 1), description(3, 2)
    assert torch.equal(model.route_weights(*args, adapter="second"), first.route_weights(*args))
    model.set_adapter("second")
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all("second" in name for name in trained)
    with model.using(some_route()), first.using(some_route()):
        assert torch.equal(model(tokens()).logits, first(tokens()).logits)
    with model.using({"default": some_route(5), "second": some_route()}):
        model.set_adapter("default")
        model(tokens())
    model.delete_adapter("default")
    assert list(model.base_model.m3oe_router) == ["second"]


def test_an_adapter_on_the_head_is_saved_without_the_frozen_head(tmp_path):
    targets = ["q_proj", "lm_head"]
    model = adapted(target_modules=targets)
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    assert not [key for key in stored if "base_layer" in key]
    assert [key for key in stored if "lm_head" in key]


def test_generation_with_the_cache_equals_generation_without_it():
    model = adapted()
    with model.using(some_route()):
        cached = model.generate(input_ids=tokens(), use_cache=True, **PROMPT)
        plain = model.generate(input_ids=tokens(), use_cache=False, **PROMPT)
    assert torch.equal(cached, plain)
    assert cached.shape[1] == tokens().shape[1] + 6


def test_generation_keeps_each_samples_route_also_through_beams():
    model = adapted()
    routes = torch.stack([some_route(seed=4), torch.eye(EXPERTS)[0]])
    for settings in ({}, {"num_beams": 3}):
        with model.using(routes):
            both = model.generate(input_ids=tokens(), **settings, **PROMPT)
        for row in range(2):
            with model.using(routes[row]):
                alone = model.generate(input_ids=tokens()[row : row + 1], **settings, **PROMPT)
            assert torch.equal(both[row : row + 1], alone)


def test_a_prefix_of_embeddings_before_the_prompt_is_routed_too():
    model = adapted()
    embedded = model.get_input_embeddings()(tokens())
    prefix = torch.randn(2, 4, embedded.shape[-1])
    with model.using(some_route(seed=4)):
        first = model(inputs_embeds=torch.cat([prefix, embedded], 1)).logits
    with model.using(some_route(seed=5)):
        second = model(inputs_embeds=torch.cat([prefix, embedded], 1)).logits
    assert first.shape == (2, 11, VOCABULARY)
    assert (first - second).abs().max() > 1e-3


def test_keys_of_the_cache_depend_on_the_route():
    model = adapted()
    caches = []
    for seed in (4, 5):
        with model.using(some_route(seed=seed)):
            caches.append(model(tokens(), use_cache=True).past_key_values)
    difference = (caches[0].layers[1].keys - caches[1].layers[1].keys).abs().max()
    assert difference > 1e-3  # so a cache may be kept only together with its route


def test_a_target_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"Target modules .*no_such_proj.* not found"):
        adapted(target_modules=["no_such_proj"])


def test_a_family_without_default_targets_asks_for_them(monkeypatch):
    monkeypatch.setattr(M3OEModel, "target_module_mapping", {})
    with pytest.raises(ValueError, match="target_modules"):
        adapted()
    adapted(target_modules=["q_proj"])


def test_a_failed_second_adapter_leaves_no_router_behind():
    model = adapted()
    with pytest.raises(ValueError, match="not found"):
        model.add_adapter("second", M3OEConfig(target_modules=["no_such_proj"], num_experts=EXPERTS))
    assert list(model.base_model.m3oe_router) == ["default"]


def test_a_layer_that_is_not_linear_is_refused_by_name():
    with pytest.raises(FedkimError, match=r"layer model\.embed_tokens, found Embedding"):
        adapted(target_modules=["embed_tokens"])


def test_weighted_sums_of_adapters_are_refused():
    with pytest.raises(FedkimError, match="can't be added up"):
        adapted().add_weighted_adapter(["default"], [1.0], "sum")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gate_scale": "expert"}, "unknown gate_scale 'expert'; did you mean 'experts'"),
        ({"router": "atention"}, "unknown router 'atention'"),
        ({"router_inputs": "none"}, "unknown router_inputs"),
        ({"r": 0}, "M3OEConfig.r, found 0, expected at least 1"),
        ({"lora_dropout": 1.0}, "M3OEConfig.lora_dropout"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(FedkimError, match=message):
        M3OEConfig(**settings)


def test_the_configuration_survives_its_file(tmp_path):
    config = M3OEConfig(num_experts=5, gate_scale="paper", router_inputs="task", target_modules=["q_proj"])
    config.save_pretrained(tmp_path)
    again = M3OEConfig.from_pretrained(tmp_path)
    assert (again.num_experts, again.gate_scale, again.router_inputs) == (5, "paper", "task")
    assert set(again.target_modules) == {"q_proj"}
    assert again.peft_type == "M3OE"


def test_the_parts_of_peft_this_tuner_leans_on_are_still_there():
    from peft.tuners import tuners_utils
    from peft.utils import PeftType

    assert PeftType("M3OE").name == "M3OE"
    assert callable(tuners_utils._get_in_out_features)
    assert "current_key" in inspect.signature(tuners_utils.BaseTuner._create_and_replace).parameters
    assert list(inspect.signature(tuners_utils.BaseTuner._remove_adapter_name_from_key).parameters) == [
        "key",
        "adapter_name",
    ]
    inject = inspect.signature(tuners_utils.BaseTuner.inject_adapter).parameters
    assert list(inject) == list(inspect.signature(M3OEModel.inject_adapter).parameters)
    assert callable(tuners_utils.BaseTuner._replace_module)
    assert callable(tuners_utils.BaseTuner._get_tied_target_modules)
    assert callable(tuners_utils.BaseTunerLayer._get_base_layer_device_and_dtype)
