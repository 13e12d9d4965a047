"""The output layer in float32: what it gives, that nothing else changes, and what it leaves alone."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from fedkim.data.sample import Sample
from fedkim.evaluation.answers import score
from fedkim.injection import load_llm
from fedkim.injection.precise_head import precise_head
from toy_server import make_injector, stir


@pytest.fixture(scope="module")
def rounded():
    return load_llm("tiny", device="cpu", dtype="bfloat16")


def logits(llm):
    ids = torch.arange(24).view(4, 6) + 3
    with torch.no_grad():
        return llm.model(input_ids=ids).logits, llm.model(input_ids=ids, output_hidden_states=True).hidden_states[-1]


def test_logits_are_those_of_the_last_hidden_states_in_float32(rounded):
    before, hidden = logits(rounded)
    with precise_head(rounded.model):
        inside, _ = logits(rounded)
    after, _ = logits(rounded)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, hidden.float() @ rounded.model.get_output_embeddings().weight.float().T)
    assert torch.equal(before, after)
    assert before.dtype == torch.bfloat16
    torch.testing.assert_close(inside, before.float(), atol=0.05, rtol=0.02)


def test_a_float32_or_quantised_head_is_left_as_it_is():
    plain = load_llm("tiny", device="cpu", dtype="float32")
    before, _ = logits(plain)
    with precise_head(plain.model):
        assert torch.equal(logits(plain)[0], before)

    class Quantised(nn.Module):
        def get_output_embeddings(self):
            layer = nn.Linear(2, 2)
            layer.weight = nn.Parameter(layer.weight.to(torch.uint8), requires_grad=False)
            self.layer = layer
            return layer

    model = Quantised()
    with precise_head(model):
        assert not model.layer._forward_hooks


def test_scores_of_a_bfloat16_model_hardly_tie(monkeypatch):
    injector = stir(make_injector(llm=load_llm("tiny", device="cpu", dtype="bfloat16")), 0.5)
    generator = torch.Generator().manual_seed(0)
    samples = [
        Sample(
            id=str(n), patient=str(n), split="test", inputs={"image": torch.randn(4, generator=generator)}, labels={}
        )
        for n in range(200)
    ]

    def distinct():
        return len(set(score(injector, "bright", samples)[:, 1].tolist()))

    precise = distinct()
    monkeypatch.setattr("fedkim.evaluation.answers.precise_head", nullcontext)
    assert precise > 150  # of 200; hidden states are bfloat16 still
    assert distinct() < precise - 40
