"""Answers of an injected LLM: label likelihoods for closed questions, greedy generation for open ones.

Shapes: n samples, B batch, K answers, L prompt, V vocabulary.
"""

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fedkim.data.sample import Sample
from fedkim.injection.batches import stack_inputs
from fedkim.injection.injector import Injector
from fedkim.injection.precise_head import precise_head
from fedkim.injection.prompt import embed_rows
from fedkim.parallel import ordered_map


def score(
    injector: Injector, task: str, samples: Sequence[Sample], *, batch_size: int = 16, workers: int = 1
) -> np.ndarray:
    """``[n, K]``: the probability of each of the task's answers.

    An answer's score is the sum of its tokens' log-likelihoods divided by their number; a softmax over the K answers
    makes probabilities. The route is the task's, folded into the weights; the output layer is computed in float32.
    """
    answers = injector.tasks[task].answers
    assert answers is not None, "open questions are generated"
    if injector.blind:
        return _blind_scores(injector, task, samples, answers)
    batches = _batches(samples, batch_size)
    with injector.answering(task), precise_head(injector.llm.model):
        scores = list(ordered_map(partial(_score_batch, injector, task, answers), batches, workers))
    return torch.cat(scores).softmax(-1).double().cpu().numpy() if scores else np.zeros((0, len(answers)))


def generate(
    injector: Injector,
    task: str,
    samples: Sequence[Sample],
    *,
    max_new_tokens: int = 16,
    batch_size: int = 16,
    workers: int = 1,
) -> list[str]:
    """Greedy answers of at most ``max_new_tokens`` tokens, ended by EOS or a line's end; possibly empty."""
    if injector.blind:  # the question decides alone: each distinct one is answered once
        first = {_question(injector, task, sample): sample for sample in samples}
        if len(first) < len(samples):
            texts = generate(
                injector,
                task,
                list(first.values()),
                max_new_tokens=max_new_tokens,
                batch_size=batch_size,
                workers=workers,
            )
            known = dict(zip(first, texts))
            return [known[_question(injector, task, sample)] for sample in samples]
    order = sorted(range(len(samples)), key=lambda index: len(_question(injector, task, samples[index])))
    batches = _batches([samples[index] for index in order], batch_size)
    with injector.answering(task):
        run = partial(_generate_batch, injector, task, max_new_tokens)
        texts = [text for batch in ordered_map(run, batches, workers) for text in batch]
    answers = [""] * len(samples)
    for index, text in zip(order, texts):
        answers[index] = text
    return answers


def _question(injector: Injector, task: str, sample: Sample) -> str:
    return sample.questions.get(task, injector.tasks[task].question)


def _batches(samples: Sequence[Sample], size: int) -> list[Sequence[Sample]]:
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def _segments(injector: Injector, task: str, samples: Sequence[Sample]) -> list[Tensor]:
    inputs = {} if injector.blind else stack_inputs(samples, injector.tasks[task].modalities)
    return injector.align(injector.encode(task, inputs))


@torch.no_grad()  # here, because gradient mode belongs to a thread
def _score_batch(injector: Injector, task: str, answers: Sequence[str], samples: Sequence[Sample]) -> Tensor:
    segments = _segments(injector, task, samples)
    prompts = [injector.tokens.prompt(_question(injector, task, sample)) for sample in samples]
    ids = [injector.tokens.answer(answer) for answer in answers]
    if all(len(answer) == 1 for answer in ids):  # one forward decides: the answers differ in the next token
        final = injector.logits(segments, prompts, keep=1)[:, -1].log_softmax(-1)
        return final[:, [answer[0] for answer in ids]]
    columns = []
    for answer in ids:
        logits = injector.logits(segments, [prompt + answer for prompt in prompts], keep=len(answer), drop=1)
        tokens = torch.tensor(answer, device=logits.device)
        places = torch.arange(len(answer), device=logits.device)
        columns.append(logits.log_softmax(-1)[:, places, tokens].mean(-1))
    return torch.stack(columns, dim=-1)


def _blind_scores(injector: Injector, task: str, samples: Iterable[Sample], answers: Sequence[str]) -> np.ndarray:
    """Without modality segments the question decides alone: each distinct question is scored once."""
    rows: dict[str, Tensor] = {}
    ordered = [(_question(injector, task, sample), sample) for sample in samples]
    with injector.answering(task), precise_head(injector.llm.model):
        for question, sample in ordered:
            if question not in rows:
                rows[question] = _score_batch(injector, task, answers, [sample])[0].softmax(-1)
    if not ordered:
        return np.zeros((0, len(answers)))
    return np.stack([rows[question].double().cpu().numpy() for question, _ in ordered])


@torch.no_grad()
def _generate_batch(injector: Injector, task: str, max_new_tokens: int, samples: Sequence[Sample]) -> list[str]:
    llm = injector.llm
    prompts = [injector.tokens.prompt(_question(injector, task, sample)) for sample in samples]
    batch = embed_rows(llm, _segments(injector, task, samples), prompts)
    size, length = batch.embeddings.shape[:2]
    mask = torch.ones(size, length, dtype=torch.long, device=llm.device) if batch.mask is None else batch.mask
    positions = mask.cumsum(1) - 1
    arguments = {"inputs_embeds": batch.embeddings, "position_ids": positions.clamp_min(0)}
    cache, done = None, torch.zeros(size, dtype=torch.bool, device=llm.device)
    written: list[list[int]] = [[] for _ in range(size)]
    for _ in range(max_new_tokens):
        # as an index: a slice leaves the rows apart in memory, and the head is then copied once per row
        last = torch.tensor([arguments["inputs_embeds"].shape[1] - 1], device=llm.device)
        output = injector.network(
            **arguments, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=last
        )
        cache = output.past_key_values
        token = output.logits[:, -1].float().argmax(-1)
        done |= token == llm.end_token
        for row, value in enumerate(token.tolist()):
            if not done[row]:
                written[row].append(value)
                if "\n" in llm.tokenizer.decode([value]):
                    done[row] = True
        if bool(done.all()):
            break
        mask = torch.cat([mask, mask.new_ones(size, 1)], dim=1)
        positions = positions[:, -1:] + 1
        arguments = {"inputs_embeds": llm.embedding(token[:, None]), "position_ids": positions}
    return [llm.tokenizer.decode(ids, skip_special_tokens=True).split("\n")[0].strip() for ids in written]
