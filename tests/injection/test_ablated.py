"""Language models with something taken away."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from fedkim.injection import LLMS, load_llm
from fedkim.injection.ablated import first_layers, without_knowledge
from fedkim.injection.loading import load_tokenizer


@pytest.fixture
def source(tmp_path):
    """A folder of its own: the ablated models are written beside it."""
    folder = shutil.copytree(LLMS["tiny"].prepare(), tmp_path / "tiny")
    learned = load_file(folder / "model.safetensors")
    learned = {name: 2 * tensor if tensor.ndim < 2 else tensor for name, tensor in learned.items()}  # norms that moved
    save_file(learned, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def weights(folder):
    return load_llm(str(folder), device="cpu", dtype="float32").model.state_dict()


def test_nothing_learned_is_left_and_the_same_is_drawn_again(source, tmp_path):
    folder = without_knowledge(source)
    before, after = weights(source), weights(folder)
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        if tensor.ndim < 2:
            assert torch.equal(tensor, torch.ones_like(tensor)), name  # this family has norms and no biases
        else:
            correlation = torch.corrcoef(torch.stack([tensor.flatten(), before[name].flatten()]))[0, 1]
            assert abs(correlation) < 5 / tensor.numel() ** 0.5, name
            narrower = 2 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1  # √(2 · 2 layers)
            assert tensor.std() == pytest.approx(64**-0.5 / narrower, rel=0.1), name
    text = "Question: Is the given ECG abnormal? Answer: Yes"
    assert load_tokenizer(str(folder))(text) == load_tokenizer(str(source))(text)
    again = without_knowledge(shutil.copytree(source, tmp_path / "other" / "tiny"))
    assert again != folder
    assert all(torch.equal(tensor, after[name]) for name, tensor in weights(again).items())


def test_a_model_of_the_first_layers_ends_where_the_whole_one_passes(source):
    folder = first_layers(source, 1)
    whole, cut = (load_llm(str(one), device="cpu", dtype="float32") for one in (source, folder))
    assert cut.model.config.num_hidden_layers == 1
    assert {key for key in whole.model.state_dict() if ".layers.1." not in key} == set(cut.model.state_dict())
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    with torch.no_grad():
        passing = whole.model(input_ids=ids, output_hidden_states=True).hidden_states[1]
        assert torch.equal(cut.model(input_ids=ids).logits, whole.model.lm_head(whole.model.model.norm(passing)))


def test_it_is_made_once(source):
    folder = without_knowledge(source)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert without_knowledge(source) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters"), [("smollm2-135m-random", 134_515_008), ("smollm2-135m-10-layers", 63_713_088)]
)
def test_the_registered_ones_have_the_shape_that_their_record_says(name, parameters):
    llm, record = load_llm(name, device="cpu", dtype="float32"), LLMS[name].config
    assert {key: getattr(llm.model.config, key) for key in record} == dict(record)
    assert sum(parameter.numel() for parameter in llm.model.parameters()) == parameters
