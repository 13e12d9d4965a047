import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from fedkim.data.cache import cache_folder
from fedkim.errors import FedkimError
from fedkim.injection import LLM, LLMS, load_llm
from fedkim.injection.loading import choose_device, choose_dtype, folder_identity
from toy_server import tiny


def test_the_tiny_model_is_frozen_and_the_same_at_every_load():
    first, second = tiny(), tiny()
    assert not any(parameter.requires_grad for parameter in first.model.parameters())
    assert not first.model.training
    for (name, a), (_, b) in zip(first.model.named_parameters(), second.model.named_parameters()):
        assert torch.equal(a, b), name


def test_the_tiny_model_has_the_sizes_that_its_record_promises():
    llm, config = tiny(), LLMS["tiny"].config
    assert llm.hidden_size == config["hidden_size"] == 64
    assert len(llm.model.model.layers) == config["num_hidden_layers"]
    assert (llm.dtype, llm.device.type) == (torch.float32, "cpu")


def test_text_is_encoded_without_special_tokens_and_comes_back():
    llm = tiny()
    ids = llm.encode("Question: Is it?\nAnswer:")
    assert not {llm.begin_token, llm.end_token} & set(ids)
    assert llm.tokenizer.decode(ids) == "Question: Is it?\nAnswer:"
    assert torch.equal(llm.embed("Is it?"), llm.embedding.weight[llm.encode("Is it?")])


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(FedkimError, match=r"unknown language model 'tinny'; did you mean 'tiny'\?"):
        load_llm("tinny")


def test_mmedlm2_by_name_tells_how_to_get_it():
    with pytest.raises(
        FedkimError, match=r"fedkim llm convert SOURCE --to DIR, then llm\.name = DIR \(docs/mmedlm2\.md\)"
    ):
        load_llm("mmedlm2")


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(FedkimError, match="no such folder"):
        load_llm(str(tmp_path / "absent"))


def test_a_local_folder_and_a_registered_record_load_the_same_weights(tmp_path):
    own = tmp_path / "own"
    llm = tiny()
    shutil.copytree(cache_folder() / "llm" / "tiny", own)
    from_folder = load_llm(str(own), device="cpu", dtype="float32")
    LLMS["mine"] = LLM(name="mine", prepare=lambda: own)
    try:
        registered = load_llm("mine", device="cpu", dtype="float32")
    finally:
        del LLMS["mine"]
    for a, b, c in zip(llm.model.parameters(), from_folder.model.parameters(), registered.model.parameters()):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_a_folder_is_known_by_its_architecture_and_weights(tmp_path):
    own = tmp_path / "own"
    shutil.copytree(LLMS["tiny"].prepare(), own)

    def digest():
        return folder_identity(str(own))["language_model"]

    known = digest()
    assert load_llm(str(own), device="cpu", dtype="float32").identity == folder_identity(str(own))
    assert tiny().identity == {
        "language_model": known
    }  # the same weights, by name; its tokenizer comes with the package
    assert folder_identity("tiny") == folder_identity("somebody/model") == {}  # nothing is made or fetched to answer

    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps({**config, "transformers_version": "0"}))
    assert digest() == known
    (own / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1.0}))
    assert digest() != known
    (own / "config.json").write_text(json.dumps(config))
    weights = load_file(own / "model.safetensors")
    name = max(weights, key=lambda name: weights[name].numel())
    save_file({**weights, name: weights[name] * 1.001}, own / "model.safetensors", metadata={"format": "pt"})
    assert digest() != known


def test_a_folder_is_known_by_its_tokenizer_too(tmp_path):
    own = tmp_path / "own"
    shutil.copytree(LLMS["tiny"].prepare(), own)
    known = folder_identity(str(own))
    settings = json.loads((own / "tokenizer_config.json").read_text())
    (own / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": "x"}, indent=4))
    assert folder_identity(str(own)) == known  # it cuts every text as before
    (own / "tokenizer_config.json").write_text(json.dumps({**settings, "eos_token": "<pad>"}))
    assert folder_identity(str(own)) == {**known, "tokenizer": folder_identity(str(own))["tokenizer"]} != known
    (own / "tokenizer_config.json").write_text(json.dumps(settings))
    with (own / "tokenizer.json").open("a") as file:
        file.write(" ")
    assert folder_identity(str(own))["tokenizer"] != known["tokenizer"]


def test_bfloat16_is_chosen_only_where_the_processor_computes_in_it(monkeypatch):
    cpu = torch.device("cpu")
    for amx, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        assert choose_dtype("auto", cpu) == expected
    assert choose_dtype("bfloat16", cpu) == torch.bfloat16
    assert load_llm("tiny", device="cpu", dtype="bfloat16").dtype == torch.bfloat16


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none():
    with pytest.raises(FedkimError, match="no CUDA device"):
        choose_device("cuda")


def test_a_cache_that_cant_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEDKIM_CACHE", str(tmp_path / "file"))
    with pytest.raises(FedkimError, match=r"model 'tiny', found .* while its folder was made; make room in .*file, or"):
        load_llm("tiny")


@pytest.mark.slow
def test_smollm2_is_converted_once_and_still_speaks(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDKIM_CACHE", str(tmp_path))
    llm = load_llm("smollm2-135m", device="cpu", dtype="float32")
    (folder,) = (tmp_path / "llm").iterdir()
    before = (folder / "model.safetensors").stat().st_mtime_ns
    config, record = llm.model.config, LLMS["smollm2-135m"].config
    assert {key: getattr(config, key) for key in record} == dict(record)
    assert sum(parameter.numel() for parameter in llm.model.parameters()) == 134_515_008

    # its own words are far likelier to it than the same words in disorder, and facts than their opposites
    def surprise(text: str) -> float:
        ids = torch.tensor([[llm.begin_token, *llm.encode(text)]])
        with torch.no_grad():
            return float(llm.model(input_ids=ids, labels=ids).loss)

    assert surprise("The capital of France is Paris.") < surprise("The capital of France is banana.") - 0.3
    assert surprise("The cat sat on the mat.") < surprise("mat. the on sat cat The") - 1
    load_llm("smollm2-135m", device="cpu", dtype="float32")
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert [path.name for path in (tmp_path / "llm").iterdir()] == [folder.name]
