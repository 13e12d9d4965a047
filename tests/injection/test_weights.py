"""Weights that aren't those of their configuration: refused by their headers, before and when they are loaded."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from fedkim.errors import FedkimError
from fedkim.injection import LLMS, load_llm
from fedkim.injection.loading import empty_model
from fedkim.injection.weights import refuse_incomplete
from tiny_models import FAMILIES, tiny

NONE = {"missing_keys": set(), "mismatched_keys": set(), "unexpected_keys": set()}
UP = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(LLMS["tiny"].prepare(), tmp_path / "model")


def change(folder, **tensors):
    """Replace tensors of a folder by name; None takes one away."""
    file = folder / "model.safetensors"
    stored = {key: value for key, value in {**load_file(file), **tensors}.items() if value is not None}
    save_file(stored, file, metadata={"format": "pt"})


def configure(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused_by_headers_and_when_loading(folder, message):
    for use in (load_llm, empty_model):
        with pytest.raises(FedkimError, match=message) as caught:
            use(str(folder))
        assert "\n" not in str(caught.value)
        assert "hub" not in str(caught.value)


def test_a_tensor_that_is_missing_is_never_drawn_anew(folder):
    change(folder, **{UP: None})
    refused_by_headers_and_when_loading(
        folder, f"no weights for 1 of the model's tensors, such as {UP}, expected every"
    )


def test_layers_that_the_weights_dont_have_are_counted(folder):
    configure(folder, num_hidden_layers=3)
    refused_by_headers_and_when_loading(folder, "no weights for 9 of the model's tensors, such as model.layers.2.")


def test_a_configuration_with_fewer_layers_loads_no_half_model(folder):
    configure(folder, num_hidden_layers=1)
    refused_by_headers_and_when_loading(folder, "9 tensors of layers that its config.json doesn't describe")


def test_a_head_may_be_missing_where_it_is_the_embedding_and_nowhere_else(folder):
    load_llm(str(folder))
    configure(folder, tie_word_embeddings=False)
    refused_by_headers_and_when_loading(folder, "no weights for 1 of the model's tensors, such as lm_head.weight")


def test_what_lies_beside_the_layers_disturbs_nobody(folder):
    change(
        folder, **{"value_head.weight": torch.ones(3), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    )
    load_llm(str(folder))
    empty_model(str(folder))


def test_a_tensor_of_another_shape_is_told_with_both(folder):
    change(folder, **{UP: torch.ones(128, 63)})
    message = rf"tensor {UP} of shape \[128, 63\], expected \[128, 64\] by config.json"
    refused_by_headers_and_when_loading(folder, message)


def test_damaged_weights_are_named(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused_by_headers_and_when_loading(folder, "model.safetensors, found a damaged safetensors file")


def test_pickles_are_told_the_way_out(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused_by_headers_and_when_loading(
        folder, r"pytorch_model.bin, a pickle.*; run scripts/pickles_to_safetensors\.py"
    )


def test_weights_under_another_name_are_told_the_one_that_is_read(folder):
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    refused_by_headers_and_when_loading(folder, "found weights.safetensors, expected model.safetensors or ")


def test_a_file_of_the_index_that_is_missing_is_named(folder):
    (folder / "model.safetensors").unlink()
    record = {"weight_map": {UP: "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(record))
    refused_by_headers_and_when_loading(folder, "1 of 1 files missing, such as model-00001-of-00002.safetensors")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_weights_that_are_no_numbers_are_refused_before_anything_is_trained(value, folder):
    weight = load_file(folder / "model.safetensors")[UP]
    weight[3, 5] = float(value)
    change(folder, **{UP: weight})
    empty_model(str(folder))  # the headers don't show it
    with pytest.raises(FedkimError, match=f"values that aren't finite in tensor {UP}"):
        load_llm(str(folder))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sound_folder_of_every_family_passes_in_one_file_and_in_several(family, folder):
    model = tiny(family, vocab_size=512, bos_token_id=0, eos_token_id=1, pad_token_id=2)
    for size in ("5GB", "20KB"):
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder, max_shard_size=size)
        assert (folder / "model.safetensors").is_file() == (size == "5GB")
        empty_model(str(folder))
        loaded = load_llm(str(folder), device="cpu", dtype="float32").model.state_dict()
        assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())


def test_what_the_loader_says_is_refused_too(tmp_path):
    model = tiny().model
    refuse_incomplete(tmp_path, model, {**NONE, "unexpected_keys": {"score.weight", "model.layers.1.attn.masked_bias"}})
    for told in (
        {"missing_keys": {"a"}},
        {"mismatched_keys": {("a", torch.Size([1]), torch.Size([2]))}},
        {"unexpected_keys": {"h.1.a"}},
    ):
        with pytest.raises(FedkimError):
            refuse_incomplete(tmp_path, model, {**NONE, **told})
