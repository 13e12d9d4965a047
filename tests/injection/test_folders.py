"""What a language model's name may stand for, and what is said of a folder that holds none."""

import json
import shutil

import pytest
import torch
from transformers import T5Config

from fedkim.errors import FedkimError
from fedkim.injection import LLMS, load_llm
from fedkim.injection.folders import find_folder
from fedkim.injection.loading import empty_model, folder_identity


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(LLMS["tiny"].prepare(), tmp_path / "model")


def rewrite(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(name, message, **settings):
    with pytest.raises(FedkimError, match=message) as caught:
        load_llm(str(name), **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# names --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["{}/absent", "./absent/model", "a/b/c", "~/model", "with space/model"])
def test_a_path_to_nowhere_is_no_hub_id(name, tmp_path):
    told = refused(name.format(tmp_path), "no such folder; check llm.name")
    assert "allow_download" not in told


def test_a_folder_that_was_moved_is_told_from_a_model_that_was_never_fetched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = refused("models/mine", r"no such folder, and no copy of it from the hub.* set llm\.allow_download = true")
    (tmp_path / "models").mkdir()
    told = refused("models/mine", "no such folder in models, .*; check llm.name")
    assert "allow_download" not in told


def test_a_hub_that_is_not_reached_is_no_setting_to_be_made(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = r"hub that couldn't be reached.*; check the network, or give a folder"
    assert "allow_download" not in refused("nobody/no-such-model", message, allow_download=True)


def test_a_file_is_told_what_it_is(tmp_path):
    for name, message in (
        ("model.gguf", "found a GGUF file, expected a folder"),
        ("weights", "found a file, expected"),
    ):
        (tmp_path / name).write_bytes(b"GGUF")
        refused(tmp_path / name, message)


def test_a_hubs_copy_is_known_by_its_content_as_a_folder_is(folder, tmp_path, monkeypatch):
    cache = tmp_path / "hub"
    snapshot = cache / "models--somebody--model" / "snapshots" / "abc"
    shutil.copytree(folder, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert find_folder("somebody/model", known=LLMS, allow_download=False) == snapshot
    for allowed in (False, True):
        llm = load_llm("somebody/model", allow_download=allowed)
        assert (llm.name, llm.identity) == ("somebody/model", folder_identity(str(folder)))
    assert folder_identity("somebody/model") == llm.identity
    assert empty_model("somebody/model").config.hidden_size == 64


# folders ------------------------------------------------------------------------------------------------------------


def test_a_configuration_that_is_missing_or_damaged_is_named(folder):
    (folder / "config.json").write_text("{nope")
    refused(folder, "a config.json that is no JSON object; fetch it again")
    (folder / "config.json").unlink()
    told = refused(folder, "found no config.json, expected a folder in the Hugging Face layout", allow_download=True)
    assert "hub" not in told
    (folder / "x.gguf").write_bytes(b"")
    refused(folder, "found x.gguf, a GGUF file, and no config.json")


def test_what_a_configuration_says_wrongly_is_repeated(folder):
    rewrite(folder / "config.json", num_hidden_layers="two")
    for use in (load_llm, empty_model):
        with pytest.raises(FedkimError, match=r"a config\.json that doesn't load .*num_hidden_layers.*two"):
            use(str(folder))


def test_an_adapter_is_never_loaded_with_the_model(folder):
    (folder / "adapter_config.json").write_text("{}")
    refused(folder, r"an adapter \(adapter_config.json\).*; merge the adapter into the model first")


def test_a_family_that_reads_one_text_and_writes_another_is_refused(tmp_path):
    T5Config(d_model=16).save_pretrained(tmp_path)
    for use in (load_llm, empty_model):
        with pytest.raises(FedkimError, match="'t5', which doesn't continue a text, expected a causal"):
            use(str(tmp_path))


def test_a_tokenizer_that_is_missing_or_damaged_is_named(folder):
    (folder / "tokenizer.json").write_text("{}")
    refused(folder, "a tokenizer that doesn't load")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    refused(folder, "found none, expected tokenizer.json; put it in ")


def test_a_tokenizer_that_asks_for_its_authors_code_is_refused(folder):
    rewrite(folder / "tokenizer_config.json", tokenizer_class="Own", auto_map={"AutoTokenizer": ["own.Own", None]})
    (folder / "own.py").write_text("raise SystemExit")
    refused(folder, "a tokenizer that doesn't load .*custom code")


# a tokenizer and its model ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", [load_llm, empty_model])
def test_a_tokenizer_without_an_end_of_text_is_refused(use, folder):
    rewrite(folder / "tokenizer_config.json", eos_token=None)
    with pytest.raises(FedkimError, match="a tokenizer without an end of text"):
        use(str(folder))


@pytest.mark.parametrize("use", [load_llm, empty_model])
def test_a_begin_of_text_beyond_the_embeddings_is_refused(use, folder):
    rewrite(folder / "tokenizer_config.json", bos_token=None)
    rewrite(folder / "config.json", bos_token_id=100_000)
    with pytest.raises(FedkimError, match="found BOS 100000, expected a token among its 512 embeddings"):
        use(str(folder))


@pytest.mark.parametrize("use", [load_llm, empty_model])
@pytest.mark.parametrize("special", [False, True])
def test_a_token_beyond_the_embeddings_is_refused_unless_no_plain_text_holds_it(special, use, folder):
    path = folder / "tokenizer.json"
    token = {"content": "<far>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    added = json.loads(path.read_text())["added_tokens"]
    rewrite(path, added_tokens=[*added, {"id": 512, **token, "special": special}])
    vocabulary = json.loads(path.read_text())["model"]
    assert len(vocabulary["vocab"]) <= 512
    vocabulary["vocab"] |= {f"w{number}": number for number in range(len(vocabulary["vocab"]), 512)}
    rewrite(path, model=vocabulary)
    if special:
        use(str(folder))
    else:
        with pytest.raises(FedkimError, match="a tokenizer with 1 tokens beyond the model's 512 embeddings"):
            use(str(folder))


def test_a_folder_of_another_type_leaves_the_processs_own_alone(folder, monkeypatch):
    """Data are made in another thread while a language model loads."""
    rewrite(folder / "config.json", dtype="bfloat16")
    set_to = []
    original = torch.set_default_dtype
    monkeypatch.setattr(torch, "set_default_dtype", lambda dtype: (set_to.append(dtype), original(dtype)))
    load_llm(str(folder), device="cpu", dtype="float32")
    assert set(set_to) <= {torch.float32}
