import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from fedkim.injection.attention import NAME, use_float32_attention
from fedkim.injection.loading import load_llm


def _small(dtype: torch.dtype = torch.bfloat16, implementation: str = "sdpa") -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation=implementation,
    )
    return LlamaForCausalLM(config).eval().to(dtype)


def _logits(model: LlamaForCausalLM, mask: torch.Tensor) -> torch.Tensor:
    ids = torch.arange(24).view(2, 12)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp_min(0)).logits
    return logits[mask.bool()].double()


def test_attention_is_computed_in_float32_and_given_back_in_the_models_type(monkeypatch):
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[0, :5] = 0  # padding on the left
    seen = []
    attend = functional.scaled_dot_product_attention

    def watched(query, key, value, **options):
        mixed = attend(query, key, value, **options)
        seen.append({query.dtype, key.dtype, value.dtype, mixed.dtype})
        return mixed

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    model, types = _small(), []
    model.model.layers[0].self_attn.o_proj.register_forward_pre_hook(lambda module, given: types.append(given[0].dtype))
    plain = _logits(model, mask)
    assert seen == [{torch.bfloat16}] * 3
    seen.clear()
    use_float32_attention(model)
    assert model.config._attn_implementation == NAME
    cast = _logits(model, mask)
    assert seen == [{torch.float32}] * 3
    assert types == [torch.bfloat16] * 2
    torch.testing.assert_close(cast, plain, atol=0.02, rtol=0.05)


def test_attention_in_float32_still_ignores_padding_and_the_future():
    model = _small()
    use_float32_attention(model)
    ids = torch.arange(24).view(2, 12)
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[:, :4] = 0
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    with torch.no_grad():
        before = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        changed = ids.clone()
        changed[:, :4], changed[:, -1] = 63, 62
        after = model(input_ids=changed, attention_mask=mask, position_ids=positions).logits
    assert torch.equal(before[:, 4:-1], after[:, 4:-1])
    assert not torch.equal(before[:, -1], after[:, -1])


def test_attention_in_float32_generates_what_the_whole_sequence_would_give():
    model = _small(torch.float32)
    use_float32_attention(model)
    prompt = torch.arange(1, 7)[None]  # 0 would be taken for padding
    out = model.generate(prompt, max_new_tokens=5, do_sample=False, pad_token_id=0, eos_token_id=None)
    with torch.no_grad():
        greedy = model(input_ids=out).logits[0, 5:-1].argmax(-1)
    assert torch.equal(out[0, 6:], greedy)


def test_another_attention_stays_as_it_is():
    model = _small(implementation="eager")
    use_float32_attention(model)
    assert model.config._attn_implementation == "eager"


def test_only_a_bfloat16_model_on_a_processor_gets_it():
    assert load_llm("tiny", device="cpu", dtype="bfloat16").model.config._attn_implementation == NAME
    assert load_llm("tiny", device="cpu", dtype="float32").model.config._attn_implementation == "sdpa"
