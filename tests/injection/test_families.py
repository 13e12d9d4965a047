"""The whole injection path on every family of language models: soft tokens, padding, routes, answers, training."""

import copy

import pytest
import torch
from transformers import AutoTokenizer

from fedkim.evaluation.answers import generate, score
from fedkim.injection import LLMS, LanguageModel
from fedkim.injection.prompt import Tokens, embed_rows
from fedkim.injection.training import stack_inputs
from fedkim.m3oe.targets import TARGETS
from fedkim.modalities import describe
from fedkim.state import State
from tiny_models import FAMILIES
from tiny_models import tiny as random_model
from toy_server import TASKS, make_injector, make_trainer, patients, segments, stir

SCALED = ("gemma", "gemma2", "gemma3_text")
SAMPLES = patients(3).samples
QUESTIONS = ("Is it?", "Is the rhythm a fast one or not?", "Why?")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(LLMS["tiny"].prepare())


def language_model(family, tokenizer):
    model = random_model(family, vocab_size=512, bos_token_id=0, eos_token_id=1, pad_token_id=2)
    with torch.no_grad():  # as alive as a trained model's weights, or a few steps would move nothing
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.14 if len(parameter) == 512 else parameter.shape[1] ** -0.5)
    return LanguageModel(family, model.requires_grad_(False), tokenizer)


def test_every_family_with_a_list_of_layers_is_tried_here():
    # InternLM2 needs its authors' code and is converted; InternLM3 and SmolLM3 have Llama's projections and names
    assert set(TARGETS) - set(FAMILIES) == {"internlm2", "internlm3", "smollm3"}


