import pytest
import torch

from fedkim.injection.prompt import Tokens, embed_rows, prompt_text
from toy_server import TASKS, make_injector, patients, segments, stir, tiny


def test_the_prompt_is_worded_as_promised():
    assert prompt_text("Is it?") == "Question: Is it?\nAnswer:"


def test_an_answer_follows_the_colon_with_a_space_and_without_eos():
    llm = tiny()
    tokens = Tokens(llm)
    assert llm.tokenizer.decode(tokens.prompt("Is it?") + tokens.answer("Yes")) == "Question: Is it?\nAnswer: Yes"
    assert llm.end_token not in tokens.answer("Yes")
    assert llm.begin_token not in tokens.prompt("Is it?")


def test_the_layout_is_bos_then_the_segments_in_order_then_the_text():
    llm = tiny()
    image, signal = torch.randn(2, 4, 64), torch.randn(2, 3, 64)
    text = llm.encode("Question: Is it?")
    batch = embed_rows(llm, [image, signal], [text, text])
    assert batch.mask is None
    assert batch.positions is None
    words = llm.embedding.weight
    for row in range(2):
        expected = torch.cat([words[[llm.begin_token]], image[row], signal[row], words[text]])
        assert torch.equal(batch.embeddings[row], expected)


def test_a_shorter_row_is_padded_on_the_left_and_counts_its_positions_from_its_own_bos():
    llm = tiny()
    image = torch.randn(2, 4, 64)
    short, long = llm.encode("Is it?"), llm.encode("Question: Is it?")
    pad = len(long) - len(short)
    batch = embed_rows(llm, [image], [short, long])
    words = llm.embedding.weight
    assert torch.equal(batch.embeddings[0, pad:], torch.cat([words[[llm.begin_token]], image[0], words[short]]))
    assert torch.equal(batch.embeddings[1], torch.cat([words[[llm.begin_token]], image[1], words[long]]))
    assert batch.mask[0].tolist() == [0] * pad + [1] * (1 + 4 + len(short))
    assert batch.mask[1].all()
    assert batch.positions[0].tolist() == [0] * pad + list(range(1 + 4 + len(short)))


@pytest.mark.parametrize("task", ["bright", "both"])
def test_padding_changes_no_logit_that_is_read(task):
    injector = stir(make_injector())
    samples = patients(3).samples
    tails = [injector.tokens.prompt(q) for q in ("Is it?", "Is the rhythm a fast one or not?", "Why?")]
    assert len({len(tail) for tail in tails}) == 3
    with injector.answering(task):
        together = injector.logits(segments(injector, task, samples), tails, keep=2)
        for row, sample in enumerate(samples):
            alone = injector.logits(segments(injector, task, [sample]), [tails[row]], keep=2)
            assert torch.allclose(together[row], alone[0], atol=1e-5)
    assert bool(together.isfinite().all())


def test_padding_changes_no_gradient():
    injector = stir(make_injector(experts=1))
    samples = patients(2).samples
    short, long = (injector.tokens.prompt(q) for q in ("Why?", "Is the rhythm a fast one or not?"))
    parameters = list(injector.parameters()["align"].values())

    def gradients(rows, tails):
        logits = injector.logits(segments(injector, "bright", rows), tails, keep=1)
        return torch.autograd.grad(logits[0].square().sum(), parameters, allow_unused=True)

    with injector.using("bright"):
        alone = gradients(samples[:1], [short])
        padded = gradients(samples, [short, long])
    used = [pair for pair in zip(alone, padded) if pair[0] is not None]
    assert used
    for a, b in used:
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_a_prompt_is_tokenised_once():
    tokens = Tokens(tiny())
    assert tokens.prompt("Is it?") is tokens.prompt("Is it?")
    assert tokens.answer("No") is tokens.answer("No")


def test_every_task_asks_with_its_own_words():
    tokens = Tokens(tiny())
    assert len({tuple(tokens.prompt(task.question)) for task in TASKS.values()}) == len(TASKS)
