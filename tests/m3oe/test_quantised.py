"""8-bit and 4-bit (nf4) bases, as transformers loads them; on the CPU too."""

import logging
import warnings

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from fedkim.errors import FedkimError
from fedkim.m3oe import M3OEConfig, M3OELinear
from tiny_models import EXPERTS, some_route, tiny, tokens, waken

pytest.importorskip(
    "bitsandbytes", reason="SKIPPED, NOT RUN: quantised bases need bitsandbytes; pip install 'fedkim[quantised]'"
)
pytestmark = pytest.mark.parametrize("bits", [8, 4])
FIRST = {8: "Linear8bitLt", 4: "Linear4bit"}


@pytest.fixture
def base(bits, tmp_path, caplog):
    """A tiny Llama read from its folder in 8 or 4 bits."""
    caplog.set_level(logging.ERROR, "bitsandbytes")
    tiny(hidden_size=64, intermediate_size=128).save_pretrained(tmp_path / "base")
    settings = BitsAndBytesConfig(
        load_in_8bit=bits == 8,
        load_in_4bit=bits == 4,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float32,
    )

    def load() -> PreTrainedModel:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return AutoModelForCausalLM.from_pretrained(
                tmp_path / "base", quantization_config=settings, dtype=torch.float32, device_map="cpu"
            ).eval()

    return load


def routed(base: PreTrainedModel) -> PeftModel:
    """Not a copy: a quantised weight carries its state beside itself."""
    torch.manual_seed(1)
    config = M3OEConfig(task_type="CAUSAL_LM", r=2, num_experts=EXPERTS, router_dim=16, lora_dropout=0.0)
    model = get_peft_model(base, config)
    waken(model)
    return model.eval()


def test_experts_and_router_train_on_a_quantised_base(base, bits):
    model = routed(base()).train()
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    assert isinstance(layer, M3OELinear)
    assert type(layer.base_layer).__name__ == FIRST[bits]
    task, modality = (torch.randn(n, 64, generator=torch.Generator().manual_seed(n)) for n in (4, 3))
    with model.using(model.route_weights(task, modality)):
        model(tokens(), labels=tokens()).loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.requires_grad and "absent" not in name}
    assert {grad.dtype for grad in grads.values()} == {torch.float32}
    assert all(bool(grad.isfinite().all()) and grad.abs().max() > 0 for grad in grads.values())


def test_the_base_answers_as_before_without_its_adapter_and_otherwise_with_it(base, bits):
    plain = base()
    with torch.no_grad():
        before = plain(tokens()).logits
        model = routed(plain)
        with model.disable_adapter():
            assert torch.equal(model(tokens()).logits, before)
        with model.using(some_route()):
            assert (model(tokens()).logits - before).abs().max() > 1e-3


def test_merging_is_refused_and_leaves_every_weight(base, bits):
    model = routed(base())
    with pytest.raises(FedkimError, match=r"quantised \(Linear\w+\), merging would round its weights again"):
        model.merge_route(some_route())
    assert not any(layer.merged for _, layer in model.base_model.layers())
    model.set_route_weights(some_route())
    with pytest.raises(FedkimError, match="quantised"):
        model.merge_and_unload()


def test_a_route_exported_from_a_quantised_base_is_a_lora_on_that_base(base, bits, tmp_path):
    model = routed(base())
    with torch.no_grad(), model.using(some_route()):
        expected = model(tokens()).logits
        text = model.generate(input_ids=tokens(), max_new_tokens=5, do_sample=False, pad_token_id=0, eos_token_id=None)
    model.export_lora(tmp_path / "lora", some_route())
    exported = PeftModel.from_pretrained(base(), tmp_path / "lora").eval()
    with torch.no_grad():
        torch.testing.assert_close(exported(tokens()).logits, expected, rtol=0, atol=1e-5)
        again = exported.generate(
            input_ids=tokens(), max_new_tokens=5, do_sample=False, pad_token_id=0, eos_token_id=None
        )
    assert torch.equal(again, text)
