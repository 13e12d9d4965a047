"""A published InternLM2 folder against its conversion: the same logits, the same tokens, or one clear line."""

import hashlib
import json
import shutil
from contextlib import contextmanager

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from fedkim.errors import FedkimError
from fedkim.injection import load_llm
from fedkim.injection.conversion import shards
from fedkim.injection.conversion.internlm2 import InternLM2
from fedkim.injection.conversion.internlm2_folder import RECORD, convert_internlm2
from fedkim.progress import Silent
from fedkim.state import State
from internlm2_layout import CONFIG, TOKENIZER, logits, publish, weights
from tiny_models import adapted, some_route
from toy_server import make_injector, make_trainer

IDS = torch.randint(3, 500, (2, 20), generator=torch.Generator().manual_seed(0))


def opened(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 6},
        {"num_key_value_heads": 1},
        {"bias": True},
        {"tie_word_embeddings": True},
        {"rope_theta": 10000},
        {"rope_scaling": {"type": "linear", "factor": 4.0}},
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
        {"rope_scaling": {"type": "dynamic", "factor": 3.0}, "max_position_embeddings": 12},
    ],
    ids=lambda changes: " ".join(f"{key}={value}" for key, value in changes.items()) or "as published",
)
def test_the_converted_model_computes_what_the_architecture_says(changes, tmp_path):
    config = CONFIG | changes
    tensors = weights(config)
    model = opened(convert_internlm2(publish(tmp_path / "in", tensors=tensors, **changes), tmp_path / "out"))
    assert type(model) is LlamaForCausalLM
    with torch.no_grad():
        said = model(IDS).logits
    for row, ids in enumerate(IDS):
        torch.testing.assert_close(said[row], logits(tensors, config, ids), rtol=0, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_a_configuration_that_leaves_the_bias_out_follows_the_tensors(bias, tmp_path):
    tensors = weights(CONFIG | {"bias": bias})
    source = publish(tmp_path / "in", tensors=tensors)
    config = json.loads((source / "config.json").read_text())
    del config["bias"]
    (source / "config.json").write_text(json.dumps(config))
    model = opened(convert_internlm2(source, tmp_path / "out"))
    assert model.config.attention_bias == bias
    with torch.no_grad():
        expected = logits(tensors, CONFIG, IDS[0])
        torch.testing.assert_close(model(IDS).logits[0], expected, rtol=0, atol=1e-5)


def test_a_wrong_cut_of_the_fused_projection_would_be_heard(tmp_path, monkeypatch):
    def naive(self, wqkv):  # all queries, then all keys, then all values
        D = self.head_dim
        return wqkv.split([self.heads * D, self.groups * D, self.groups * D])

    monkeypatch.setattr(InternLM2, "split", naive)
    model = opened(convert_internlm2(publish(tmp_path / "in"), tmp_path / "out"))
    with torch.no_grad():
        assert (model(IDS).logits[0] - logits(weights(), CONFIG, IDS[0])).abs().max() > 0.1


def test_routed_equals_merged_equals_exported_on_a_converted_model(tmp_path):
    base = opened(convert_internlm2(publish(tmp_path / "in"), tmp_path / "out"))
    model = adapted(base)
    with torch.no_grad():
        with model.using(some_route()):
            routed = model(IDS).logits
        with model.merged(some_route()):
            torch.testing.assert_close(model(IDS).logits, routed, rtol=0, atol=1e-5)
            model.export_dense(tmp_path / "dense")
        model.export_lora(tmp_path / "lora", some_route())
        exported = PeftModel.from_pretrained(opened(tmp_path / "out"), tmp_path / "lora").eval()
        torch.testing.assert_close(exported(IDS).logits, routed, rtol=0, atol=1e-5)
        torch.testing.assert_close(opened(tmp_path / "dense")(IDS).logits, routed, rtol=0, atol=1e-5)
        assert (routed - base(IDS).logits).abs().max() > 1e-2


def test_experts_on_the_published_projections_are_experts_on_the_converted_ones():
    """LoRA on ``wqkv`` is LoRA on q, k and v with the same A and B's rows cut alike."""
    sizes = InternLM2.from_config(CONFIG)
    generator = torch.Generator().manual_seed(1)
    fused, A = torch.randn(80, 48, generator=generator), torch.randn(4, 48, generator=generator)
    B = torch.randn(80, 4, generator=generator)
    for cut, own, whole in zip(sizes.split(fused), sizes.split(B), sizes.split(fused + B @ A)):
        torch.testing.assert_close(cut + own @ A, whole)


def test_a_step_of_injection_runs_on_a_converted_model(tmp_path):
    convert_internlm2(publish(tmp_path / "in"), tmp_path / "out")
    injector = make_injector(llm=load_llm(str(tmp_path / "out"), device="cpu", dtype="float32"))
    assert injector.llm.begin_token == 1
    assert injector.llm.end_token == 2
    trainer = make_trainer(injector, seen=("bright",), steps_per_round=8, batch_size=4)
    state = State({key: value.clone() for key, value in injector.tensors().items() if key.startswith("encoder.")})
    _, report = trainer.fit(state, round=1)
    assert report.losses[-1] < report.losses[0] - 0.5


# the folder --------------------------------------------------------------------------------------------------------


def test_the_tokenizer_opens_without_its_authors_code_and_cuts_as_sentencepiece_does(tmp_path):
    convert_internlm2(publish(tmp_path / "in"), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    expected = json.loads((TOKENIZER.parent / "expected.json").read_text())["plain"]
    for text, ids in expected["ids"].items():
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids, repr(text)
        assert tokenizer.decode(ids, skip_special_tokens=False) == expected["decoded"][text], repr(text)
    assert tokenizer("Yes")["input_ids"][0] == tokenizer.bos_token_id == 1
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id) == (2, 2, 0)


def test_a_chat_models_renamed_tokens_and_template_come_along(tmp_path):
    source = publish(tmp_path / "in")
    config = json.loads((source / "tokenizer_config.json").read_text())
    config["added_tokens_decoder"] = {
        "1": {"content": "<s>", "special": True},
        "4": {"content": "<|im_end|>", "special": True},
        "500": {"content": "<|extra|>", "special": True},
    }
    config["chat_template"] = "{{ messages[0]['content'] }}<|im_end|>"
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = AutoTokenizer.from_pretrained(convert_internlm2(source, tmp_path / "out"))
    assert tokenizer("Yes<|im_end|><|extra|>", add_special_tokens=False)["input_ids"][-2:] == [4, 500]
    assert tokenizer.apply_chat_template([{"role": "user", "content": "Yes"}], tokenize=False) == "Yes<|im_end|>"


def test_a_published_fast_tokenizer_is_taken_as_it_is(tmp_path):
    source = publish(tmp_path / "in")
    first = convert_internlm2(source, tmp_path / "first")
    shutil.copyfile(first / "tokenizer.json", source / "tokenizer.json")
    (source / "tokenizer.model").unlink()
    again = AutoTokenizer.from_pretrained(convert_internlm2(source, tmp_path / "again"))
    assert again("Answer: Yes")["input_ids"] == AutoTokenizer.from_pretrained(first)("Answer: Yes")["input_ids"]


def test_the_folder_says_where_it_came_from(tmp_path):
    source = publish(tmp_path / "in")
    (source / "LICENSE").write_text("terms")
    record = json.loads((convert_internlm2(source, tmp_path / "out") / RECORD).read_text())
    assert record["layout"] == {"from": "internlm2", "to": "llama"}
    assert record["source"] == "in"
    assert record["config"] == CONFIG
    assert record["bytes"] == sum(tensor.nbytes for tensor in weights().values())
    for name, said in record["files"].items():
        data = (source / name).read_bytes()
        assert said == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert len(record["files"]) == 2
    assert (tmp_path / "out" / "LICENSE").read_text() == "terms"
    assert not list((tmp_path / "out").glob("*.py"))
    assert str(tmp_path) not in (tmp_path / "out" / RECORD).read_text()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_keep_their_type_and_bits(dtype, tmp_path):
    tensors = {name: tensor.to(dtype) for name, tensor in weights().items()}
    out = convert_internlm2(publish(tmp_path / "in", tensors=tensors), tmp_path / "out")
    stored = load_file(out / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    assert torch.equal(stored["model.embed_tokens.weight"], tensors["model.tok_embeddings.weight"])
    assert json.loads((out / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")


def test_no_more_than_one_file_and_one_tensor_is_held(tmp_path, monkeypatch):
    source, limit, held = publish(tmp_path / "in", shards=1), 60_000, []
    save = shards.save_file

    def watched(tensors, *arguments, **named):
        held.append(sum(tensor.nbytes for tensor in tensors.values()))
        save(tensors, *arguments, **named)

    monkeypatch.setattr(shards, "save_file", watched)
    out = convert_internlm2(source, tmp_path / "out", shard_bytes=limit)
    largest = max(tensor.nbytes for tensor in weights().values())
    assert len(held) > 3
    assert max(held) <= max(limit, largest)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {file.name for file in out.glob("model-*.safetensors")}
    assert index["metadata"]["total_size"] == sum(held)
    with torch.no_grad():
        torch.testing.assert_close(opened(out)(IDS).logits[0], logits(weights(), CONFIG, IDS[0]), rtol=0, atol=1e-5)


def test_stored_rotary_frequencies_are_left_out(tmp_path):
    extra = {"model.layers.0.attention.rotary_emb.inv_freq": torch.ones(4)}
    out = convert_internlm2(publish(tmp_path / "in", tensors=weights() | extra), tmp_path / "out")
    assert not [name for name in load_file(out / "model.safetensors") if "inv_freq" in name]


# mistakes ----------------------------------------------------------------------------------------------------------


def without(folder, name):
    (folder / name).unlink()


def damage(folder):
    file = folder / "model-00001-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:500])


def pickle_instead(folder):
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")


def reshape(folder):
    file = folder / "model-00001-of-00002.safetensors"
    tensors = load_file(file)
    save_file({name: t[:3].clone() if "tok_emb" in name else t for name, t in tensors.items()}, file)


def rewrite(name, **changes):
    def apply(folder):
        file = folder / name
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return apply


def quantise(folder, dtype=torch.int8):
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        save_file({name: t.to(dtype) if "w1" in name else t for name, t in tensors.items()}, file)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (pickle_instead, r"1 pickled files .*scripts/pickles_to_safetensors\.py .* DIR .*docs/mmedlm2\.md"),
        (lambda folder: without(folder, "config.json"), "no config.json"),
        (lambda folder: without(folder, "tokenizer.model"), "no tokenizer.model"),
        (lambda folder: without(folder, "model-00002-of-00002.safetensors"), "1 of 2 files missing, such as model-00002"),
        (damage, "a damaged safetensors file"),
        (reshape, r"tensor model\.tok_embeddings\.weight, found shape \[3, 48\], expected \[512, 48\]"),
        (quantise, "quantised weight"),
        (lambda folder: quantise(folder, torch.float8_e4m3fn), "float8_e4m3fn, a quantised weight"),
        (rewrite("config.json", num_hidden_layers=3), r"7 tensors missing, such as model\.layers\.2\.attention\.wo"),
        (rewrite("config.json", num_hidden_layers=1), r"7 tensors that the layout doesn't have, such as model\.layers\.1"),
        (rewrite("config.json", bias=True), r"4 tensors missing, such as model\.layers\.0\.attention\.wo\.bias"),
        (rewrite("config.json", hidden_size=None), "no number above 0 for hidden_size"),
        (rewrite("config.json", num_key_value_heads=4), "each divides the one before"),
        (rewrite("config.json", hidden_act="gelu"), "hidden_act 'gelu'"),
        (rewrite("config.json", rope_scaling={"type": "yarn"}), "rope_scaling of type 'yarn'"),
        (rewrite("config.json", rope_scaling="dynamic"), "config.json, found rope_scaling 'dynamic', expected a table"),
        (rewrite("config.json", rope_scaling={"type": "linear", "factor": None}), r"rope_scaling\.factor None, expected a number"),
        (rewrite("config.json", rope_theta=None), "rope_theta None, expected a number above 0"),
        (rewrite("config.json", num_attention_heads=0), "no number above 0 for num_attention_heads"),
        (rewrite("config.json", num_key_value_heads=-1), "num_key_value_heads -1, expected a number above 0"),
        (rewrite("config.json", max_position_embeddings=None), "max_position_embeddings None, expected a number above 0"),
        (rewrite("config.json", rms_norm_eps="a"), "rms_norm_eps 'a', expected a number above 0"),
        (rewrite("config.json", initializer_range="a"), "config.json, found .*initializer_range"),
        (rewrite("config.json", quantization_config={"quant_method": "awq"}), "quantization_config, quantised weights"),
        (rewrite("tokenizer_config.json", bos_token={"x": 1}), "something else as bos_token, expected a token's text"),
        (rewrite("model.safetensors.index.json", weight_map=3), "no index that can be read"),
        (rewrite("tokenizer_config.json", eos_token="<|end|>"), "no token '<|end|>'"),
        (rewrite("tokenizer_config.json", added_tokens_decoder=[3]), "something else as added_tokens_decoder"),
        (lambda folder: (folder / "tokenizer.json").write_text('{"model": '), r"tokenizer\.json, found no tokenizer"),
        (
            rewrite("tokenizer_config.json", added_tokens_decoder={"512": {"content": "<|far|>"}, **{str(n): f"<{n}>" for n in range(500, 512)}}),
            "513 tokens, expected at most 512 embeddings",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_told_in_one_line_and_leaves_nothing(spoil, message, tmp_path):
    source = publish(tmp_path / "in")
    spoil(source)
    with pytest.raises(FedkimError, match=message) as caught:
        convert_internlm2(source, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_another_architecture_is_named(tmp_path):
    source = tmp_path / "in"
    shutil.copytree(convert_internlm2(publish(tmp_path / "published"), tmp_path / "llama"), source)
    with pytest.raises(FedkimError, match=r"another layout \(llama, LlamaForCausalLM\), expected InternLM2's"):
        convert_internlm2(source, tmp_path / "out")


def test_a_target_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FedkimError, match="name a folder that can be written"):
        convert_internlm2(publish(tmp_path / "in"), tmp_path / "file" / "out")


def test_a_target_that_exists_and_a_source_that_does_not_are_refused(tmp_path):
    source = publish(tmp_path / "in")
    (tmp_path / "out").mkdir()
    with pytest.raises(FedkimError, match="it exists, expected a new folder"):
        convert_internlm2(source, tmp_path / "out")
    with pytest.raises(FedkimError, match="no such folder"):
        convert_internlm2(tmp_path / "absent", tmp_path / "new")


def test_an_interruption_leaves_nothing_behind(tmp_path):
    class Interrupted(Silent):
        @contextmanager
        def stage(self, name, total, done=0):
            yield self

        def advance(self, n=1, **fields):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_internlm2(publish(tmp_path / "in"), tmp_path / "out", progress=Interrupted())
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
