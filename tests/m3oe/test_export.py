"""One route as a stock LoRA or a dense model: the same numbers everywhere, and no fedkim needed to read it."""

import json
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from fedkim.errors import FedkimError
from fedkim.injection.conversion import convert_internlm2
from fedkim.m3oe import M3OELinear
from internlm2_layout import publish
from tiny_models import EXPERTS, FAMILIES, RANK, adapted, some_route, tiny, tokens, waken

TOLERANCE = 1e-5
OUTSIDE = """
import json, sys
sys.modules["fedkim"] = None  # any import of it fails
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)
for family in sys.argv[2:]:
    folder = f"{sys.argv[1]}/{family}"
    expected = load_file(f"{folder}/expected.safetensors")
    base = AutoModelForCausalLM.from_pretrained(f"{folder}/base", dtype=torch.float32)
    model = PeftModel.from_pretrained(base, f"{folder}/lora").eval()
    with torch.no_grad():
        difference = (model(expected["tokens"]).logits - expected["logits"]).abs().max().item()
        text = model.generate(input_ids=expected["tokens"], max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None)
    print(json.dumps([family, difference, torch.equal(text, expected["text"])]))
"""


@pytest.mark.parametrize("family", FAMILIES)
def test_routed_equals_merged_equals_exported_in_every_family(family, tmp_path):
    base = tiny(family)
    model = adapted(base)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        with model.using(some_route()):
            routed = model(tokens()).logits
        with model.merged(some_route()):
            merged = model(tokens()).logits
        model.export_lora(tmp_path, some_route())
        exported = PeftModel.from_pretrained(tiny(family), tmp_path).eval()
        torch.testing.assert_close(merged, routed, rtol=0, atol=TOLERANCE)
        torch.testing.assert_close(exported(tokens()).logits, routed, rtol=0, atol=TOLERANCE)
        unloaded = exported.merge_and_unload()
        torch.testing.assert_close(unloaded(tokens()).logits, routed, rtol=0, atol=TOLERANCE)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (routed - base(tokens()).logits).abs().max() > 1e-3


def test_an_export_opens_in_a_process_that_cannot_import_fedkim(tmp_path):
    converted = convert_internlm2(publish(tmp_path / "published"), tmp_path / "converted")
    bases = {family: tiny(family) for family in FAMILIES}
    bases["internlm2"] = AutoModelForCausalLM.from_pretrained(converted, dtype=torch.float32).eval()
    for family, base in bases.items():
        base.save_pretrained(tmp_path / family / "base")
        model = adapted(base)
        model.export_lora(tmp_path / family / "lora", some_route())
        with model.using(some_route()), torch.no_grad():
            logits = model(tokens()).logits
            text = model.generate(
                input_ids=tokens(), max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None
            )
        save_file({"tokens": tokens(), "logits": logits, "text": text}, tmp_path / family / "expected.safetensors")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OUTSIDE, str(tmp_path), *bases],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [family for family, _, _ in results] == list(bases)
    assert all(difference <= TOLERANCE and same_text for _, difference, same_text in results), results


def test_the_export_is_a_lora_of_rank_and_alpha_experts_times_rank(tmp_path):
    model = adapted()
    model.export_lora(tmp_path, some_route())
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", EXPERTS * RANK, EXPERTS * RANK)
    assert sorted(config["target_modules"]) == [f"{name}_proj" for name in ("down", "gate", "k", "o", "q", "up", "v")]
    stored = load_file(tmp_path / "adapter_model.safetensors")
    assert {key.rsplit(".", 2)[1] for key in stored} == {"lora_A", "lora_B"}
    route = json.loads((tmp_path / "route.json").read_text())
    torch.testing.assert_close(torch.tensor(route["weights"]), some_route())
    assert route["router"] == model.router_digest()