@pytest.mark.parametrize("family", ["llama", "phi", "gpt_neox"])
def test_a_base_models_own_dropout_draws_nothing_in_training(family, tokenizer):
    rates = {"llama": ("attention_dropout",), "phi": ("attention_dropout", "resid_pdrop", "embd_pdrop")}
    names = rates.get(family, ("attention_dropout", "hidden_dropout"))
    model = random_model(
        family, vocab_size=512, bos_token_id=0, eos_token_id=1, pad_token_id=2, **dict.fromkeys(names, 0.5)
    )
    injector = make_injector(llm=LanguageModel(family, model.requires_grad_(False), tokenizer), experts=3)
    injector.network.train()
    before, tails = torch.get_rng_state(), [[5, 6, 7]] * len(SAMPLES)
    with injector.using("both"):
        first, second = (injector.logits(segments(injector, "both", SAMPLES), tails, keep=2) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_fresh_experts_leave_every_logit_as_it_was(family, tokenizer):
    tails = [list(range(5, 5 + n)) for n in (4, 7, 2)]

    def read(injector):
        return injector.logits(segments(injector, "both", SAMPLES), tails, keep=2)

    plain, mixed = (make_injector(llm=language_model(family, tokenizer), experts=number) for number in (0, 3))
    mixed.network.eval()
    with torch.no_grad():
        base = read(plain)
        with mixed.using("both"):
            assert torch.equal(read(mixed), base)
        with stir(mixed).using("both"):
            assert not torch.allclose(read(mixed), base, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_words_enter_as_the_models_own_forward_would_take_them(family, tokenizer):
    llm = language_model(family, tokenizer)
    text = llm.encode("Question: Is it? Answer:")
    batch = embed_rows(llm, [], [text])
    with torch.no_grad():
        ours = llm.model(inputs_embeds=batch.embeddings).logits
        own = llm.model(input_ids=torch.tensor([[llm.begin_token, *text]])).logits
    assert torch.equal(ours, own)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_modalitys_token_is_as_loud_as_a_word(family, tokenizer):
    llm = language_model(family, tokenizer)
    words = llm.model.get_input_embeddings()(torch.arange(512)).norm(dim=1).mean()
    (image,) = make_injector(llm=llm).align({"image": torch.randn(2, 3, 16)})
    torch.testing.assert_close(image[:, 1:-1].norm(dim=-1), words.expand(2, 3), rtol=1e-3, atol=0)
    stored = llm.embedding.weight.norm(dim=1).mean()
    assert float(words / stored) == pytest.approx(llm.hidden_size**0.5 if family in SCALED else 1.0, rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_router_reads_descriptions_as_they_would_enter_the_first_layer(family, tokenizer):
    injector = stir(make_injector(llm=language_model(family, tokenizer), router_normalise=False))
    task = TASKS["both"]
    words = [
        injector.llm.model.get_input_embeddings()(torch.tensor(injector.llm.encode(text)))
        for text in (task.description, describe(task.modalities))
    ]
    tuner = injector.network.base_model
    by_hand = tuner.route_weights(words[0][None], words[1][None])[0]
    by_text = tuner.route(task.description, describe(task.modalities), tokenizer=tokenizer)[0]
    torch.testing.assert_close(injector.route_weights("both"), by_hand)
    torch.testing.assert_close(by_text, by_hand)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_company_change_no_answer(family, tokenizer):
    injector = stir(make_injector(llm=language_model(family, tokenizer)))
    tails = [injector.tokens.prompt(question) for question in QUESTIONS]
    assert len({len(tail) for tail in tails}) == 3
    with injector.answering("both"):
        together = injector.logits(segments(injector, "both", SAMPLES), tails, keep=2)
        for row, sample in enumerate(SAMPLES):
            alone = injector.logits(segments(injector, "both", [sample]), [tails[row]], keep=2)
            torch.testing.assert_close(together[row], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_closed_answers_are_scored_by_their_likelihood_after_the_prompt(family, tokenizer):
    injector = stir(make_injector(llm=language_model(family, tokenizer)))
    scores = score(injector, "grade", SAMPLES, batch_size=2)
    task, llm = TASKS["grade"], injector.llm
    prompt = llm.encode(f"Question: {task.question}\nAnswer:")
    injector.network.eval()
    with torch.no_grad(), injector.using("grade"):
        (image,) = injector.align(injector.encode("grade", stack_inputs(SAMPLES[:1], task.modalities)))
        by_hand = []
        for answer in task.answers:
            ids = llm.encode(f" {answer}")
            words = llm.embedding(torch.tensor(prompt + ids))
            row = torch.cat([llm.embedding(torch.tensor([llm.begin_token])), image[0], words])
            said = injector.network(inputs_embeds=row[None]).logits[0].log_softmax(-1)
            start = len(row) - len(ids)
            by_hand.append(sum(said[start - 1 + i, token] for i, token in enumerate(ids)) / len(ids))
    torch.testing.assert_close(torch.tensor(scores[0]).float(), torch.stack(by_hand).softmax(0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_with_its_cache_says_what_a_fresh_forward_pass_says(family, tokenizer):
    injector = stir(make_injector(llm=language_model(family, tokenizer)))
    texts = generate(injector, "talk", SAMPLES, max_new_tokens=4)
    llm = injector.llm
    for sample, text in zip(SAMPLES, texts):
        prompt, ids = injector.tokens.prompt(sample.questions["talk"]), []
        with injector.answering("talk"):
            while len(ids) < 4 and llm.end_token not in ids and "\n" not in llm.tokenizer.decode(ids):
                logits = injector.logits(segments(injector, "talk", [sample]), [prompt + ids], keep=1)
                ids.append(int(logits[0, -1].argmax()))
        assert text == llm.tokenizer.decode(ids, skip_special_tokens=True).split("\n")[0].strip()


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_of_injection_lower_the_loss_and_leave_the_frozen_weights_alone(family, tokenizer):
    llm = language_model(family, tokenizer)
    before = copy.deepcopy(llm.model.state_dict())
    injector = make_injector(llm=llm)
    trainer = make_trainer(injector, seen=("bright",), steps_per_round=8, batch_size=4)
    state = State({key: value.clone() for key, value in injector.tensors().items() if key.startswith("encoder.")})
    _, report = trainer.fit(state, round=1)
    assert report.losses[-1] < report.losses[0] - 0.5
    after = {name.replace(".base_layer", ""): value for name, value in llm.model.state_dict().items()}
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("family", ["llama", "gemma", "gpt_neox"])
def test_experts_on_a_head_tied_or_not_answer_as_they_were_trained(family, tokenizer):
    injector = stir(make_injector(llm=language_model(family, tokenizer), targets=("paper",)))
    assert any("lm_head" in name for name in injector.parameters()["adapter"])
    assert injector.network.base_model.mergeable == (family != "gemma")
    tails = [injector.tokens.prompt("Is it?")] * 3
    words = injector.llm.embedding.weight.clone()
    injector.network.eval()
    with torch.no_grad(), injector.using("bright"):
        routed = injector.logits(segments(injector, "bright", SAMPLES), tails, keep=2)
    with injector.answering("bright"):
        torch.testing.assert_close(
            injector.logits(segments(injector, "bright", SAMPLES), tails, keep=2), routed, rtol=0, atol=1e-4
        )
        assert torch.equal(injector.llm.embedding.weight, words)
    assert score(injector, "bright", SAMPLES, batch_size=1, workers=2).shape == (3, 2)


# tokenizers -------------------------------------------------------------------------------------------------------


def test_a_tokenizer_without_bos_begins_with_what_the_configuration_names(tokenizer):
    without = copy.deepcopy(tokenizer)
    without.bos_token = None
    llm = language_model("qwen2", without)
    assert without.bos_token_id is None
    assert llm.begin_token == 0
    llm.model.config.bos_token_id = None
    assert llm.begin_token == llm.end_token == 1
    llm.model.config.bos_token_id = 7
    assert llm.begin_token == 7
    with torch.no_grad():
        first = embed_rows(llm, [], [[9]]).embeddings[0, 0]
    assert torch.equal(first, llm.embedding.weight[7])


def test_an_answer_has_no_second_space_where_the_tokenizer_begins_every_text_with_one():
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<s>", "</s>", "▁", ":", "A", "Y", "e", "s", "▁A", "▁Y", "es", "▁Yes"]
    merges = [("▁", "A"), ("▁", "Y"), ("e", "s"), ("▁Y", "es")]
    spaced = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    spaced.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    spaced.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=spaced, bos_token="<s>", eos_token="</s>")
    llm = LanguageModel("spaced", torch.nn.Linear(1, 1), tokenizer)
    assert [pieces[i] for i in llm.encode(" Yes")] == ["▁", "▁Yes"]
    assert [pieces[i] for i in llm.encode_after("A:", " Yes")] == ["▁Yes"]
    assert [pieces[i] for i in llm.encode("A: Yes")] == ["▁A", ":", "▁Yes"]
    assert [pieces[i] for i in llm.encode_after("A", "Yes")] == ["Y", "es"]
    # where the seam melts into one token nothing can be taken off
    assert [pieces[i] for i in llm.encode_after("Y", "es")] == ["▁", "es"]


def test_the_answers_tokens_are_those_of_the_whole_line(tokenizer):
    llm = language_model("llama", tokenizer)
    tokens = Tokens(llm)
    for answer in ("Yes", "No", "rather middling"):
        assert llm.encode(f"Answer: {answer}") == llm.encode("Answer:") + tokens.answer(answer)
