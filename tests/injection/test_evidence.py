"""Evidence: the aggregated decoders' answers as soft tokens, against their formula, and through a run."""

import pytest
import torch
from torch import nn

from fedkim.errors import FedkimError
from fedkim.injection import Injector
from fedkim.injection.evidence import CLIP, Evidence
from fedkim.injection.optimizer import ServerOptimizer
from fedkim.recipe import Injection
from fedkim.run import Run, federate, run_recipe
from fedkim.run.export import export_run
from fedkim.state import State
from small_recipe import small
from toy_server import GRADE, SETTINGS, TASKS, WIDTH, ToyEncoder, tiny

LLM = tiny()
SEEN = {"bright": 2, "grade": 3, "both": 2}
"""Tasks with their number of answers; the last reads two modalities."""


def decoders(seed=0):
    torch.manual_seed(seed)
    return {name: nn.Linear(WIDTH * (2 if name == "both" else 1), answers) for name, answers in SEEN.items()}


def evidence(seed=0):
    return Evidence(decoders(seed), {name: TASKS[name] for name in SEEN}, LLM, seed=0)


def features(rows=6):
    torch.manual_seed(7)
    return {"image": torch.randn(rows, 2, WIDTH), "signal": torch.randn(rows, 2, WIDTH)}


def test_a_token_is_the_tasks_name_moved_along_its_margins():
    one, given = evidence(), features(50)
    one.hear(decoders_state(decoders(3)), dict.fromkeys(SEEN, given))
    tokens = one(given)
    assert tokens.shape == (50, 3, LLM.hidden_size)
    logits = decoders(3)["grade"](given["image"].mean(1))
    margins = logits[:, 1:] - logits[:, :1]
    z = ((margins - margins.mean(0)) / margins.std(0)).clamp(-CLIP, CLIP)
    expected = one.name["grade"] + z @ one.direction["grade"]
    torch.testing.assert_close(tokens[:, 1], expected)
    assert z.shape == (50, len(GRADE.answers) - 1)


def test_a_decoder_of_two_modalities_reads_both_in_their_own_order():
    one, given = evidence(), features(50)
    one.hear(decoders_state(decoders(3)), dict.fromkeys(SEEN, given))
    pooled = torch.cat([given["image"].mean(1), given["signal"].mean(1)], dim=1)
    margin = decoders(3)["both"](pooled).diff(dim=1)
    z = ((margin - margin.mean(0)) / margin.std(0)).clamp(-CLIP, CLIP)
    turned = {"signal": given["signal"], "image": given["image"]}
    for named in (given, turned):
        torch.testing.assert_close(one(named)[:, 2], one.name["both"] + z @ one.direction["both"])


def decoders_state(named):
    return {f"{name}.{key}": value for name, one in named.items() for key, value in one.state_dict().items()}


def test_only_tasks_whose_inputs_are_all_there_have_a_token():
    given = features()
    assert evidence()({"image": given["image"]}).shape[1] == 2
    assert evidence()({"signal": given["signal"]}) is None


def test_the_words_of_the_tasks_name_are_where_a_token_begins():
    words = LLM.embed("grade").float().mean(0)
    similarity = torch.cosine_similarity(evidence().name["grade"].detach(), words, dim=0)
    assert similarity.item() == pytest.approx(1.0, abs=1e-5)


def make(*, blind=False):
    encoders = {"image": ToyEncoder(1), "signal": ToyEncoder(2)}
    return Injector(
        LLM, encoders=encoders, tasks=TASKS, settings=SETTINGS, width=WIDTH, seed=0, blind=blind, evidence=evidence()
    )


def test_decoders_travel_with_the_injector_and_are_not_trained():
    injector = make()
    groups = injector.parameters()
    tensors = State({key: tensor.clone() for key, tensor in injector.tensors().items()})  # the injector's are its own
    assert set(groups["evidence"]) == {f"{part}.{name}" for part in ("name", "direction") for name in SEEN}
    assert "evidence.decoder.grade.weight" in tensors
    assert "evidence.center_grade" in tensors
    with torch.no_grad():
        for parameter in injector.evidence.parameters():
            parameter.add_(1.0)
    assert injector.tensors().digest() != tensors.digest()
    injector.load(tensors, whole=True)
    assert injector.tensors().digest() == tensors.digest()


@pytest.mark.parametrize(("own", "expected"), [(0.0, 4e-3), (8e-3, 8e-3)])
def test_the_tokens_learn_at_the_alignments_rate(own, expected):
    settings = Injection(learning_rate=4e-3, alignment_learning_rate=own, train_encoders=False)
    groups = ServerOptimizer(make(), settings, total_steps=1).adam.param_groups
    assert {group["group"]: group["lr"] for group in groups}["evidence"] == expected


def test_without_modality_segments_there_is_no_evidence():
    blind = make(blind=True)
    assert blind.evidence is None
    assert blind.align({}) == []


RECIPE = small(
    "federation.rounds=2",
    "injection.evidence=decoder",
    "injection.teacher=decoder",
    "injection.train_encoders=false",
    "evaluation.blind=false",
)


def test_a_run_with_evidence_resumes_in_the_same_bits_and_answers(tmp_path):
    whole = [done.state.digest() for done in federate(RECIPE)]
    rounds = federate(RECIPE, out=tmp_path / "cut")
    next(rounds)
    rounds.close()
    result = run_recipe(RECIPE, out=tmp_path / "cut")
    again = run_recipe(RECIPE, out=tmp_path / "whole")
    assert result["train_info"]["digest"] == again["train_info"]["digest"]
    assert len(whole) == 2
    assert result["run_info"]["method"] == "fedkim-evidence-taught"
    run = Run(tmp_path / "whole")
    injector = run.injector
    heard = run.committed.namespace("injector").below("evidence.decoder.ecg_abnormal")
    sent = run.committed.namespace("state").below("decoder.ecg_abnormal")
    assert heard.keys() == sent.keys()
    assert all(torch.equal(heard[key], sent[key]) for key in sent)  # the last round's decoders
    assert injector.evidence is not None
    shape = run.committed.manifest["shapes"]["signal"]
    answer = run.answer(task="ecg_abnormal", signal=torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    assert sum(answer.probabilities.values()) == pytest.approx(1.0, abs=1e-4)


def test_a_run_that_stopped_before_its_first_injection_answers_nothing(tmp_path):
    recipe = small("federation.rounds=3", "injection.first_round=2", "evaluation.blind=false")
    rounds = federate(recipe, out=tmp_path / "run")
    next(rounds)
    rounds.close()
    run = Run(tmp_path / "run")
    said = "found 1 committed rounds, 0 of them skipped, and an injection from round 2 on"
    with pytest.raises(FedkimError, match=said):
        run.answer(task="ecg_abnormal", signal=torch.zeros(run.committed.manifest["shapes"]["signal"]))
    with pytest.raises(FedkimError, match=said):
        run.evaluate()


def test_an_export_that_could_not_make_the_tokens_is_refused(tmp_path):
    run_recipe(RECIPE, out=tmp_path / "run")
    with pytest.raises(FedkimError, match="evidence"):
        export_run(Run(tmp_path / "run"), to=tmp_path / "out", task="ecg_abnormal")