def test_layers_of_one_name_that_are_only_partly_adapted_are_exported_by_full_name(tmp_path):
    model = adapted(target_modules=["q_proj"], layers_to_transform=[1])
    with model.using(some_route()), torch.no_grad():
        routed = model(tokens()).logits
        model.export_lora(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == ["model.layers.1.self_attn.q_proj"]
    exported = PeftModel.from_pretrained(tiny(), tmp_path).eval()
    torch.testing.assert_close(exported(tokens()).logits, routed, rtol=0, atol=TOLERANCE)


def test_a_dense_export_is_an_ordinary_model_with_the_original_names(tmp_path):
    base = tiny()
    model = adapted(base)
    with model.using(some_route()):
        routed = model(tokens()).logits
    with pytest.raises(FedkimError, match="no route is merged"):
        model.export_dense(tmp_path)
    with model.merged(some_route()):
        model.export_dense(tmp_path)
    dense = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert set(dense.state_dict()) == set(base.state_dict())
    torch.testing.assert_close(dense(tokens()).logits, routed, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("whole", ["norm", "mlp", "lm_head", "embed_tokens"])
def test_a_dense_export_holds_whole_modules_as_they_were_trained(whole, tmp_path):
    model = adapted(modules_to_save=[whole])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.mul_(1.7).add_(0.1)
        with model.using(some_route()):
            routed = model(tokens()).logits
        with model.merged(some_route()):
            model.export_dense(tmp_path)
        assert not [name for name in load_file(tmp_path / "model.safetensors") if "module" in name]
        dense = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
        torch.testing.assert_close(dense(tokens()).logits, routed, rtol=0, atol=TOLERANCE)


def test_a_dense_export_that_would_load_as_another_model_is_refused_before_anything_is_written(tmp_path):
    folder = tmp_path / "dense"
    model = adapted(tiny(tie_word_embeddings=True), modules_to_save=["lm_head"])
    with torch.no_grad():
        model.base_model.model.lm_head.modules_to_save["default"].weight.add_(1)
    with model.merged(some_route()), pytest.raises(FedkimError, match="share a weight, and were trained apart"):
        model.export_dense(folder)
    model = adapted()
    model.base_model.model.extra = torch.nn.Linear(2, 2)
    with model.merged(some_route()), pytest.raises(FedkimError, match=r"2 tensors that are none .* extra\.bias"):
        model.export_dense(folder)
    model = adapted()
    with model.merged(some_route()), model.disable_adapter(), pytest.raises(FedkimError, match="disabled adapters"):
        model.export_dense(folder)
    assert not folder.exists()
    folder.write_text("a file")
    with model.merged(some_route()), pytest.raises(FedkimError, match="no model written"):
        model.export_dense(folder)


def test_a_base_that_holds_an_adapter_of_its_own_is_not_exported_densely(tmp_path):
    base = tiny()
    base.save_pretrained(tmp_path / "base")
    lora = get_peft_model(base, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    lora.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    lora.save_pretrained(tmp_path / "with-adapter")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "with-adapter")
    for opened in (loaded, lora.base_model.model):
        model = adapted(opened, target_modules=["v_proj"])
        with model.merged(some_route()), pytest.raises(FedkimError, match="holds an adapter of its own"):
            model.export_dense(tmp_path / "dense")
    assert not (tmp_path / "dense").exists()


def test_with_adapters_disabled_the_base_model_answers_while_a_route_is_merged_too():
    base = tiny()
    model = adapted(base)
    with torch.no_grad():
        plain = base(tokens()).logits
        with model.merged(some_route()):
            merged = model(tokens()).logits
            with model.disable_adapter():
                assert torch.equal(model(tokens()).logits, plain)
            assert torch.equal(model(tokens()).logits, merged)
            model.base_model.disable_adapter_layers()
        assert torch.equal(model(tokens()).logits, plain)
        with pytest.raises(FedkimError, match="disabled adapters can't be merged"):
            model.merge_route(some_route())
        model.base_model.enable_adapter_layers()
        with model.using(some_route()):
            torch.testing.assert_close(model(tokens()).logits, merged, rtol=0, atol=TOLERANCE)
    assert not torch.equal(merged, plain)


def test_merge_and_unload_needs_a_route_of_one_row_and_then_is_exact():
    model = adapted()
    with pytest.raises(FedkimError, match="no route is set"):
        model.merge_and_unload()
    with model.using(torch.stack([some_route(), some_route()])), pytest.raises(FedkimError, match="several routes"):
        model.merge_and_unload()
    with model.using(some_route()), torch.no_grad():
        routed = model(tokens()).logits
        plain = model.merge_and_unload()
    assert not [module for module in plain.modules() if isinstance(module, M3OELinear)]
    torch.testing.assert_close(plain(tokens()).logits, routed, rtol=0, atol=TOLERANCE)


def test_of_two_adapters_the_named_one_is_merged(tmp_path):
    first = adapted()
    first.save_pretrained(tmp_path)
    model = adapted(router="uniform")
    waken(model, seed=9)
    model.load_adapter(tmp_path, adapter_name="second")
    with first.using(some_route()), torch.no_grad():
        expected = first(tokens()).logits
    with pytest.raises(FedkimError, match=r"'second', found one that isn't active; set_adapter\('second'\) first"):
        model.merge_route(some_route(), adapter="second")  # what runs is the other one
    model.set_route_weights(some_route(), adapter="second")
    layers = [layer for _, layer in model.base_model.layers()]
    for layer in layers:  # as PEFT does for merge_and_unload(adapter_names=["second"])
        layer.merge(adapter_names=["second"])
        assert layer.merged_adapters == ["second"]
    with torch.no_grad():
        torch.testing.assert_close(model(tokens()).logits, expected, rtol=0, atol=TOLERANCE)
    for layer in layers:
        layer.unmerge()
    model.set_adapter("second")
    with model.merged(some_route(), adapter="second"), torch.no_grad():
        torch.testing.assert_close(model(tokens()).logits, expected, rtol=0, atol=TOLERANCE)
    with pytest.raises(FedkimError, match="no route for the active adapter 'second'"):
        model.merge_route()


def test_nothing_can_be_routed_or_merged_while_a_route_is_merged():
    model = adapted()
    with model.merged(some_route()):
        with pytest.raises(FedkimError, match="merged into the weights"):
            model.set_route_weights(some_route())
        with pytest.raises(FedkimError, match="merged into the weights"):
            model.merge_route(some_route())
    model.set_route_weights(some_route())


def test_a_bfloat16_base_is_merged_in_float32_and_restored_bit_for_bit():
    model = adapted(tiny().to(torch.bfloat16))
    _, layer = next(model.base_model.layers())
    original = layer.base_layer.weight.clone()
    with model.using(some_route()):
        down, up = layer.factors("default", layer.routes.gate(layer.routes.current(), "default"))
    with model.merged(some_route()):
        assert layer.base_layer.weight.dtype == torch.bfloat16
        assert torch.equal(layer.base_layer.weight, (original.float() + up @ down).to(torch.bfloat16))
    assert torch.equal(layer.base_layer.weight, original)


def test_a_quantised_weight_is_never_merged_and_the_others_are_restored():
    model = adapted()
    layers = dict(model.base_model.layers())
    last = list(layers.values())[-1].base_layer
    first = next(iter(layers.values())).base_layer.weight.clone()
    last.weight = torch.nn.Parameter(torch.zeros(last.weight.shape, dtype=torch.int8), requires_grad=False)
    with pytest.raises(FedkimError, match=r"mlp\.down_proj is quantised"):
        model.merge_route(some_route())
    assert torch.equal(next(iter(layers.values())).base_layer.weight, first)
    model.set_route_weights(some_route())


def test_a_head_that_shares_its_weight_is_not_merged():
    model = adapted(tiny(tie_word_embeddings=True), target_modules=["q_proj", "lm_head"])
    with pytest.raises(FedkimError, match="lm_head shares its weight"):
        model.merge_route(some_route())


def test_a_uniform_or_single_expert_adapter_merges_and_exports_without_a_route(tmp_path):
    for settings in ({"router": "uniform"}, {"num_experts": 1}):
        model = adapted(**settings)
        with torch.no_grad():
            routed = model(tokens()).logits
            with model.merged():
                torch.testing.assert_close(model(tokens()).logits, routed, rtol=0, atol=TOLERANCE)
            model.export_lora(tmp_path)
            exported = PeftModel.from_pretrained(tiny(), tmp_path).eval()
            torch.testing.assert_close(exported(tokens()).logits, routed, rtol=0, atol=TOLERANCE)


def test_whole_modules_beside_the_adapter_cannot_go_into_a_lora(tmp_path):
    model = adapted(modules_to_save=["lm_head"])
    with pytest.raises(FedkimError, match="holds no whole modules"):
        model.export_lora(tmp_path, some_route())
