import numpy as np
import pytest
import torch

from fedkim.evaluation.answers import generate, score
from toy_server import GRADE, TASKS, make_injector, patients, segments, stir

SAMPLES = patients(7).samples


@pytest.fixture(scope="module")
def injector():
    return stir(make_injector())


def slow_score(injector, task, sample) -> np.ndarray:
    """One row, one answer and one token after the other, through the routed layers, without a batch or a cache."""
    llm, means = injector.llm, []
    injector.network.eval()
    with torch.no_grad(), injector.using(task):
        inner = segments(injector, task, [sample])
        prompt = llm.encode(f"Question: {TASKS[task].question}\nAnswer:")
        for answer in TASKS[task].answers:
            ids, likelihoods = llm.encode(f" {answer}"), []
            for place, token in enumerate(ids):
                words = llm.embedding.weight[prompt + ids[:place]]
                row = torch.cat([llm.embedding.weight[[llm.begin_token]], *(s[0] for s in inner), words])
                logits = injector.network(inputs_embeds=row[None]).logits[0, -1].double()
                likelihoods.append(float(logits[token] - logits.logsumexp(0)))
            means.append(sum(likelihoods) / len(ids))
    odds = np.exp(np.array(means) - max(means))
    return odds / odds.sum()


@pytest.mark.parametrize("task", ["bright", "both", "grade"])
def test_probabilities_are_those_of_a_slow_reference(injector, task):
    table = score(injector, task, SAMPLES[:3], batch_size=2)
    assert table.shape == (3, len(TASKS[task].answers))
    assert table.sum(1) == pytest.approx(np.ones(3), abs=1e-6)
    for row, sample in zip(table, SAMPLES):
        assert row == pytest.approx(slow_score(injector, task, sample), abs=1e-5)


def test_the_reference_normalises_by_length_because_the_answers_differ_in_it(injector):
    assert len({len(injector.tokens.answer(answer)) for answer in GRADE.answers}) == 3


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (3, 2), (16, 1)])
def test_neither_the_batch_nor_the_workers_change_a_probability(injector, batch_size, workers):
    assert score(injector, "both", SAMPLES, batch_size=batch_size, workers=workers) == pytest.approx(
        score(injector, "both", SAMPLES), abs=1e-6
    )


def test_each_patient_gets_the_answer_to_their_own_inputs(injector):
    forwards = score(injector, "bright", SAMPLES, batch_size=2)
    backwards = score(injector, "bright", SAMPLES[::-1], batch_size=2)
    assert backwards[::-1] == pytest.approx(forwards, abs=1e-6)
    assert len(np.unique(forwards[:, 1].round(9))) == len(SAMPLES)


def test_the_route_of_the_task_decides(injector):
    table = score(injector, "bright", SAMPLES)
    with torch.no_grad():
        original = injector.route_weights("bright").clone()
    router = injector.parameters()["router"]
    name = next(key for key in router if "output" in key and "bias" in key)
    with torch.no_grad():
        router[name].add_(torch.tensor([4.0, -4.0, 0.0]))
        try:
            assert not torch.allclose(injector.route_weights("bright"), original, atol=0.1)
            assert np.abs(score(injector, "bright", SAMPLES) - table).max() > 1e-4
        finally:
            router[name].sub_(torch.tensor([4.0, -4.0, 0.0]))


def test_nobody_asked_nothing_answered(injector):
    assert score(injector, "grade", []).shape == (0, 3)
    assert generate(injector, "talk", []) == []
    assert score(make_injector(blind=True), "bright", []).shape == (0, 2)


def test_a_blind_model_answers_everyone_alike():
    blind = stir(make_injector(blind=True))
    table = score(blind, "bright", SAMPLES)
    assert table == pytest.approx(np.repeat(table[:1], len(SAMPLES), axis=0), abs=0)
    logits = plain_logits(blind, "bright")
    ids = [blind.tokens.answer(answer)[0] for answer in ("No", "Yes")]
    assert table[0] == pytest.approx(logits[ids].softmax(0).numpy(), abs=1e-5)


def plain_logits(injector, task) -> torch.Tensor:
    """Next-token logits of BOS and the prompt alone."""
    llm = injector.llm
    ids = torch.tensor([[llm.begin_token, *llm.encode(f"Question: {TASKS[task].question}\nAnswer:")]])
    with injector.answering(task):
        return injector.network(input_ids=ids).logits[0, -1]


# generation ----------------------------------------------------------------------------------------------------


