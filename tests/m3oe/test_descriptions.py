"""Routes from plain English, with the language model's own tokenizer and embeddings."""

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from fedkim.errors import FedkimError
from tiny_models import EXPERTS, adapted, tiny, tokens

TASK, IMAGE, LABS = "find fluid around the lung", "a chest x ray image", "laboratory values"


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    words = {
        word: number for number, word in enumerate(["[UNK]", *sorted({*TASK.split(), *IMAGE.split(), *LABS.split()})])
    }
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


def test_text_routes_by_the_frozen_input_embeddings(tokenizer):
    model = adapted()
    embed = model.get_input_embeddings()
    embedded = [embed(torch.tensor(tokenizer(text)["input_ids"])).detach() for text in (TASK, IMAGE)]
    weights = model.route(TASK, IMAGE, tokenizer=tokenizer)
    assert weights.shape == (1, EXPERTS)
    assert weights.requires_grad
    assert torch.equal(weights, model.route_weights([embedded[0]], [embedded[1]]))
    assert torch.equal(weights, model.route(embedded[0], embedded[1]))


def test_several_tasks_give_one_route_each_whatever_stands_beside_them(tokenizer):
    model = adapted()
    both = model.route([TASK, LABS], [[IMAGE, LABS], None], tokenizer=tokenizer)
    torch.testing.assert_close(both[:1], model.route(TASK, [IMAGE, LABS], tokenizer=tokenizer), rtol=0, atol=1e-6)
    torch.testing.assert_close(both[1:], model.route(LABS, tokenizer=tokenizer), rtol=0, atol=1e-6)
    assert torch.equal(
        model.route(TASK, [IMAGE, LABS], tokenizer=tokenizer), model.route(TASK, f"{IMAGE} {LABS}", tokenizer=tokenizer)
    )


def test_a_set_route_lasts_through_generation_and_carries_no_gradient(tokenizer):
    model = adapted()
    weights = model.set_route(task=TASK, modalities=IMAGE, tokenizer=tokenizer)
    assert not weights.requires_grad
    settings = {"input_ids": tokens(), "max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    kept = model.generate(**settings)
    model.clear_route()
    with model.using(weights):
        assert torch.equal(model.generate(**settings), kept)


def test_the_tokenizer_is_found_beside_the_model_or_asked_for(tokenizer, tmp_path):
    nameless = adapted()
    with pytest.raises(FedkimError, match="pass tokenizer="):
        nameless.route(TASK, IMAGE)
    base = tiny()
    base.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    named = adapted(type(base).from_pretrained(tmp_path))
    beside = AutoTokenizer.from_pretrained(tmp_path)
    embed = named.get_input_embeddings()
    task, image = (embed(torch.tensor(beside(text, add_special_tokens=False)["input_ids"])) for text in (TASK, IMAGE))
    assert torch.equal(named.route(TASK, IMAGE), named.route_weights([task], [image]))


def test_a_route_is_set_by_embeddings_or_for_a_mixed_batch_and_kept_by_generate(tokenizer):
    model = adapted()
    embed = model.get_input_embeddings()
    task, image = (embed(torch.tensor(tokenizer(text)["input_ids"])).detach() for text in (TASK, IMAGE))
    assert torch.equal(model.set_route(task=task, modalities=image), model.set_route(TASK, IMAGE, tokenizer=tokenizer))
    settings = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    routes = model.set_route(task=[TASK, LABS], modalities=[IMAGE, None], tokenizer=tokenizer)
    both = model.generate(input_ids=tokens(), **settings)
    assert (routes[0] - routes[1]).abs().max() > 1e-3
    for row, (text, modalities) in enumerate([(TASK, IMAGE), (LABS, None)]):
        model.set_route(text, modalities, tokenizer=tokenizer)
        assert torch.equal(model.generate(input_ids=tokens()[row : row + 1], **settings), both[row : row + 1])
    model.set_route(task=[TASK, LABS], modalities=[IMAGE, None], tokenizer=tokenizer)
    with pytest.raises(FedkimError, match="route doesn't fit the batch"):
        model(tokens(3))