def slow_answer(injector, sample, most: int) -> str:
    """Greedy by the library's own ``generate``, one patient at a time."""
    llm = injector.llm
    with injector.answering("talk"):
        words = llm.embedding.weight
        prompt = llm.encode(f"Question: {sample.questions['talk']}\nAnswer:")
        inner = segments(injector, "talk", [sample])
        row = torch.cat([words[[llm.begin_token]], *(s[0] for s in inner), words[prompt]])
        (ids,) = injector.network.generate(
            inputs_embeds=row[None],
            attention_mask=torch.ones(1, len(row), dtype=torch.long),
            max_new_tokens=most,
            do_sample=False,
            eos_token_id=llm.end_token,
            pad_token_id=llm.end_token,
        )
    return llm.tokenizer.decode(ids, skip_special_tokens=True).split("\n")[0].strip()


def test_generation_is_the_librarys_greedy_search_in_the_order_asked(injector):
    expected = [slow_answer(injector, sample, 6) for sample in SAMPLES]
    assert len(set(expected)) > 2
    assert generate(injector, "talk", SAMPLES, max_new_tokens=6, batch_size=3) == expected
    assert generate(injector, "talk", SAMPLES, max_new_tokens=6, batch_size=2, workers=2) == expected


def test_batches_mix_lengths_so_that_padding_is_at_work():
    assert len({len(sample.questions["talk"]) for sample in SAMPLES}) == 3


def scripted(injector, ids, monkeypatch):
    """Make the model say these tokens one after another, whatever it is asked."""
    calls = []
    original = type(injector.network).forward

    def forward(self, *arguments, **keywords):
        output = original(self, *arguments, **keywords)
        token = ids[min(len(calls), len(ids) - 1)]
        calls.append(token)
        output.logits = torch.full_like(output.logits, -10.0)
        output.logits[..., token] = 10.0
        return output

    monkeypatch.setattr(type(injector.network), "forward", forward)
    return calls


def test_an_answer_ends_at_eos(injector, monkeypatch):
    word = injector.tokens.answer("Yes")
    calls = scripted(injector, [*word, injector.llm.end_token, *word], monkeypatch)
    assert generate(injector, "talk", SAMPLES[:2]) == ["Yes", "Yes"]
    assert len(calls) == len(word) + 1


def test_an_answer_ends_at_the_lines_end(injector, monkeypatch):
    word = injector.tokens.answer("Yes")
    calls = scripted(injector, [*word, *injector.llm.encode("\n"), *injector.tokens.answer("No")], monkeypatch)
    assert generate(injector, "talk", SAMPLES[:2]) == ["Yes", "Yes"]
    assert len(calls) == len(word) + 1


def test_an_answer_ends_at_the_most_tokens_allowed(injector, monkeypatch):
    (word,) = injector.tokens.answer("Yes")
    calls = scripted(injector, [word], monkeypatch)
    assert generate(injector, "talk", SAMPLES[:1], max_new_tokens=3) == ["Yes Yes Yes"]
    assert len(calls) == 3


def test_an_answer_may_be_empty_and_stays_in_its_place(injector, monkeypatch):
    scripted(injector, [injector.llm.end_token], monkeypatch)
    assert generate(injector, "talk", SAMPLES[:3]) == ["", "", ""]


def test_a_blind_model_answers_each_question_once_and_everyone_who_asked_it(monkeypatch):
    blind = stir(make_injector(blind=True))
    rows = []
    original = blind.llm.embedding.forward

    def forward(ids):
        rows.append(len(ids))
        return original(ids)

    monkeypatch.setattr(blind.llm.embedding, "forward", forward)
    texts = generate(blind, "talk", SAMPLES, max_new_tokens=3)
    assert max(rows) == 3
    assert texts == [slow_answer(blind, sample, 3) for sample in SAMPLES]


def test_the_base_model_answers_as_if_nothing_had_been_injected(injector):
    from fedkim.injection import Injector
    from fedkim.recipe import M3OE
    from toy_server import tiny

    plain = Injector(tiny(), encoders={}, tasks=TASKS, settings=M3OE(experts=0), width=8, seed=0, blind=True)
    before = score(injector, "bright", SAMPLES)
    with injector.as_base():
        table = score(injector, "bright", SAMPLES)
    assert np.array_equal(table, score(plain, "bright", SAMPLES))
    assert np.array_equal(score(injector, "bright", SAMPLES), before)
    assert not np.allclose(table, before)


def test_the_head_is_given_rows_that_lie_together(injector):
    """Rows apart in memory make a processor copy the head once per row: gigabytes for a real vocabulary."""
    seen = []
    head = injector.network.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].is_contiguous()))
    try:
        generate(injector, "talk", SAMPLES[:3], max_new_tokens=3)
        score(injector, "bright", SAMPLES[:3])
    finally:
        handle.remove()
    assert len(seen) >= 2
    assert all(seen)
